"""Share of a network's right answers that a small model gives too, which sees nothing of the head."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from brain_ray.data.dataset import read_table
from brain_ray.data.folds import DEVELOPMENT
from brain_ray.data.out_of_fold import OutOfFold
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
    known = _read(run)
    if known is None:
        return None
    learned = (known.images["split"] == "train").to_numpy()
    leak_free = bool(predictions["leak_free"].any())
    shown = predictions[predictions["leak_free"]] if leak_free else predictions
    answers = shown.set_index("image_id")["predicted"].reindex(known.images.index)
    tested = answers.notna().to_numpy() & (known.images["split"] == "test").to_numpy()
    if not tested.any():
        return {"reason": "none of the test images was drawn for this comparison"}
    if len(np.unique(known.labels[learned])) < 2:
        return {"reason": "the training images drawn for this comparison are of one class"}
    found = compare(
        known.labels[tested],
        answers[tested].to_numpy(np.int64),
        known.guess(learned, tested),
        int(np.bincount(known.labels[learned]).argmax()),
        GroupBootstrap(known.groups[tested]),
    )
    return {"learned_from": int(learned.sum()), "leak_free": leak_free, **found}


def compare_folds_with_shortcuts(run: Run, answers: OutOfFold) -> dict[str, Any] | None:
    """Compares out-of-fold answers with those of models of the views without the head: of each fold one,
    fitted to the training and validation images of the groups that have no image in the fold.

    Returns:
        The result of `compare`, or reason, why there are no figures; None for a data set of an earlier
        version, whose preparation took no views.
    """
    known = _read(run)
    if known is None:
        return None
    ids, labels, groups = known.images.index, known.labels, known.groups
    place = pd.Index(answers.image_id).get_indexer(ids)  # -1: not among the answers
    fold = np.where(place < 0, -1, answers.fold[place])
    development = known.images["split"].isin(DEVELOPMENT).to_numpy()
    guesses, usual = np.full(len(ids), -1), np.full(len(ids), -1)
    for number in np.unique(answers.fold):
        held = fold == number
        near = answers.group[answers.fold == number]
        learned = development & ~np.isin(groups, near)
        if len(np.unique(labels[learned])) < 2:
            return {"reason": f"the images drawn for this comparison outside fold {number} are of one class"}
        if held.any():
            guesses[held] = known.guess(learned, held)
            usual[held] = np.bincount(labels[learned]).argmax()
    asked = place >= 0
    if not asked.any():
        return {"reason": "none of the images was drawn for this comparison"}
    answered = answers.probabilities[place[asked]].argmax(axis=1)
    return compare(labels[asked], answered, guesses[asked], usual[asked], GroupBootstrap(groups[asked]))


@dataclass(frozen=True)
class _Known:
    """The images whose views were taken, (n,), and their views without the head, side by side."""

    images: pd.DataFrame
    """Rows of the manifest by image_id."""
    features: NDArray[np.float64]
    kinds: NDArray[np.bool_]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.images["label"].to_numpy(np.int64)

    @property
    def groups(self) -> NDArray[np.int64]:
        return self.images["group"].to_numpy(np.int64)

    def guess(self, learned: NDArray[np.bool_], asked: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Returns the labels that a model fitted to some images gives to others, (number of these,)."""
        model = LinearModel(self.features[learned], self.kinds, self.labels[learned])
        return np.asarray(model.labels[model.probabilities(self.features[asked]).argmax(axis=1)], np.int64)


def _read(run: Run) -> _Known | None:
    if not run.exists(*DATASET_SHORTCUTS):
        return None
    table = patiently()(pq.read_table, run.path(*DATASET_SHORTCUTS), filesystem=run.fs, partitioning=None)
    views = {name: view for name, view in views_of(table).items() if name in WITHOUT_HEAD}
    manifest = read_table(run, *DATASET_MANIFEST, columns=["image_id", "label", "group", "split"])
    images = manifest.set_index("image_id").loc[table["image_id"].to_numpy()]
    return _Known(images, side_by_side(views, list(views)), kinds_of(views))


def compare(labels: Any, answers: Any, guesses: Any, usual: Any, bootstrap: GroupBootstrap) -> dict[str, Any]:
    """Returns how a network's answers and a shortcut model's guesses hang together, each share with its
    interval over groups.

    Args:
        labels: true classes, (n,) integers.
        answers: the network's, (n,).
        guesses: the shortcut model's, (n,).
        usual: the most frequent class of the training images, or (n,), of those of each image's fold.
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
