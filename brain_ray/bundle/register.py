"""Job register: puts a bundle into MLflow's model registry, or a folder for the Hugging Face hub."""

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from brain_ray.bundle.bundle import load_bundle, render_card
from brain_ray.bundle.hub import write_hub_folder
from brain_ray.cli import run_words
from brain_ray.tracking import mlflow_registry
from brain_ray.usage import OneLineParser


def register_bundle(location: str, name: str, alias: str | None = None) -> str:
    """Verifies a bundle, and registers it as the next version of a model, with its card; returns its URI.

    Raises:
        RunError: no bundle there, a file that is not the exported one, or a registry that refuses.
    """
    bundle = load_bundle(location)
    tags = {"brain_ray.id": bundle.id, "brain_ray.classes": ",".join(bundle.info.classes)}
    with tempfile.TemporaryDirectory() as folder:
        bundle.copy_to(Path(folder))
        version = mlflow_registry.register(Path(folder), name, render_card(bundle.info), tags, alias)
    return f"{mlflow_registry.PREFIX}{name}/{version}"


def main(text: str, argv: Sequence[str], prog: str) -> int:
    """Runs the job; returns the exit code: 0, 1 after an error, 2 for a wrong command line."""
    words = OneLineParser(prog=prog, description=text)
    words.add_argument("--bundle", required=True, help="path or URI of the bundle's folder")
    where = words.add_mutually_exclusive_group(required=True)
    where.add_argument("--name", help="the model's name in MLflow's registry")
    where.add_argument("--hub-folder", help="new folder for a copy with the Hugging Face hub's model card")
    words.add_argument("--alias", help="alias to give to the registry's new version, such as champion")
    given = words.parse_args(argv)
    if given.alias and not given.name:
        words.error("--alias is one of MLflow's registry, and needs --name")

    def work() -> str:
        if given.hub_folder:
            return _for_the_hub(given.bundle, Path(given.hub_folder))
        alias = f", {mlflow_registry.PREFIX}{given.name}@{given.alias}" if given.alias else ""
        return f"registered: {register_bundle(given.bundle, given.name, given.alias)}{alias}"

    return run_words(argv, work)


def _for_the_hub(location: str, folder: Path) -> str:
    name = write_hub_folder(location, folder)
    return (
        f"written: {folder}, {name} with a README.md for the hub\n"
        "bundle.json and README.md have the run's settings, with paths and names of sources: read, then\n"
        f"  hf upload USER/NAME {shlex.quote(str(folder))}"
    )
