"""The endpoint against the plain ways to the same answers: EfficientNet-B0 at 224 px, all on this machine.

    python benchmarks/serving.py

Needs wrk (Debian's package of that name): a load generator in Python would be what is measured. Prints the
requests/s and latencies of the endpoint, of a plain FastAPI server with `keras.Model.predict`, and the speed
of bare ONNX Runtime; as its last line one JSON object:

- vs_fastapi_keras: requests/s at 8 clients over those of the plain server;
- vs_raw_onnxruntime: images/s at 8 clients over ONNX Runtime alone, batches of 8, on all cores; the median of
  five alternations;
- at_rest_ratio: latency of a request while no other is there over that of the predictor with the same
  threads, from the image's bytes to its answer; the median of five alternations;
- explain_ratio: the same latency of /v1/explain over that of /v1/predict;
- study_ratio: time of a study of 56 DICOM slices over that of the predictor for the same files, four at a
  time; the median of five alternations;
- ray_proxy_ratio: requests/s at 8 clients where Ray's own proxy stands in for HAProxy, over those with it;
  the median of five alternations between two endpoints;
- replica_mb: memory of the replica after the load of single images, and what its decoders have beside it;
- replica_after_studies_mb: the same after explanations and studies;
- replica_start_ratio: from its process's start until the proxy lets requests to it, over a bare process that
  opens the bundle and ends; the median of three alternations;
- nothing_start_ratio: the same of a replica of Ray Serve that does nothing, in place of the endpoint's.
"""

import io
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__" and shutil.which("wrk") is None:
    raise SystemExit(
        "wrk is missing: install it (Debian and Ubuntu: apt-get install wrk; macOS: brew install wrk)"
    )

import cv2
import httpx
import numpy as np
import psutil

from brain_ray.bundle.predictor import Predictor
from brain_ray.config import Config, ModelConfig
from brain_ray.data.phantoms.files import draw

ROOT = Path(__file__).parents[1]
SECONDS = 8
CLIENTS = (1, 8, 32)
ALTERNATIONS = 5
SLICES = 56
Row = tuple[float, float, float]
"""Requests/s, and the latency's p50 and p99 in ms."""
SPLIT = {"images": 1, "rows": 1, "sha256": "00" * 32}

PLAIN = """
import sys
import keras, numpy as np, uvicorn
from fastapi import FastAPI, Request
from brain_ray.data.decoding import decode
from brain_ray.data.transforms import Box, find_box, to_input
from brain_ray.input_spec import InputSpec
from brain_ray.config import CropConfig
model = keras.models.load_model(sys.argv[1])
app = FastAPI()

@app.post("/v1/predict")
async def predict(request: Request):
    image = decode(await request.body())
    box = find_box(image, CropConfig()) or Box.whole(image)
    x = to_input(image, box, InputSpec(224, 224))
    return {"probabilities": model.predict(x[None], verbose=0)[0].tolist()}

uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""

NOTHING = """
import os, sys, tempfile, threading
from pathlib import Path
from brain_ray.serving.haproxy import front_settings
with tempfile.TemporaryDirectory(prefix="br-", dir="/tmp") as folder:
    os.environ |= front_settings(Path(folder))
    import ray
    from ray import serve
    ray.init(address="local", log_to_driver=False, logging_level="ERROR")

    @serve.deployment(health_check_period_s=5)
    class Nothing:
        async def __call__(self, request):
            return "ok"

    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Nothing.bind())
    print("page", flush=True)
    threading.Event().wait()
