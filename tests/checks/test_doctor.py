"""What checks find, without a cluster: one line each, with a cure where something is wrong."""

import json
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from brain_ray.checks import cluster, doctor, locations, machine, nodes
from brain_ray.checks.finding import Finding, refuse_errors
from brain_ray.checks.nodes import Visit
from brain_ray.cluster import connection
from brain_ray.config import Config, DataConfig, ModelConfig, TrainConfig
from brain_ray.errors import RunError
from brain_ray.records import to_json
from brain_ray.runs import Run

GOOD = Finding("disk", "ok", "9 GiB")
BAD = Finding("storage", "error", "cannot write s3://x", "set --storage elsewhere")


def test_a_finding_is_a_line_with_its_cure() -> None:
    assert BAD.line() == "error    storage        cannot write s3://x: set --storage elsewhere"
    assert GOOD.line().endswith("9 GiB")
    assert json.loads(json.dumps(to_json(BAD)))["level"] == "error"


def test_errors_stop_and_warnings_do_not() -> None:
    refuse_errors([GOOD, Finding("room", "warning", "not yet", "wait")])
    with pytest.raises(RunError, match=r"^storage: cannot write s3://x: set --storage elsewhere$"):
        refuse_errors([GOOD, BAD])


def test_this_installation_is_as_required() -> None:
    (found,) = machine.check_packages()
    assert found.level == "ok", found.line()
    assert "tensorflow 2.21" in found.text


@pytest.mark.parametrize(
    ("installed", "variables", "level", "text"),
    [
        ({"opencv-python": "5.0"}, {}, "warning", "both bring cv2"),
        ({"onnxruntime-gpu": "1.31"}, {}, "warning", "both bring onnxruntime"),
        ({"tensorflow": "2.16.1"}, {}, "error", "tensorflow is 2.16.1, expected ==2.21"),
        ({"imutils": None}, {}, "error", "imutils is missing"),
        ({}, {"KERAS_BACKEND": "jax"}, "error", "KERAS_BACKEND is jax"),
        ({}, {"TF_USE_LEGACY_KERAS": "1"}, "warning", "TF_USE_LEGACY_KERAS is set"),
        ({}, {"RAY_AUTH_MODE": "disabled"}, "warning", "everybody who reaches this Ray"),
    ],
)
def test_combinations_known_to_be_bad_are_found(
    installed: dict[str, str | None],
    variables: dict[str, str],
    level: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    really = machine.version_of
    monkeypatch.setattr(machine, "version_of", lambda name: installed.get(name, really(name)))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = [each for each in machine.check_packages() if each.level != "ok"]
    assert [each.level for each in found] == [level]
    assert text in found[0].text
    assert found[0].cure


def test_a_full_disk_is_a_warning() -> None:
    facts = {"free_gib": 0.4, "temporary": "/tmp"}
    found = machine.check_disk(facts, "on 10.0.0.1")
    assert (found.level, found.text) == ("warning", "0 GiB free in /tmp on 10.0.0.1")


def test_storage_is_written_to_and_read_from(tmp_path: Path) -> None:
    run = Run(str(tmp_path), "trial")
    assert locations.try_storage(run, "a") == ""
    assert locations.try_storage(run, "a", "node") == ""
    assert locations.try_storage(run, "another", "node") == "it is not the same folder there"
    locations.end_probe(run)
    assert not (tmp_path / "trial").exists()
    (tmp_path / "file").touch()
    assert f"cannot write {tmp_path}/file/trial/probe/a" in locations.try_storage(
        Run(str(tmp_path / "file"), "trial"), "a"
    )


def test_data_and_weights_are_looked_for_without_being_read(tmp_path: Path) -> None:
    def config(source: str, weights: str) -> Config:
        return Config(data=DataConfig(source=source), model=ModelConfig(weights=weights))

    assert locations.try_data(config("phantoms", "none")) == ""
    assert "is not a folder: set --data.source" in locations.try_data(config(str(tmp_path / "no"), "none"))
    assert "has no folder Training/" in locations.try_data(config(str(tmp_path), "none"))
    for name in Config().data.classes:
        (tmp_path / "Training" / name).mkdir(parents=True)
    assert locations.try_data(config(str(tmp_path), "none")) == ""
    assert locations.try_weights(config("phantoms", "none")) == ""
    assert (
        locations.try_weights(config("phantoms", str(tmp_path / "w.h5")))
        == f"there is no file {tmp_path}/w.h5"
    )
    (tmp_path / "w.h5").touch()
    assert locations.try_weights(config("phantoms", str(tmp_path / "w.h5"))) == ""


def test_imagenet_weights_are_on_this_machine_or_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    config = Config(model=ModelConfig(backbone="EfficientNetV2B0", weights="imagenet"))
    assert locations.try_weights(config).endswith("cannot be reached: no route")
    kept = tmp_path / ".keras/models"
    kept.mkdir(parents=True)
    (kept / "efficientnetv2-b0_notop.h5").touch()
    assert locations.try_weights(config) == ""


def test_a_place_that_some_nodes_miss_names_them() -> None:
    facts = machine.facts()
    missing = "it is not the same folder there"
    visits = [Visit("10.0.0.1", facts), *(Visit(f"10.0.0.{k}", facts, storage=missing) for k in (2, 3, 4, 5))]
    run = Run("/runs", "trial")
    storage, data, weights = nodes.check_places(run, Config(model=ModelConfig(weights="none")), visits)
    assert storage.level == "error"
    assert storage.text == (
        "/runs: it is not the same folder there (on 10.0.0.2, 10.0.0.3, 10.0.0.4 and 1 more of 5 nodes)"
    )
    assert "s3://" in storage.cure
    assert (data.level, weights.level) == ("ok", "ok")


def gpus_of(monkeypatch: pytest.MonkeyPatch, seen: dict[str, object] | None, use_gpu: bool = True) -> Finding:
    """Check a cluster of one node with two GPUs, of which a process there has seen so much."""
    offered = {"10.0.0.7-aa": {"Resources": {"GPU": 2.0}}}
    monkeypatch.setattr(cluster, "alive_nodes", lambda: offered)
    gpus = None if seen is None else {"wheels": [], **seen}
    (found,) = cluster.check_gpus(
        Config(train=TrainConfig(use_gpu=use_gpu)), [Visit("10.0.0.7-aa", {}, gpus=gpus)]
    )
    return found


def test_cuda_s_wheels_are_compared_on_nodes_with_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster, "alive_nodes", lambda: {"gpu-7": {"Resources": {"GPU": 1.0}}})
    seen = {
        "tensorflow": 1,
        "onnxruntime": [],
        "reason": "",
        "capabilities": [],
        "compiled": [],
        "driver": "",
    }
    wheels = [f"nvidia-{k}-cu12 is missing" for k in range(7)]
    visit = Visit("gpu-7", {}, gpus=seen | {"wheels": wheels})
    found, other = cluster.check_gpus(Config(train=TrainConfig(use_gpu=True)), [visit])
    assert (found.level, found.name, other.name) == ("warning", "gpu packages", "gpus")
    assert found.text == f"gpu-7: {'; '.join(wheels[:5])} and 2 more"
    assert "constraints.txt" in found.cure
    # What a machine has is told against constraints.txt, if that is at hand.
    assert machine.wrong_wheels(tmp_path) == []
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy"]\n[project.optional-dependencies]\ngpu = ["nvidia-none"]\n'
    )
    (tmp_path / "constraints.txt").write_text(f"numpy=={np.__version__}\nnvidia-none==1.0\n")
    assert machine.wrong_wheels(tmp_path) == ["nvidia-none is missing"]


