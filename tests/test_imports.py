"""The arrows of the design: who may import whom, and who may touch Ray and TensorFlow."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "brain_ray"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

BASE = {"config", "runs", "recipes", "metrics", "logs", "interrupts", "versions"}
MAY_IMPORT = {
    "config": set(),
    "metrics": set(),
    "logs": set(),
    "interrupts": set(),
    "versions": set(),
    "recipes": {"config"},
    "runs": {"config"},
    "cluster": BASE,
    "cli": BASE,
    "data": BASE | {"data", "cluster"},
    "model": BASE | {"data", "model"},
    "training": BASE | {"data", "model", "training", "cluster"},
    "evaluation": BASE | {"data", "model", "training", "evaluation", "cluster"},
    "kept": BASE | {"training"},
    "operations": BASE | {"cluster", "cli", "data", "model", "training", "operations"},
    "pipeline": BASE | {"kept", "cluster", "cli", "data", "model", "training", "evaluation", "operations"},
}
SERVING = {
    "serving",
    "data.decoder",
    "data.images",
    "model.predictor",
    "runs",
}  # runs: the errors that jobs print
LAUNCH = SERVING | {"cluster"}  # the job finds its way to Ray as all others do
RAY = {
    "cluster",
    "metrics",
    "data.contents",
    "data.copies",
    "data.prepare",
    "operations.client",
    "operations.doctor",
    "operations.follow",
    "operations.nodes",
    "operations.submit",
    "operations.upload",
    "training.backend",
    "training.control",
    "training.features",
    "training.growth",
    "training.loading",
    "training.outage",
    "training.plan",
    "training.relay",
    "training.resources",
    "training.schedulers",
    "training.sweep",
    "training.trainable",
    "training.trainer",
    "training.waiting",
    "training.watch",
    "evaluation.evaluate",
    "serving.app",
    "serving.launch",
    "serving.proxy",
}
TENSORFLOW = {
    "model.backbones",
    "model.network",
    "model.fused",
    "model.convert",
    "model.check",
    "model.cost",
    "training.average",
    "training.devices",
    "training.features",
    "training.learner",
    "training.named",
    "training.reduction",
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = PACKAGE.parent / node.module.replace(".", "/") / f"{alias.name}.py"
                yield f"{node.module}.{alias.name}" if inner.exists() else node.module


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_what_stands_before_it(path: Path) -> None:
    room = name_of(path).split(".")[0]
    for found in imports(path):
        if not found.startswith("brain_ray."):
            continue
        target = found.removeprefix("brain_ray.")
        if room == "serving":
            known = LAUNCH if name_of(path) == "serving.launch" else SERVING
            assert target in known or target.startswith("serving."), f"{path} imports {found}"
        elif room in MAY_IMPORT:
            assert target.split(".")[0] in MAY_IMPORT[room], f"{path} imports {found}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_ray_is_imported_in_few_places(path: Path) -> None:
    uses = any(found == "ray" or found.startswith("ray.") for found in imports(path))
    assert not uses or name_of(path) in RAY


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_tensorflow_is_imported_in_few_places_and_only_inside_functions(path: Path) -> None:
    heavy = ("tensorflow", "keras", "tf2onnx")
    assert not any(found.split(".")[0] in heavy for found in imports(path, top_level_only=True))
    uses = any(found.split(".")[0] in heavy for found in imports(path))
    assert not uses or name_of(path) in TENSORFLOW


def test_importing_every_module_loads_no_tensorflow_and_starts_no_ray() -> None:
    names = [f"brain_ray.{name_of(path)}" for path in MODULES if name_of(path)]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        "import ray; assert not ray.is_initialized()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted((PACKAGE.parent / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_jobs_parse_call_and_print(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 40