"""
"""An endpoint of Ray Serve whose replica loads nothing, behind the same proxy."""


def make_bundle(folder: Path) -> Path:
    """Export a B0 that has learnt nothing: its speed is that of any other."""
    from brain_ray.bundle.build import export_bundle
    from brain_ray.models.network import build_network

    config = Config(name="speed", model=ModelConfig(weights="none"))
    images = np.stack([cv2.resize(picture(i), (224, 224))[..., None] for i in range(40)])
    model = build_network(config.model, 4, 1)
    weights = [np.asarray(weight) for weight in model.weights]
    facts = {
        "data": {"train": SPLIT, "valid": SPLIT, "test": SPLIT, "audit": {}},
        "training": {"epochs": 1, "best_epoch": 1, "backbone": "EfficientNetB0"},
    }
    export_bundle(folder / "bundle", config, weights, images, np.arange(40) % 4, images, facts)
    return folder / "bundle"


def picture(index: int) -> np.ndarray:
    """Draw a phantom: (height, width) uint8."""
    image = draw("glioma", 5, index)
    return np.ascontiguousarray(image if image.ndim == 2 else image[..., 0])


def load(url: str, script: Path, clients: int, path: str = "/v1/predict", seconds: int = SECONDS) -> Row:
    """Send requests for some seconds; returns requests/s, and the latency's p50 and p99 in ms."""
    command = [
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{seconds}",
        "--timeout",
        "30",
        "--latency",
        "-s",
        str(script),
    ]
    said = subprocess.run([*command, f"{url}{path}"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"requests failed:\n{said}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    found = {
        share: float(value) * units[unit]
        for share, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", said)
    }
    return rate, found["50"], found["99"]


def median_ms(work: Callable[[], object], repeats: int = 60) -> float:
    """Return how long a call takes, in ms."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken)


def raw_rate(predictor: Predictor, bundle: Path, data: bytes) -> float:
    """Return the images/s of ONNX Runtime alone at batch 8."""
    import onnxruntime

    session = onnxruntime.InferenceSession((bundle / "model.onnx").read_bytes())
    batch = np.repeat(predictor.prepare(data)[0][None].astype(np.float32), 8, axis=0)
    return 8e3 / median_ms(lambda: session.run(["probabilities"], {"image": batch}))


def study_files() -> list[bytes]:
    """Draw a series: DICOM files of 256 x 256 pixels."""
    from pydicom import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    files = []
    for k in range(SLICES):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, f"1.2.3.{k + 1}"
        file = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = MRImageStorage, f"1.2.3.{k + 1}"
        file.PatientID, file.StudyInstanceUID, file.SeriesInstanceUID = "p", "1.2.4", "1.2.5"
        file.Modality, file.InstanceNumber, file.ImagePositionPatient = "MR", k + 1, [0, 0, 3.0 * k]
        file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image = cv2.resize(picture(k), (256, 256), interpolation=cv2.INTER_AREA)
        file.Rows, file.Columns, file.SamplesPerPixel = 256, 256, 1
        file.BitsAllocated = file.BitsStored = 8
        file.HighBit, file.PixelRepresentation, file.PhotometricInterpretation = 7, 0, "MONOCHROME2"
        file.PixelData = image.tobytes()
        stream = io.BytesIO()
        file.save_as(stream, enforce_file_format=True)
        files.append(stream.getvalue())
    return files


def study_by(predictor: Predictor, files: list[bytes]) -> None:
    """Answer the slices as a loop would."""
    for first in range(0, len(files), 4):
        predictor.predict(np.stack([predictor.prepare(data)[0] for data in files[first : first + 4]]))


def opening_s(bundle: Path) -> float:
    """Return how long a process takes that opens the bundle and ends."""
    code = f"from brain_ray.bundle.predictor import Predictor; Predictor({str(bundle)!r})"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return time.perf_counter() - start


def answers(url: str) -> bool:
    """Tell whether a URL answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def replica_of(process: subprocess.Popen[str]) -> psutil.Process | None:
    """Return the endpoint's replica."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "ServeReplica" in " ".join(child.cmdline()):
                return child
        except psutil.Error:
            continue
    return None


def memory_mb(endpoint: subprocess.Popen[str]) -> float:
    """Return the memory of the replica and of its decoders, in 10^6 bytes."""
    replica = replica_of(endpoint)
    assert replica is not None
    decoders = sum(child.memory_full_info().pss for child in replica.children(recursive=True))
    return float(replica.memory_info().rss + decoders) / 1e6


def restart(process: subprocess.Popen[str], url: str) -> float:
    """Kill the replica; return the seconds from the start of the next one's process until it is ready."""
    old = replica_of(process)
    assert old is not None
    old.send_signal(signal.SIGKILL)
    old.wait()
    while not answers(f"{url}/readyz"):
        time.sleep(0.02)
    ready = time.clock_gettime(time.CLOCK_BOOTTIME)
    new = replica_of(process)
    assert new is not None
    return ready - started_at(new)


def started_at(process: psutil.Process) -> float:
    """Return when a process began, in seconds of Linux's CLOCK_BOOTTIME.

    psutil's `create_time` adds the time of the machine's start, which /proc/stat gives in whole seconds.
    """
    after_name = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5)


