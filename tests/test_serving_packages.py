"""The packages of the endpoint's image: all that serving imports, in the same versions, and no TensorFlow."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.jobs import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
OPTIONAL = {"highdicom"}
"""Imported where `predict --sr` asks for it, on the machine of a client."""


def requirements(group: str) -> list[Requirement]:
    """The requirements of a group, with those of the groups that it includes."""
    found = []
    for entry in GROUPS[group]:
        found += requirements(entry["include-group"]) if isinstance(entry, dict) else [Requirement(entry)]
    return found


def brought_along(wanted: list[Requirement]) -> set[str]:
    """Names of what is installed with some requirements here, themselves included."""
    found: set[tuple[str, str]] = set()
    left = [(canonicalize_name(each.name), extra) for each in wanted for extra in (*each.extras, "")]
    while left:
        name, extra = left.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:  # for another system
            continue
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(need.name), more) for more in (*need.extras, "")]
    return {name for name, _ in found}


@pytest.fixture(scope="module")
def installed() -> set[str]:
    return brought_along(requirements("serving"))


def test_a_requirement_of_the_image_is_that_of_the_package() -> None:
    texts = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["mlflow"]]
    whole = {each.name: each for each in map(Requirement, texts)}
    for each in requirements("serving"):
        assert each.specifier == whole[each.name].specifier, each.name
        assert each.extras <= whole[each.name].extras


def test_the_image_has_all_that_serving_imports(installed: set[str]) -> None:
    graph = grimp.build_graph("brain_ray", include_external_packages=True)
    serving = [name for name in graph.modules if name.startswith("brain_ray.serving")]
    reached = {name for start in serving for name in graph.find_upstream_modules(start)}
    sources = packages_distributions()
    outside = {name for name in reached if name in sources and name != "brain_ray"}
    assert {"ray", "onnxruntime", "cv2", "fastapi"} <= outside, "the graph was read"
    for module in sorted(outside - OPTIONAL):
        assert installed & {canonicalize_name(each) for each in sources[module]}, module


def test_the_image_has_no_packages_of_training_and_is_small(installed: set[str]) -> None:
    assert not installed & {"tensorflow", "keras", "pandas", "matplotlib", "tf2onnx", "tensorboard"}
    assert not any(name.startswith("nvidia") for name in installed)
    files = []
    for name in installed:
        try:
            files += distribution(name).files or []
        except PackageNotFoundError:
            continue
    size = sum(file.size or 0 for file in files)
    assert 0.5e9 < size < 1.2e9, "as installed; as wheels a third of it"


def test_the_image_for_gpus_has_one_onnxruntime() -> None:
    names = [each.name for each in requirements("serving-gpu")]
    assert "onnxruntime-gpu" in names
    assert "onnxruntime" not in names
    assert re.search(r"^onnxruntime-gpu==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_the_image_s_build_names_the_groups() -> None:
    text = (ROOT / "docs" / "cluster" / "Dockerfile").read_text()
    (group,) = re.findall(r"^ARG PACKAGES=(\S+)$", text, re.MULTILINE)
    assert {group, *re.findall(r"--build-arg PACKAGES=(\S+)", text)} == {"serving", "serving-gpu"}
    assert re.findall(r"^FROM .* AS (\S+)$", text, re.MULTILINE) == ["base", "serving", "all"], (
        "all is the default"
    )
