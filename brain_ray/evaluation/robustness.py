"""Scores a bundle on test images with artefacts of MR scans, with Ray Data."""

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from brain_ray.cluster.losses import retry_if_lost
from brain_ray.config import Config
from brain_ray.data.artefacts.table import NAMES, SEVERITIES, corrupt, draws_of
from brain_ray.data.decoding import decode
from brain_ray.errors import RunError
from brain_ray.evaluation.scoring_actors import open_predictor, score_by_actors
from brain_ray.runs import BUNDLE, Run
from brain_ray.scoring.robustness import Robustness, score_robustness

BATCH = 8
"""Largest number of images in a batch: each becomes 85."""

CONDITIONS = [(name, severity) for name in NAMES for severity in SEVERITIES]


class CorruptedClassifier:
    """One copy of a bundle's model in an actor: gives images each artefact, and classifies them."""

    def __init__(self, bundle: str, threads: int, seed: int, gpus: float = 0) -> None:
        """Opens the bundle at a path or URI, on a GPU if it has some, else on `threads` CPU threads."""
        self._predictor = open_predictor(bundle, threads, gpus)
        self._seed = seed

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns a row for each image, artefact and severity: row_id, artefact, severity, predicted (index
        of the most probable class) and decision.

        The artefact is put into the decoded image, before the crop, as a scanner would. No pixels are
        returned.

        Args:
            batch: columns row_id, image_id and bytes, encoded images.

        Raises:
            ImageError: an image cannot be decoded.
        """
        predictor = self._predictor
        images = [
            decode(data, predictor.max_pixels, read=predictor.read_spec)
            for data in batch["bytes"].to_pylist()
        ]
        numbers, found = batch["image_id"].to_pylist(), []
        for name, severity in CONDITIONS:
            inputs = [
                predictor.prepare_image(corrupt(image, name, severity, draws_of(self._seed, name, number)))[0]
                for image, number in zip(images, numbers, strict=True)
            ]
            prediction = predictor.predict(np.stack(inputs))
            found.append(
                pa.table(
                    {
                        "row_id": batch["row_id"].combine_chunks(),
                        "artefact": pa.array([name] * len(inputs)),
                        "severity": pa.array([severity] * len(inputs), pa.int64()),
                        "predicted": pa.array(prediction.probabilities.argmax(axis=1)),
                        "decision": pa.array(prediction.decisions, pa.string()),
                    }
                )
            )
        return pa.concat_tables(found)


def choose_images(groups: ArrayLike, limit: int, seed: int) -> NDArray[np.int64]:
    """Draws whole groups in a random order, as far as they fit into `limit` images; returns their places,
    rising.

    If no group fits, `limit` images of the first one are taken.

    Args:
        groups: (n,), group of each image.
        limit: largest number of images.
        seed: seed of the order.
    """
    names, place, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    taken, room = np.zeros(len(names), bool), limit
    order = np.random.default_rng(seed).permutation(len(names))
    for group in order:
        if sizes[group] <= room:
            taken[group], room = True, room - sizes[group]
    if not taken.any():
        return np.flatnonzero(place == order[0])[:limit]
    return np.flatnonzero(taken[place])


def score_artefacts(run: Run, config: Config, predictions: pd.DataFrame) -> Robustness:
    """Scores a run's bundle on test images with every artefact at every severity.

    Images without a found copy in training or validation are taken, if there are any: a model that
    recognises a copy may recognise it with an artefact, too.

    Args:
        run: with a complete data set and bundle.
        config: the run's settings.
        predictions: table of the test images, with the columns row_id, image_id, label, group, predicted,
            decision and leak_free.

    Raises:
        RunError: an image was missed or scored twice, or nodes were lost again and again.
    """
    settings = config.evaluate
    clean = predictions[predictions["leak_free"]] if predictions["leak_free"].any() else predictions
    groups = clean["group"].to_numpy()
    chosen = choose_images(groups, settings.robustness_images, config.seed)
    clean, groups = clean.iloc[chosen], groups[chosen]
    found = retry_if_lost(
        lambda: score_by_actors(
            run,
            settings,
            CorruptedClassifier,
            [run.uri(BUNDLE), settings.cpus_per_actor, config.seed],
            ["row_id", "image_id", "bytes"],
            min(BATCH, settings.batch_size),
            block_batches=1,
            row_ids=clean["row_id"].tolist(),
        ),
        "scoring with artefacts",
    )
    wanted = pd.MultiIndex.from_product([clean["row_id"], NAMES, SEVERITIES])
    found = found.set_index(["row_id", "artefact", "severity"])
    if len(found) != len(wanted) or not wanted.isin(found.index).all():
        raise RunError(
            f"{len(found)} images with artefacts were scored, {len(wanted)} expected, each exactly once: "
            f"prepare {run.uri('dataset')} again"
        )
    shape = len(clean), len(CONDITIONS)
    found = found.loc[wanted]
    labels = clean["label"].to_numpy()
    return score_robustness(
        found["predicted"].to_numpy().reshape(shape) == labels[:, np.newaxis],
        found["decision"].to_numpy(str).reshape(shape),
        CONDITIONS,
        clean["predicted"].to_numpy() == labels,
        clean["decision"].to_numpy(str),
        groups,
        config.seed,
    )
