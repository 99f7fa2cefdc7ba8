"""One self-contained HTML page about a run: its scores, its data with the audit for copies, its errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brain_ray.config import PHANTOMS, Config
from brain_ray.evaluation import image_plates, plots
from brain_ray.evaluation.image_plates import CopyPair, LabelledImage, Misclassified
from brain_ray.evaluation.style import data_uri, environment
from brain_ray.scoring.curves import reliability, roc
from brain_ray.scoring.metrics import Scores

MAX_MISCLASSIFIED = 300
"""Misclassified images that the page shows, the most confident first; more would make it slow to open."""

MAX_REJECTED = 100
"""Rows of the table of rejected files."""

MAX_CONFLICTS = 25
"""Clusters in the table of label conflicts."""

_PLATES = ("samples.png", "crop_steps.png", "misclassified.png", "pairs.png")


@dataclass(frozen=True)
class ReportData:
    """All that the page tells.

    Attributes:
        config: the run's settings.
        created: when the report was made, as the page shows it.
        bundle: bundle.json of the model that was scored.
        audit: the data set's audit.json.
        official: scores on all test images.
        leak_free: scores on those of which the audit found no copy in what was learned from; None where there
            are none.
        labels: (n,) integers, true classes of all test images.
        probabilities: (n, k), raw.
        calibrated: (n, k), after temperature scaling.
        is_leak_free: (n,) bool, which test images `leak_free` is about.
        history: history.csv of the training.
        rejected: rejected.parquet of the data set.
        samples: training images as the network gets them in `first_epoch_on_images`; 25 are shown.
        crop_examples: whole images, before the crop; one per class is enough.
        misclassified: wrongly classified test images, at least the `MAX_MISCLASSIFIED` most confident ones.
        pairs: copies, chosen by `choose_pairs`.
    """

    config: Config
    created: str
    bundle: Mapping[str, Any]
    audit: Mapping[str, Any]
    official: Scores
    leak_free: Scores | None
    labels: NDArray[np.integer]
    probabilities: NDArray[np.floating]
    calibrated: NDArray[np.floating]
    is_leak_free: NDArray[np.bool_]
    history: pd.DataFrame
    rejected: pd.DataFrame
    samples: Sequence[LabelledImage]
    crop_examples: Sequence[LabelledImage]
    misclassified: Sequence[Misclassified]
    pairs: Sequence[CopyPair]


def write_report(data: ReportData) -> tuple[str, dict[str, bytes]]:
    """Return the page as HTML and its figures as {file name: PNG}; nothing is written.

    The page needs no other file and no network: its figures are in it. Two figures are only returned, as
    sheets to show elsewhere: misclassified.png and pairs.png.
    """
    figures = {
        # Plates of images need no more pixels than the images have, and would make the page heavy.
        name: plots.to_png(figure, dpi=110 if name in _PLATES else 160)
        for name, figure in _figures(data).items()
    }
    errors = sorted(data.misclassified, key=lambda error: -float(np.max(error.probabilities)))
    templates = environment(
        count=lambda value: f"{value:,}",
        percent=lambda value: f"{value:.2%}".replace("%", " %"),
        digits=lambda value: "–" if value is None else f"{value:.4f}",
        png=lambda data: data_uri("png", data),
        jpeg=lambda image: data_uri("jpeg", image_plates.to_jpeg(image)),
        undo=image_plates.undo_transform,
    )
    page = templates.get_template("report.html.jinja").render(
        data=data,
        classes=data.config.data.classes,
        colours=[plots.class_colour(i) for i in range(len(data.config.data.classes))],
        phantoms=data.config.data.source == PHANTOMS,
        same=data.leak_free is not None and data.leak_free.images == data.official.images,
        sets=_score_sets(data),
        figures=figures,
        errors=errors[:MAX_MISCLASSIFIED],
        num_errors=data.official.images - data.official.correct,
        rejected=data.rejected.head(MAX_REJECTED).to_dict("records"),
        conflicts=data.audit["copies"]["label_conflicts"],
        max_conflicts=MAX_CONFLICTS,
        history=data.history.to_dict("records"),
        settings=_settings(data.config),
        shown=" without a found copy" if len(_score_sets(data)) > 1 else "",
        epoch=first_epoch_on_images(data.config),
    )
    return page, figures


def first_epoch_on_images(config: Config) -> int | None:
    """Return the first epoch, from 0, that trains on images; None if all train on cached features."""
    cached = config.train.frozen_epochs if config.train.cache_features else 0
    return cached if cached < config.train.total_epochs else None


def choose_pairs(pairs: pd.DataFrame, limit: int = 40) -> pd.DataFrame:
    """Choose the rows of pairs.parquet that a person should look at first.

    Pairs across the source's splits come before those within one, and pairs of images that were not shown
    yet before others. Among equals classes and transforms take turns, the least similar pair of each first:
    if that one shows the same slice, the others do.
    """
    ordered = pairs.sort_values("similarity", kind="stable")
    across = ordered["split_a"] != ordered["split_b"]
    chosen: list[Any] = []
    for part in (ordered[across], ordered[~across]):
        seen = part["path_a"].duplicated() | part["path_b"].duplicated()
        for rows in (part[~seen], part[seen]):
            queues = [list(group.index) for _, group in rows.groupby(["transform", "class_a"], sort=True)]
            chosen += [row for row in chain.from_iterable(zip_longest(*queues)) if row is not None]
    return pairs.loc[chosen[:limit]]


def _figures(data: ReportData) -> dict[str, Figure]:
    classes = data.config.data.classes
    shown = data.is_leak_free if data.leak_free is not None else np.ones(len(data.labels), bool)
    labels, bins = data.labels[shown], data.config.evaluate.calibration_bins
    figures = {
        "balance.png": plots.balance(_splits(data.audit), classes),
        "confusion.png": plots.confusion(
            {title: scores.confusion for title, scores in _score_sets(data).items()}, classes
        ),
        "roc.png": plots.roc_curves(roc(labels, data.probabilities[shown], classes)),
        "reliability.png": plots.reliability_diagram(
            {
                "raw": reliability(labels, data.probabilities[shown], bins),
                "calibrated": reliability(labels, data.calibrated[shown], bins),
            }
        ),
    }
    if len(data.history):
        figures["curves.png"] = plots.learning_curves(data.history)
    if data.samples:
        figures["samples.png"] = image_plates.sample_grid(data.samples, classes)
    if data.crop_examples:
        figures["crop_steps.png"] = image_plates.crop_steps(
            data.crop_examples, classes, data.config.data.crop
        )
    if data.misclassified:
        figures["misclassified.png"] = image_plates.error_plate(data.misclassified, classes)
    if data.pairs:
        figures["pairs.png"] = image_plates.pair_plate(data.pairs)
    return figures


def _score_sets(data: ReportData) -> dict[str, Scores]:
    if data.leak_free is None or data.leak_free.images == data.official.images:
        return {"All test images": data.official}
    return {"Test images without a found copy": data.leak_free, "All test images": data.official}


def _splits(audit: Mapping[str, Any]) -> dict[str, Mapping[str, int]]:
    splits = {"Training": audit["splits"]["train"]}
    if audit["balanced_train"] != audit["splits"]["train"]:
        splits["Training, balanced"] = audit["balanced_train"]
    return {**splits, "Validation": audit["splits"]["valid"], "Test": audit["splits"]["test"]}


def _settings(config: Config) -> dict[str, list[tuple[str, str, bool]]]:
    """Group all settings by section, as (dotted name, value, differs from the default)."""
    groups: dict[str, list[tuple[str, str, bool]]] = {"run": []}

    def walk(prefix: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                walk(f"{prefix}{name}.", value, defaults[name])
            else:
                text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
                section = prefix.split(".", maxsplit=1)[0] or "run"
                groups.setdefault(section, []).append((prefix + name, text, value != defaults[name]))

    walk("", config.model_dump(), Config().model_dump())
    return groups