def test_gpus_that_tensorflow_does_not_see_are_an_error_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = gpus_of(
        monkeypatch, {"tensorflow": 0, "onnxruntime": [], "reason": "cannot load libcudnn.so.9: no such file"}
    )
    assert found.level == "error"
    assert found.text == (
        "10.0.0.7-aa: Ray offers 2 GPU(s) and TensorFlow sees none: cannot load libcudnn.so.9: no such file"
    )
    assert "install NVIDIA's driver and the extra gpu" in found.cure
    found = gpus_of(monkeypatch, {"tensorflow": 1, "onnxruntime": [], "reason": ""})
    assert (found.level, found.text) == (
        "error",
        "10.0.0.7-aa: Ray offers 2 GPU(s) and TensorFlow sees 1",
    )
    both = {"tensorflow": 2, "onnxruntime": ["CUDAExecutionProvider"], "reason": ""}
    found = gpus_of(monkeypatch, {**both, "capabilities": [[8, 9]] * 2, "compiled": COMPILED, "driver": ""})
    assert (found.level, found.text) == (
        "ok",
        "10.0.0.7-aa: TensorFlow sees 2; ONNX Runtime computes on GPUs",
    )
    assert "looked at when training starts" in gpus_of(monkeypatch, None).text


COMPILED = ["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"]
"""What TensorFlow 2.21's wheel has code for."""


