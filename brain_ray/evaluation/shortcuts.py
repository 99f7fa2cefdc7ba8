"""Share of a network's right answers that a small model gives too, which sees nothing of the head."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from brain_ray.data.dataset import read_table
from brain_ray.data.shortcuts.table import kinds_of, views_of
from brain_ray.data.shortcuts.views import WITHOUT_HEAD
from brain_ray.runs import DATASET_MANIFEST, DATASET_SHORTCUTS, Run
from brain_ray.scoring.intervals import GroupBootstrap, Interval
from brain_ray.scoring.shortcuts import LinearModel, side_by_side
from brain_ray.storage_retries import patiently


def compare_with_shortcuts(run: Run, predictions: pd.DataFrame) -> dict[str, Any] | None:
    """Compares a network's answers with those of a model of the views without the head, fitted to training
    images.

    Args:
        run: with a prepared data set.
        predictions: test images with image_id, label, predicted and leak_free; those that are leak-free are
            compared, or all, if none is.

    Returns:
        The result of `compare` and leak_free (whether the images are), or reason, why there are no figures;
        None for a data set of an earlier version, whose preparation took no views.
    """
    if not run.exists(*DATASET_SHORTCUTS):
        return None
    table = patiently()(pq.read_table, run.path(*DATASET_SHORTCUTS), filesystem=run.fs, partitioning=None)
    views = {name: view for name, view in views_of(table).items() if name in WITHOUT_HEAD}
    manifest = read_table(run, *DATASET_MANIFEST, columns=["image_id", "label", "group", "split"])
    images = manifest.set_index("image_id").loc[table["image_id"].to_numpy()]
    learned = (images["split"] == "train").to_numpy()
    leak_free = bool(predictions["leak_free"].any())
    shown = predictions[predictions["leak_free"]] if leak_free else predictions
    answers = shown.set_index("image_id")["predicted"].reindex(images.index)
    tested = answers.notna().to_numpy() & (images["split"] == "test").to_numpy()
    labels = images["label"].to_numpy(np.int64)
    if not tested.any():
        return {"reason": "none of the test images was drawn for this comparison"}
    if len(np.unique(labels[learned])) < 2:
        return {"reason": "the training images drawn for this comparison are of one class"}
    features = side_by_side(views, list(views))
    model = LinearModel(features[learned], kinds_of(views), labels[learned])
    guessed = model.labels[model.probabilities(features[tested]).argmax(axis=1)]
    usual = int(np.bincount(labels[learned]).argmax())
    found = compare(
        labels[tested],
        answers[tested].to_numpy(np.int64),
        guessed,
        usual,
        GroupBootstrap(images["group"].to_numpy()[tested]),
    )
    return {"learned_from": int(learned.sum()), "leak_free": leak_free, **found}


def compare(labels: Any, answers: Any, guesses: Any, usual: int, bootstrap: GroupBootstrap) -> dict[str, Any]:
    """Returns how a network's answers and a shortcut model's guesses hang together, each share with its
    interval over groups.

    Args:
        labels: true classes, (n,) integers.
        answers: the network's, (n,).
        guesses: the shortcut model's, (n,).
        usual: the most frequent class of the training images.
        bootstrap: resamples of the images' groups.

    Returns:
        images, groups; shortcut_accuracy and usual_accuracy (of always naming the most frequent class); of
        the images that the network got right, decided (the share that the model got right too) and
        decided_by_usual; the network's accuracy where the model was right, and where it was wrong (None if it
        never was).
    """
    labels, answers, guesses = (np.asarray(each) for each in (labels, answers, guesses))
    right, guessed, frequent = answers == labels, guesses == labels, labels == usual
    return {
        "images": len(labels),
        "groups": bootstrap.num_groups,
        "shortcut_accuracy": _known(bootstrap.share(guessed)),
        "usual_accuracy": float(frequent.mean()),
        "decided": _known(bootstrap.share(guessed & right, right)),
        "decided_by_usual": float((frequent & right).sum() / right.sum()) if right.any() else None,
        "accuracy_where_right": _known(bootstrap.share(right & guessed, guessed)),
        "accuracy_where_wrong": _known(bootstrap.share(right & ~guessed, ~guessed)),
    }


def _known(interval: Interval) -> dict[str, float] | None:
    """Returns an interval for JSON, which has no NaN."""
    return asdict(interval) if np.isfinite(interval.value) else None
