"""Localisation of a run: its bundle's heat maps of the test images, held against outlines by Ray Data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from brain_ray.bundle.heat_maps import over_image
from brain_ray.config import Config
from brain_ray.data.dataset import group_column, read_table, write_table
from brain_ray.data.decoding import ImageError, decode
from brain_ray.data.file_names import ALONE, image_name
from brain_ray.data.outline_masks import outlines_at
from brain_ray.data.outline_names import Matched, match_names
from brain_ray.data.outlines import Outline, Outlines
from brain_ray.errors import RunError, list_faults, list_names
from brain_ray.evaluation.scoring_actors import open_predictor
from brain_ray.runs import DATASET_MANIFEST, LOCALISATION, Run
from brain_ray.scoring.localisation import Map, brightness_map, centre_map
from brain_ray.scoring.localisation_scores import (
    BRIGHTEST,
    CENTRE,
    COLUMNS,
    HEAT,
    LocalisationScores,
    OutlineCounts,
    measure_maps,
    score_parts,
)

NO_TUMOUR = re.compile(
    r"(no|non|without)[ _-]*(tumou?r|lesion|finding)s?|normal|healthy|controls?", re.IGNORECASE
)
"""Names of classes whose images have no tumour to point at."""

FACTS = ("blank", "area", *COLUMNS)
"""Columns of numbers of `Localiser`."""


@dataclass(frozen=True)
class OutlinedImages:
    """The test images with a tumour and an outline."""

    location: str
    outlines: Mapping[int, Outline]
    """By image_id."""
    counts: OutlineCounts


class Localiser:
    """One copy of a bundle's model in an actor: holds heat maps of encoded test images against outlines."""

    def __init__(self, bundle: str, threads: int, outlines: Mapping[int, Outline], gpus: float = 0) -> None:
        """Opens the bundle at a path or URI, on a GPU if it has some, else on `threads` CPU threads."""
        self._predictor = open_predictor(bundle, threads, gpus)
        self._outlines = outlines

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns a row for each image of the batch that has an outline.

        Its columns are image_id, answer (index of the class that the network finds most probable, which the
        heat map explains), blank (1 if the map is 0 everywhere), area (share of the head's box that the
        outline covers), and `COLUMNS`.

        Raises:
            RunError: an image cannot be decoded.
        """
        rows = batch.select(["image_id", "path", "bytes"]).to_pylist()
        found = [self._localise(row) for row in rows if row["image_id"] in self._outlines]
        numbers = {name: pa.array([row[name] for row in found], pa.float64()) for name in FACTS}
        whole = {name: pa.array([row[name] for row in found], pa.int64()) for name in ("image_id", "answer")}
        return pa.table(whole | numbers)

    def _localise(self, row: Mapping[str, object]) -> dict[str, float]:
        data, image_id = row["bytes"], row["image_id"]
        assert isinstance(data, bytes)
        assert isinstance(image_id, int)
        model = self._predictor
        try:
            image = decode(data, model.max_pixels, read=model.read_spec)
        except ImageError as error:
            raise RunError(
                f"the data set's row of {row['path']} is damaged: {error}; prepare again"
            ) from error
        fitted, box, _ = model.prepare_image(image)
        prediction = model.predict(fitted[np.newaxis])
        answers = prediction.probabilities.argmax(axis=1)
        cells = model.explain(prediction.feature_maps, answers)[0]
        heat = over_image(cells, model.spec, box, image.shape, model.map_shift)
        mask, head = self._outlines[image_id].mask(*image.shape), (box.rows, box.columns)
        maps: dict[str, Map] = {
            HEAT: heat,
            CENTRE: centre_map(image.shape, head),
            BRIGHTEST: brightness_map(image, head),
        }
        return {
            "image_id": image_id,
            "answer": int(answers[0]),
            "blank": float(not heat.any()),
            "area": float(mask[head].mean()),
            **measure_maps(maps, mask),
        }


def outlines_of(run: Run, config: Config) -> Outlines | None:
    """Reads the outlines that the settings name; None if they name none.

    Raises:
        RunError: they are not there, or have another form than `read_outlines` knows.
    """
    location = config.evaluate.outlines
    return None if location is None else outlines_at(run, location)


def find_outlined(run: Run, config: Config) -> OutlinedImages | None:
    """Finds the test images with a tumour and an outline; None if the settings name no outlines.

    Raises:
        RunError: the outlines cannot be read, no test image with a tumour has one, or one does not fit its
            image.
    """
    outlines = outlines_of(run, config)
    if outlines is None:
        return None
    images = read_table(run, *DATASET_MANIFEST)
    frames = images["frame"] if "frame" in images else [ALONE] * len(images)
    paths = [image_name(path, frame) for path, frame in zip(images["path"], frames, strict=True)]
    matched = match_names(outlines.names, paths)
    is_test = (images["split"] == "test").to_numpy()
    has_tumour = np.array([NO_TUMOUR.fullmatch(name) is None for name in images["class_name"]], bool)
    chosen = {name: k for name, k in matched.images.items() if is_test[k] and has_tumour[k]}
    counts = OutlineCounts(
        outlines=len(outlines.names),
        scored=len(chosen),
        other_splits=sum(not is_test[k] for k in matched.images.values()),
        no_tumour=sum(is_test[k] and not has_tumour[k] for k in matched.images.values()),
        ambiguous=len(matched.ambiguous),
        unknown=len(matched.unknown),
        without=int((is_test & has_tumour).sum()) - len(chosen),
    )
    if not chosen:
        raise RunError(_no_image(outlines, matched, [paths[k] for k in np.flatnonzero(is_test & has_tumour)]))
    loaded = {}
    faults = []
    for name, k in chosen.items():
        row = images.iloc[k]
        loaded[int(row["image_id"])] = outline = outlines.load(name)
        try:
            outline.mask(int(row["height"]), int(row["width"]))
        except ValueError as error:
            faults.append(f"{name}, of {paths[k]}: {error}")
    if faults:
        raise RunError(f"{len(faults)} outlines of {outlines.location} do not fit:{list_faults(faults)}")
    return OutlinedImages(outlines.location, loaded, counts)


def _no_image(outlines: Outlines, matched: Matched, tested: list[str]) -> str:
    names = matched.ambiguous or matched.unknown or list(outlines.names)
    return (
        f"no test image with a tumour has an outline in {outlines.location}: of its {len(outlines.names)} "
        f"names {len(matched.ambiguous)} are ambiguous, {len(matched.unknown)} belong to no image and "
        f"{len(matched.images)} to others; it has {list_names(names)}, and test images are "
        f"{list_names(tested) or 'none'}: the end of one name has to be the other, the suffix aside"
    )


def sum_up(run: Run, config: Config, outlined: OutlinedImages, found: pd.DataFrame) -> LocalisationScores:
    """Returns the scores of all outlined images; writes the figures of each image into the report's folder.

    Args:
        run: with a complete dataset.
        config: the run's settings.
        outlined: what was asked of `Localiser`.
        found: rows of `Localiser`.

    Raises:
        RunError: an image is missing, or there twice.
    """
    if sorted(found["image_id"]) != sorted(outlined.outlines):
        raise RunError(
            f"heat maps of {len(found)} test images were made, {len(outlined.outlines)} expected, each "
            f"exactly once: prepare {run.uri('dataset')} again"
        )
    manifest = read_table(run, *DATASET_MANIFEST)
    facts = manifest[["image_id", "path", "label"]].assign(group=group_column(manifest))
    table = facts.merge(found, "inner", "image_id", validate="one_to_one")
    figures = {name: table[name].to_numpy() for name in FACTS}
    labels, answers, groups = (table[name].to_numpy() for name in ("label", "answer", "group"))
    parts = score_parts(figures, labels, answers, groups, config.data.classes)
    write_table(run, table, *LOCALISATION)
    return LocalisationScores(outlined.location, outlined.counts, parts)