@pytest.mark.parametrize(
    ("capabilities", "driver", "level", "told"),
    [
        ([[8, 9], [8, 0], [8, 6], [7, 5]], "470.1", "ok", ""),
        ([[9, 0], [8, 9]], "580.65.06", "warning", "capability 9.0, which the driver compiles at first use"),
        ([[9, 0]], "", "warning", "at first use"),
        ([[10, 0]], "555.42", "warning", "capability 10.0"),
        ([[9, 0]], "550.127.08", "error", "and the driver, 550.127.08, cannot compile it"),
    ],
)
def test_gpus_newer_than_tensorflow_want_a_driver_that_compiles(
    capabilities: list[list[int]], driver: str, level: str, told: str
) -> None:
    seen = {"capabilities": capabilities, "compiled": COMPILED, "driver": driver}
    found = cluster.check_machine_code("gpu-7", seen)
    assert [each.level for each in found] == ([] if level == "ok" else [level])
    assert told in "".join(each.text for each in found)


@pytest.mark.parametrize(
    ("variables", "changes", "level", "told"),
    [
        ({}, {"free": 2**32}, "warning", "cache keeps 1.0 GiB at most"),
        ({"CUDA_CACHE_MAXSIZE": "268435456"}, {"free": 2**32}, "warning", "cache keeps 0.2 GiB at most"),
        ({"CUDA_CACHE_DISABLE": "1"}, {}, "warning", "CUDA_CACHE_DISABLE is 1"),
        (
            connection.WORKER_ENV,
            {"free": 2**32},
            "ok",
            "up to 4.0 GiB of machine code are kept in {home}/.nv/Com",
        ),
        (
            connection.LOCAL_ENV,
            {"free": 2**32},
            "ok",
            "up to 4.0 GiB of machine code are kept in {home}/.nv/Com",
        ),
        (
            connection.WORKER_ENV,
            {"free": 2**30},
            "warning",
            "{home}/.nv/ComputeCache is for them, and 1.0 GiB",
        ),
        (
            {**connection.WORKER_ENV, "CUDA_CACHE_PATH": "{home}/file/cache"},
            {},
            "warning",
            "{home}/file/cache cannot be written to",
        ),
    ],
)
def test_a_node_keeps_what_its_driver_compiles_for_the_next_process(
    variables: dict[str, str],
    changes: dict[str, int],
    level: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also with the variables of this project's workers; nodes on clusters get no others."""
    for name in ("CUDA_CACHE_PATH", "CUDA_CACHE_MAXSIZE", "CUDA_CACHE_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "{home}", **variables}.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    (tmp_path / "file").touch()
    found = cluster.check_cuda_cache("gpu-7", {**machine.facts()["cuda_cache"], **changes})
    assert (found.name, found.level) == ("cuda cache", level)
    assert found.text.startswith("gpu-7: ")
    assert told.format(home=tmp_path) in found.text
    assert bool(found.cure) == (level != "ok")


@pytest.mark.parametrize(
    ("capability", "names"), [((9, 0), ["gpus", "gpu code", "cuda cache"]), ((8, 9), ["gpus"])]
)
def test_the_cache_is_looked_at_where_the_driver_compiles(
    capability: tuple[int, int], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "alive_nodes", lambda: {"gpu-7": {"Resources": {"GPU": 1.0}}})
    seen = {"tensorflow": 1, "onnxruntime": [], "reason": "", "compiled": COMPILED, "driver": "580.1"}
    visit = Visit("gpu-7", machine.facts(), gpus=seen | {"capabilities": [capability], "wheels": []})
    found = cluster.check_gpus(Config(train=TrainConfig(use_gpu=True)), [visit])
    assert [each.name for each in found] == names


@pytest.mark.slow
def test_a_process_apart_sees_what_training_would_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as Ray sets it for a task without a GPU
    seen = machine.see_gpus()
    names = {"tensorflow", "onnxruntime", "reason", "capabilities", "compiled", "driver", "wheels"}
    assert set(seen) == names
    assert "sm_80" in seen["compiled"]
    assert not any(name.startswith("sm_9") for name in seen["compiled"])  # else an H100 needs no warning
    assert "CPUExecutionProvider" in seen["onnxruntime"]
    assert bool(seen["reason"]) == (seen["tensorflow"] == 0)


def test_options_of_the_doctor_are_taken_out_wherever_they_stand() -> None:
    own, words = doctor.read_own(["b0", "--json", "--address", "auto", "--train.epochs", "3"])
    assert own.json
    assert own.address == "auto"
    assert words == ["b0", "--train.epochs", "3"]
    assert not doctor.read_own(words)[0].json
    assert doctor.read_own(["--address=http://x"])[0].address == "http://x"
