"""The recipe smoke, shrunk until its stages take seconds."""

from pathlib import Path

from support.jobs import ROOT

from brain_ray.config import Config
from brain_ray.recipes import smoke

SMALL = {
    "data.phantoms.train_per_class": 12,
    "data.phantoms.test_per_class": 5,
    "data.phantoms.copies": 4,
    "data.phantoms.faults": 6,
    "data.max_rejected": 0.1,
    "model.height": 32,
    "model.width": 32,
    "train.epochs": 3,
    "train.batch_size": 8,
}


LEFT = (
    "config.json",
    "dataset/manifest.parquet",
    "dataset/audit.json",
    "dataset/rejected.parquet",
    "train/history.csv",
    "bundle/model.keras",
    "bundle/model.onnx",
    "bundle/bundle.json",
    "bundle/MODEL_CARD.md",
    "report/report.html",
    "report/metrics.json",
    "report/predictions.parquet",
    "report/confusion.png",
    "test_ledger.jsonl",
)
"""What a run leaves."""


def small(storage: Path, **changes: object) -> Config:
    """Shrink `smoke` so that its stages take seconds."""
    tree = smoke().model_dump()
    for name, value in {**SMALL, **changes}.items():
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch[part]
        branch[last] = value
    return Config.model_validate({**tree, "storage": str(storage)})


def words(job: str = "pipeline", **changes: object) -> list[str]:
    """The same for a command line; of a setting's name, the dots are double underscores."""
    settings = {**SMALL, **{name.replace("__", "."): value for name, value in changes.items()}}
    shrunk = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [str(ROOT / f"jobs/{job}.py"), "smoke", *shrunk]