@dataclass
class Found:
    """What was measured of the endpoint; times in ms, starts in s."""

    rows: dict[int, Row]
    explains: Row
    megabytes: float
    after_studies_mb: float = 0.0
    raws: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    at_rest: list[float] = field(default_factory=list)
    by_loop: list[float] = field(default_factory=list)
    by_study: list[float] = field(default_factory=list)
    by_haproxy: list[float] = field(default_factory=list)
    by_ray: list[float] = field(default_factory=list)
    opens: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    nothings: list[float] = field(default_factory=list)


def start_endpoint(bundle: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    """Start an endpoint with all cores, in a Ray cluster of its own; returns its process and its URL."""
    command = [sys.executable, ROOT / "jobs" / "serve.py", "--bundle", bundle, "--port", "0"]
    endpoint = subprocess.Popen(
        [*command, "--cpus-per-replica", str(os.cpu_count() or 1)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert endpoint.stdout is not None
    return endpoint, next(line.split()[1] for line in endpoint.stdout if line.startswith("page ")).rstrip("/")


def start_nothing(environment: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    """Start an endpoint of Ray Serve that does nothing; returns its process and its URL."""
    port = "18766"
    command = [sys.executable, "-c", NOTHING, port]
    endpoint = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert endpoint.stdout is not None
    for line in endpoint.stdout:
        if line.startswith("page"):
            break
    return endpoint, f"http://127.0.0.1:{port}"


def measure_plain(folder: Path, bundle: Path, script: Path, environment: dict[str, str]) -> Row:
    """Measure the plain server with 8 clients."""
    (folder / "plain.py").write_text(PLAIN)
    port = "18765"
    plain = subprocess.Popen(
        [sys.executable, folder / "plain.py", bundle / "model.keras", port],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    while not answers(f"http://127.0.0.1:{port}/docs"):
        time.sleep(0.2)
    load(f"http://127.0.0.1:{port}", script, 1)
    found = load(f"http://127.0.0.1:{port}", script, 8)
    plain.terminate()
    plain.wait()
    return found


def measure_endpoint(
    bundle: Path, script: Path, environment: dict[str, str], predictor: Predictor, data: bytes
) -> Found:
    """Measure the endpoint, in turns with the predictor where the two are compared."""
    endpoint, url = start_endpoint(bundle, environment)
    load(url, script, 1)
    rows = {clients: load(url, script, clients) for clients in CLIENTS}
    megabytes = memory_mb(endpoint)
    found = Found(rows, load(url, script, 1, "/v1/explain"), megabytes)
    files = study_files()
    form = [("file", (f"{k}.dcm", file)) for k, file in enumerate(files)]
    with httpx.Client(timeout=60) as client:
        for _ in range(ALTERNATIONS):
            found.raws.append(raw_rate(predictor, bundle, data))
            found.rates.append(load(url, script, 8, seconds=4)[0])
            found.alone.append(median_ms(lambda: predictor.predict(predictor.prepare(data)[0][None])))
            found.at_rest.append(load(url, script, 1, seconds=2)[1])
            found.by_loop.append(median_ms(lambda: study_by(predictor, files), 1))
            start = time.perf_counter()
            client.post(f"{url}/v1/studies", files=form).raise_for_status()
            found.by_study.append(1e3 * (time.perf_counter() - start))
    found.after_studies_mb = memory_mb(endpoint)
    other, other_url = start_endpoint(bundle, {**environment, "RAY_SERVE_HAPROXY_BINARY_PATH": "/none"})
    load(other_url, script, 8)
    for _ in range(ALTERNATIONS):
        found.by_haproxy.append(load(url, script, 8, seconds=4)[0])
        found.by_ray.append(load(other_url, script, 8, seconds=4)[0])
    other.terminate()
    other.wait()
    for _ in range(3):
        found.opens.append(opening_s(bundle))
        found.starts.append(restart(endpoint, url))
    endpoint.terminate()
    endpoint.wait()
    nothing, url = start_nothing(environment)
    found.nothings += [restart(nothing, url) for _ in range(3)]
    nothing.terminate()
    nothing.wait()
    return found


def main() -> None:
    """Measure and print."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "RAY_ADDRESS": "local"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder)
        data = cv2.imencode(".jpg", picture(0))[1].tobytes()
        (folder / "image.jpg").write_bytes(data)
        script = folder / "post.lua"
        script.write_text(
            f'local f = io.open("{folder / "image.jpg"}", "rb")\nwrk.body = f:read("*all")\nf:close()\n'
            'wrk.method = "POST"\nwrk.headers["Content-Type"] = "image/jpeg"\n'
        )
        predictor = Predictor(bundle)
        plain = measure_plain(folder, bundle, script, environment)
        found = measure_endpoint(bundle, script, environment, predictor, data)

    def show(label: str, rate: float, p50: float, p99: float | None = None) -> None:
        print(f"{label:34}{rate:10.1f}{p50:9.1f}" + ("" if p99 is None else f"{p99:9.1f}"))

    print(f"{'':34}requests/s   p50 ms   p99 ms")
    show("FastAPI and Keras, 8 clients", *plain)
    for clients, row in found.rows.items():
        show(f"endpoint, {clients} client{'s' if clients > 1 else ''}", *row)
    show("endpoint, 1 client, explained", *found.explains)
    medians = {name: statistics.median(value) for name, value in vars(found).items() if type(value) is list}
    print(f"{'ONNX Runtime alone, batches of 8':34}{medians['raws']:10.1f}")
    for label, name in (
        ("predictor alone, one image", "alone"),
        (f"endpoint, a study of {SLICES} slices", "by_study"),
        ("predictor alone, the same slices", "by_loop"),
    ):
        show(label, 1e3 / medians[name], medians[name])
    for label, name in (("HAProxy, 8 clients", "by_haproxy"), ("Ray's own proxy, 8 clients", "by_ray")):
        print(f"{label:34}{medians[name]:10.1f}")
    print(
        f"replica starts in {medians['starts']:.1f} s, one that does nothing in {medians['nothings']:.1f} s; "
        f"a process opens the bundle in {medians['opens']:.1f} s"
    )
    pairs = {
        "vs_raw_onnxruntime": (found.rates, found.raws),
        "at_rest_ratio": (found.at_rest, found.alone),
        "explain_ratio": ([found.explains[1]], [medians["at_rest"]]),
        "study_ratio": (found.by_study, found.by_loop),
        "ray_proxy_ratio": (found.by_ray, found.by_haproxy),
        "replica_start_ratio": (found.starts, found.opens),
        "nothing_start_ratio": (found.nothings, found.opens),
    }
    ratios = {
        name: statistics.median(a / b for a, b in zip(*both, strict=True)) for name, both in pairs.items()
    }
    ratios["vs_fastapi_keras"] = found.rows[8][0] / plain[0]
    memory = {
        "replica_mb": round(found.megabytes),
        "replica_after_studies_mb": round(found.after_studies_mb),
    }
    print(json.dumps({name: round(ratio, 2) for name, ratio in ratios.items()} | memory))


if __name__ == "__main__":
    main()
