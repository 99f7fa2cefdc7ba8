"""A bundle in the layout of the Hugging Face hub: README.md with the metadata that the hub shows."""

import re
from pathlib import Path
from typing import Any

import yaml

from brain_ray.bundle.bundle import load_bundle, render_card
from brain_ray.bundle.schema import BundleInfo
from brain_ray.errors import RunError

LICENCES = frozenset(
    {
        *("agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0"),
        *("cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0"),
        *("lgpl-3.0", "mit", "mpl-2.0", "openrail", "unlicense"),
    }
)
"""Licences that the hub knows by name, as in https://huggingface.co/docs/hub/repositories-licenses (2026);
another one is shown as `other`, with its own name or address."""

SPLITS = {
    "official": "test split, as the source gives it",
    "leak_free": (
        "test images with no copy found in training or validation, nor another image of a patient there"
    ),
}
"""What the hub shows of each set of test scores."""

ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in ("*.onnx", "*.keras", "*.npz", "*.png")
)
"""What git stores apart, as the hub asks for binary files."""

USE = """
## How to use it

Install brain_ray, fetch this folder, and serve it or classify a folder of images:

    hf download USER/NAME --local-dir {name}
    brain-ray serve --bundle {name}
    brain-ray predict --bundle {name} FOLDER

`model.onnx` alone says in its metadata how an image becomes its input, and what comes out.
"""


def write_hub_folder(location: str, folder: Path) -> str:
    """Verifies a bundle, and writes it into a new folder with the hub's README.md; returns the bundle's id.

    The folder is a bundle as well.

    Args:
        location: path or URI of the bundle.
        folder: folder that is not there, or is empty.

    Raises:
        RunError: no bundle there, a file that is not the exported one, or a folder that is not empty or
            cannot be written.
    """
    bundle = load_bundle(location)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is there and not empty: expected a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        bundle.copy_to(folder)
        (folder / "README.md").write_text(hub_card(bundle.info), encoding="utf-8")
        (folder / ".gitattributes").write_text(ATTRIBUTES)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error}") from error
    return bundle.id


def hub_card(info: BundleInfo) -> str:
    """Returns the model card with the hub's metadata, YAML, before it."""
    text = yaml.safe_dump(metadata(info), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n\n{render_card(info).strip()}\n{USE.format(name=info.name)}"


def metadata(info: BundleInfo) -> dict[str, Any]:
    """Returns the metadata of https://huggingface.co/docs/hub/model-cards (2026)."""
    results = [_result(kind, name, scores) for kind, name, scores in _scores(info)]
    return {
        **_licence(info.config["export"].get("licence")),
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": [
            "brain_ray",
            "mri",
            "brain-tumor",
            "medical",
            "not-for-clinical-use",
            info.training.backbone,
        ],
        "metrics": ["accuracy"],
        "model-index": [{"name": info.name, "results": results}],
    }


def _licence(licence: str | None) -> dict[str, str]:
    if not licence:
        return {}
    if licence.lower() in LICENCES:
        return {"license": licence.lower()}
    if re.match("https?://", licence):
        return {"license": "other", "license_name": "see-link", "license_link": licence}
    return {"license": "other", "license_name": licence}


def _scores(info: BundleInfo) -> list[tuple[str, str, dict[str, Any]]]:
    """Returns kind, name and scores of each set of images that the model was scored on."""
    validation = info.scores.validation
    kind = (
        f"out-of-fold answers of {validation.folds} fold{'s' * (validation.folds != 1)}"
        if validation.folds
        else "validation split"
    )
    kind += ", from which the model was chosen"
    found = [("validation", kind, validation.model_dump())]
    test = info.scores.test or {}
    return found + [("test", name, test[key]) for key, name in SPLITS.items() if test.get(key)]


def _result(split: str, name: str, scores: dict[str, Any]) -> dict[str, Any]:
    images, groups = scores["images"], scores.get("groups")
    size = f"{images} images" + (f" of {groups} groups, patients where they are known" if groups else "")
    said = "Accuracy"
    if scores.get("accuracy_low") is not None:
        low, high = scores["accuracy_low"], scores["accuracy_high"]
        said += f" (95 % interval {low:.4f} to {high:.4f})"
    values = {
        "accuracy": said,
        "log_loss": "Log loss in nats, uncalibrated",
        "ece": "Expected calibration error, uncalibrated",
    }
    return {
        "task": {"type": "image-classification"},
        "dataset": {"type": "other", "name": f"{name}: {size}", "split": split},
        "metrics": [
            {"type": key, "name": text, "value": round(float(scores[key]), 6)}
            for key, text in values.items()
            if scores.get(key) is not None
        ],
    }
