"""Suspects: images whose label out-of-fold answers contradict; a page, a table, a manifest to correct."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.data.dataset import read_table
from brain_ray.data.file_names import ALONE, image_name
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.evaluation.copy_choice import Turned
from brain_ray.evaluation.copy_pictures import PictureReader
from brain_ray.evaluation.image_plates import to_jpeg
from brain_ray.evaluation.prepared_split import as_listed
from brain_ray.evaluation.style import data_uri, environment, percent
from brain_ray.runs import DATASET_MANIFEST, SUSPECT_FILES, TRAIN, Run
from brain_ray.scoring.label_errors import find_label_errors

SHOWN = 60
"""Largest number of suspects whose pictures the page shows."""

PAGE, TABLE, LABELS = SUSPECT_FILES


def write_suspects(
    run: Run,
    config: Config,
    answers: OutOfFold,
    chances: NDArray[np.float64],
    images: pd.DataFrame,
    read: PictureReader,
) -> str:
    """Writes suspects.html, suspects.csv and labels.csv into a run's train/; returns a sentence on them.

    suspects.csv has a row for each suspect, the likeliest error first: path, frame (of a volume's slice),
    label, suggested, published (the label in the published set that the image is known to be of, if any), the
    two classes' calibrated probabilities, and fold. labels.csv is a manifest of all images of the source, the
    suspects first: with labels corrected by hand it can be prepared as a source.

    Args:
        run: the run, with a finished data set.
        config: its settings.
        answers: out-of-fold answers to n images.
        chances: (n, classes), their calibrated probabilities.
        images: the result of `read_images`.
        read: reads their pictures.
    """
    found = find_label_errors(answers.label, chances)
    names = np.array(config.data.classes)
    rows = images.loc[answers.image_id[found.suspects]]
    suspects = pd.DataFrame(
        {
            "path": rows["path"].to_numpy(),
            "frame": rows["frame"].to_numpy(),
            "label": names[answers.label[found.suspects]],
            "suggested": names[found.suggested],
            "published": rows["known_label"].fillna("").to_numpy(),
            "probability_label": chances[found.suspects, answers.label[found.suspects]].round(4),
            "probability_suggested": chances[found.suspects, found.suggested].round(4),
            "fold": answers.fold[found.suspects],
        },
        index=rows.index,
    )
    run.write_bytes(_csv(suspects), TRAIN, TABLE)
    first = list(map(image_name, suspects["path"], suspects["frame"]))
    run.write_bytes(_csv(_manifest(run, first)), TRAIN, LABELS)
    run.write_bytes(_page(config, read, suspects, len(answers.label)).encode(), TRAIN, PAGE)
    told = "labels are suspected: models that did not see these images are confident of another class"
    return f"{len(suspects)} of {len(answers.label)} {told} ({PAGE}, {TABLE})"


def _csv(table: pd.DataFrame) -> bytes:
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue().encode()


def _manifest(run: Run, first: Sequence[str]) -> pd.DataFrame:
    """Returns a row for each image of a data set that could be used, by its file and `frame` if files hold
    several, with what its source states of it, those named by `first` first."""
    manifest = read_table(run, *DATASET_MANIFEST)
    manifest = manifest[manifest["split"] != "rejected"]
    stated = [name for name in ("frame", "source_split", "patient", "source", "fold") if name in manifest]
    stated = [name for name in stated if not manifest[name].isin(["", ALONE]).all()]
    listed = as_listed(manifest, stated)
    frames = listed["frame"] if "frame" in listed else [ALONE] * len(listed)
    places = {name: place for place, name in enumerate(first)}
    order = [places.get(image_name(*one), len(places)) for one in zip(listed["path"], frames, strict=True)]
    return listed.iloc[np.argsort(order, kind="stable")]


def _page(config: Config, read: PictureReader, suspects: pd.DataFrame, total: int) -> str:
    shown = []
    first = suspects.head(SHOWN)
    for image_id, row in zip(first.index.tolist(), first.to_dict("records"), strict=True):
        for picture in read.pictures([Turned(image_id)]):
            shown.append({**row, "name": picture.path, "picture": to_jpeg(picture.image)})
    templates = environment("evaluation", jpeg=lambda data: data_uri("jpeg", data), percent=percent)
    return templates.get_template("suspects.html.jinja").render(
        name=config.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        suspects=len(suspects),
        total=total,
        shown=shown,
        table=TABLE,
        labels=LABELS,
    )
