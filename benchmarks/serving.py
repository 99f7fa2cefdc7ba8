"""The endpoint against the plain ways to the same answers: EfficientNet-B0 at 224 px, all on this machine.

    python benchmarks/serving.py

Needs wrk (Debian's package of that name): a load generator in Python would be what is measured. Prints the
requests/s and latencies of the endpoint, of a plain FastAPI server with `keras.Model.predict`, and the speed
of bare ONNX Runtime; as its last line one JSON object:

- vs_fastapi_keras: requests/s at 8 clients over those of the plain server;
- vs_raw_onnxruntime: images/s at 8 clients over ONNX Runtime alone, batches of 8, on all cores;
- rest_overhead_ms: median of a request at rest less the predictor's, from the image's bytes to its answer;
- replica_mb: memory of the replica after all that, and what its decoders have beside it;
- replica_start_s: from its process's start until the proxy lets requests to it, the median of three.
"""

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
from pathlib import Path

if __name__ == "__main__" and shutil.which("wrk") is None:
    raise SystemExit(
        "wrk is missing: install it (Debian and Ubuntu: apt-get install wrk; macOS: brew install wrk)"
    )

import cv2
import numpy as np
import psutil

from brain_ray.config import Config, ModelConfig
from brain_ray.data.phantoms.files import draw

ROOT = Path(__file__).parents[1]
SECONDS = 8
CLIENTS = (1, 8, 32)
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


def load(url: str, script: Path, clients: int) -> tuple[float, float, float]:
    """Send requests for some seconds; returns requests/s, and the latency's p50 and p99 in ms."""
    command = [
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{SECONDS}",
        "--timeout",
        "30",
        "--latency",
        "-s",
        str(script),
    ]
    said = subprocess.run([*command, f"{url}/v1/predict"], capture_output=True, text=True, check=True).stdout
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


def bare(bundle: Path, data: bytes) -> tuple[float, float]:
    """Return the ms of the predictor for one image, and the images/s of ONNX Runtime at batch 8."""
    from brain_ray.bundle.predictor import Predictor

    predictor = Predictor(bundle)
    one = median_ms(lambda: predictor.predict(predictor.prepare(data)[0][None]))
    import onnxruntime

    session = onnxruntime.InferenceSession((bundle / "model.onnx").read_bytes())
    batch = np.repeat(predictor.prepare(data)[0][None].astype(np.float32), 8, axis=0)
    raw = 8e3 / median_ms(lambda: session.run(["probabilities"], {"image": batch}))
    return one, raw


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


def restart(process: subprocess.Popen[str], url: str) -> float:
    """Kill the replica; return the seconds from the start of the next one's process until it is ready."""
    old = replica_of(process)
    assert old is not None
    old.send_signal(signal.SIGKILL)
    old.wait()
    while not answers(f"{url}/readyz"):
        time.sleep(0.02)
    ready = time.time()
    new = replica_of(process)
    assert new is not None
    return ready - new.create_time()


def main() -> None:
    """Measure and print."""
    cores = os.cpu_count() or 1
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
        one, raw = bare(bundle, data)

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
        keras_rate, keras_p50, keras_p99 = load(f"http://127.0.0.1:{port}", script, 8)
        plain.terminate()
        plain.wait()

        command = [sys.executable, ROOT / "jobs" / "serve.py", "--bundle", bundle, "--port", "0"]
        endpoint = subprocess.Popen(
            [*command, "--cpus-per-replica", str(cores)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert endpoint.stdout is not None
        url = next(line.split()[1] for line in endpoint.stdout if line.startswith("page ")).rstrip("/")
        load(url, script, 1)
        rows = {clients: load(url, script, clients) for clients in CLIENTS}
        replica = replica_of(endpoint)
        assert replica is not None
        decoders = sum(child.memory_full_info().pss for child in replica.children(recursive=True))
        megabytes = (replica.memory_info().rss + decoders) / 1e6
        start = statistics.median(restart(endpoint, url) for _ in range(3))
        endpoint.terminate()
        endpoint.wait()

    print(f"{'':34}requests/s   p50 ms   p99 ms")
    print(f"{'FastAPI and Keras, 8 clients':34}{keras_rate:10.1f}{keras_p50:9.1f}{keras_p99:9.1f}")
    for clients, (rate, p50, p99) in rows.items():
        label = f"endpoint, {clients} client{'s' if clients > 1 else ''}"
        print(f"{label:34}{rate:10.1f}{p50:9.1f}{p99:9.1f}")
    print(f"{'ONNX Runtime alone, batches of 8':34}{raw:10.1f}")
    print(f"{'predictor alone, one image':34}{1e3 / one:10.1f}{one:9.1f}")
    print(
        json.dumps(
            {
                "vs_fastapi_keras": round(rows[8][0] / keras_rate, 2),
                "vs_raw_onnxruntime": round(rows[8][0] / raw, 2),
                "rest_overhead_ms": round(rows[1][1] - one, 1),
                "replica_mb": round(megabytes),
                "replica_start_s": round(start, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
