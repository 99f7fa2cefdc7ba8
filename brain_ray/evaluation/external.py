"""Stage import: copies the bundle that is scored on an external set into the run; and the run's settings."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from brain_ray.bundle.bundle import CARD_FILE, INFO_FILE, Bundle, load_bundle
from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.evaluation.mapping import parse_mapping
from brain_ray.evaluation.prepared_split import use_test_rows
from brain_ray.runs import BUNDLE, CONFIG, Run
from brain_ray.storage import resolve
from brain_ray.tracking.mlflow_registry import is_registered, pin

EXTERNAL = ("prepare", "import", "evaluate")
"""Stages from labelled images and a bundle to a report."""


def as_external(config: Config, location: str) -> Config:
    """Returns settings with which a run scores a bundle on the images of `data.source`.

    Images are read, cropped and named as the bundle's `bundle.json` says. With `evaluate.mapping`, the
    classes are those of the mapping.

    Raises:
        RunError: no bundle there; a mapping that does not fit its classes; or the run has a training.
    """
    location = pin(location) if is_registered(location) else resolve(location)
    info = load_bundle(location).info
    _refuse_training(config)
    pairs = config.evaluate.mapping
    classes = info.classes
    if pairs is not None:
        classes = tuple(dict.fromkeys(parse_mapping(pairs, info.classes).values()))
    found = use_test_rows(Run(config.storage, config.name), config.data.source, config.data.root)
    data = config.data.model_copy(
        update={
            "source": found.source,
            "root": found.root,
            "external": True,
            "classes": classes,
            "crop": info.crop,
            "window": info.input.window,
            "max_pixels": info.input.max_pixels,
            "volumes": info.volumes,
            "leaks": "keep",
            "folds": None,
            "balance_to": None,
        }
    )
    model = {"backbone": info.training.backbone, "height": info.input.height, "width": info.input.width}
    model |= {"fit": info.input.fit, "crop_size": info.input.crop_size, "background": info.input.background}
    tree = {
        "storage": config.storage,
        "name": config.name,
        "seed": config.seed,
        "data": data.model_dump(),
        "model": model,
        "evaluate": config.evaluate.model_copy(update={"bundle": location}).model_dump(),
    }
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{location} cannot be scored by this version: {where}: {first['msg']}; use the version that "
            "made it"
        ) from error


def _refuse_training(config: Config) -> None:
    run = Run(config.storage, config.name)
    stored = run.read_json(*CONFIG)["config"] if run.exists(*CONFIG) else None
    if stored is not None and not stored["data"].get("external", False):
        raise RunError(
            f"{run.uri()} is a run of its own, whose data set and bundle this would replace: set --name to "
            "another"
        )


def import_inputs(run: Run, config: Config) -> dict[str, Any]:
    """Returns the inputs of the copied bundle: its files, thresholds and temperature."""
    info = _bundle_of(config).info
    return {
        "files": info.files,
        "temperature": info.temperature,
        "decision": info.decision.model_dump(mode="json"),
    }


def import_bundle(run: Run, config: Config) -> str:
    """Fills the empty `bundle/` of a run with a verified copy of `evaluate.bundle`; returns a line on it."""
    bundle = _bundle_of(config)
    for name in bundle.info.files:
        run.write_bytes(bundle.read(name), BUNDLE, *name.split("/"))
    for name in (CARD_FILE, INFO_FILE):
        run.write_bytes(bundle.folder.read_bytes(name), BUNDLE, name)
    return f"{bundle.info.name}, made on {bundle.info.created}: {', '.join(bundle.info.classes)}"


def _bundle_of(config: Config) -> Bundle:
    if config.evaluate.bundle is None:
        raise RunError("there is no bundle to score: give --bundle, the path or URI of its folder")
    return load_bundle(config.evaluate.bundle)


def describe_external(bundle: Mapping[str, Any], config: Config) -> str:
    """Returns a heading for the scores of a bundle on an external set."""
    mapped = ", with its classes mapped" if config.evaluate.mapping is not None else ""
    return (
        f"external images of {config.data.source}, scored by the bundle {bundle['name']}{mapped}; copies of "
        "its training images were not looked for"
    )
