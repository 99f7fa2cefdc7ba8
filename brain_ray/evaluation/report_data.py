"""ReportData: contents of a run's report, and functions that read them."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.config import Config
from brain_ray.data import decoding
from brain_ray.data.dataset import first_rows, read_rows, read_table, sample_rows
from brain_ray.data.rows import changes_of, read_input
from brain_ray.evaluation.copy_pictures import CopyPictures, read_copies
from brain_ray.evaluation.image_plates import LabelledImage, Misclassified
from brain_ray.runs import AUDIT, BUNDLE_INFO, DATASET, HISTORY, Run
from brain_ray.scoring.localisation_scores import LocalisationScores
from brain_ray.scoring.robustness import Robustness
from brain_ray.scoring.scores import Scores
from brain_ray.scoring.shift import Shift

MAX_MISCLASSIFIED = 300
"""Misclassified images that the page shows, the most confident first; more would make it slow to open."""


def first_epoch_on_images(config: Config) -> int | None:
    """Returns the first epoch, from 0, that trains on images; None if all train on cached features."""
    cached = config.train.frozen_epochs if config.train.cache_features else 0
    return cached if cached < config.train.total_epochs else None


@dataclass(frozen=True)
class ReportData:
    """Contents of the page.

    Attributes:
        config: the run's settings.
        created: time of the report, as the page shows it.
        bundle: bundle.json of the model that was scored.
        audit: the data set's audit.json.
        official: scores on all test images.
        leak_free: scores on the test images without a copy, found by the audit, in training or validation;
            None if there are no such images, or the images are external.
        labels: (n,) integers, true classes of all test images.
        probabilities: (n, k), raw.
        calibrated: (n, k), after temperature scaling.
        is_leak_free: (n,) bool, True for the test images of `leak_free`.
        num_known_patients: number of test images whose patients are known.
        history: history.csv of the training, a row per epoch.
        rejected: rejected.parquet of the data set, a row per rejected file.
        samples: network inputs of training images in `first_epoch_on_images`; 25 are shown.
        crop_examples: whole images, before the crop; one per class is enough.
        misclassified: misclassified test images, at least the `MAX_MISCLASSIFIED` most confident ones.
        copies: pairs and clusters of copies, and contradicting labels.
        localisation: heat maps of the test images against outlines; None without outlines.
        shortcuts: the result of `compare_with_shortcuts`.
        robustness: scores on test images with artefacts; None if not asked for.
        ledger: how often the test split was scored, from `record_scoring`; None: not recorded.
        shift: the test images beside the bundle's validation images; None: an earlier version's bundle.
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
    num_known_patients: int
    history: pd.DataFrame
    rejected: pd.DataFrame
    samples: Sequence[LabelledImage]
    crop_examples: Sequence[LabelledImage]
    misclassified: Sequence[Misclassified]
    copies: CopyPictures
    localisation: LocalisationScores | None = None
    shortcuts: Mapping[str, Any] | None = None
    robustness: Robustness | None = None
    ledger: Mapping[str, Any] | None = None
    shift: Shift | None = None


NUM_SAMPLES = 25
"""Training images that the report shows."""


def gather(
    run: Run,
    config: Config,
    predictions: pd.DataFrame,
    official: Scores,
    leak_free: Scores | None,
    created: str,
) -> ReportData:
    """Returns the report's data; reads only those images that the report shows.

    Args:
        run: with a complete dataset, training and bundle; an external one has no training.
        config: the run's settings.
        predictions: table of the test images, with the columns row_id, label, predicted, leak_free, and per
            class probability_<class> and calibrated_<class>.
        official: scores on all test images.
        leak_free: scores on the test images without a found copy in training or validation, if there are any.
        created: time of the report, as the page shows it.
    """
    classes, external = config.data.classes, config.data.external
    return ReportData(
        config=config,
        created=created,
        bundle=run.read_json(*BUNDLE_INFO),
        audit=run.read_json(*AUDIT),
        official=official,
        leak_free=leak_free,
        labels=predictions["label"].to_numpy(),
        probabilities=_columns(predictions, "probability", classes),
        calibrated=_columns(predictions, "calibrated", classes),
        is_leak_free=predictions["leak_free"].to_numpy(bool),
        num_known_patients=int((predictions["patient"] != "").sum()) if "patient" in predictions else 0,
        history=pd.DataFrame() if external else pd.read_csv(io.BytesIO(run.read_bytes(*HISTORY))),
        rejected=read_table(run, DATASET, "rejected.parquet"),
        samples=[] if external else training_samples(run, config),
        crop_examples=_crop_examples(run, config),
        misclassified=_misclassified(run, config, predictions),
        copies=read_copies(run, config),
    )


def _columns(predictions: pd.DataFrame, kind: str, classes: Sequence[str]) -> Any:
    return predictions[[f"{kind}_{name}" for name in classes]].to_numpy(np.float64)


def _input(row: Mapping[str, Any], config: Config, epoch: int | None = None) -> Grey:
    changes = changes_of(row, config, epoch)
    data = config.data
    return read_input(row, config.model.input_spec, data.max_pixels, data.read_spec, changes)[..., 0]


def training_samples(run: Run, config: Config) -> list[LabelledImage]:
    """Reads training images, augmented as in the first epoch that trained on images."""
    classes, epoch = config.data.classes, first_epoch_on_images(config)
    rows = sample_rows(run, "train", NUM_SAMPLES, config.seed)
    return [LabelledImage(_input(row, config, epoch), classes[row["label"]]) for row in rows]


def _crop_examples(run: Run, config: Config) -> list[LabelledImage]:
    """Reads a training image of each class, of an external set a test image, without crop."""
    return [
        LabelledImage(
            decoding.decode(row["bytes"], config.data.max_pixels, read=config.data.read_spec),
            config.data.classes[row["label"]],
        )
        for row in first_rows(run, "test" if config.data.external else "train")
    ]


def _misclassified(run: Run, config: Config, predictions: pd.DataFrame) -> list[Misclassified]:
    wrong = predictions[predictions["predicted"] != predictions["label"]]
    chances = _columns(wrong, "probability", config.data.classes)
    order = np.argsort(-chances.max(axis=1, initial=0.0), kind="stable")[:MAX_MISCLASSIFIED]
    rows = read_rows(run, "test", wrong["row_id"].to_numpy()[order].tolist())
    predicted, clean = wrong["predicted"].to_numpy()[order], wrong["leak_free"].to_numpy()[order]
    return [
        Misclassified(
            path=row["path"],
            label=row["label"],
            predicted=int(predicted[k]),
            probabilities=chances[order[k]],
            leak_free=bool(clean[k]),
            image=_input(row, config),
        )
        for k, row in enumerate(rows)
    ]
