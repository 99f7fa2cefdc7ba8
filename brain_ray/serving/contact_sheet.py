"""Contact sheet: the slices that carry each patient's answer, with their heat maps, in one picture."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.serving.answers import rounded
from brain_ray.serving.study_schemas import Patient, Study

TILE = 192
"""Height and width of a slice, in pixels."""

HEAD, GAP = 28, 6
"""Height of the line above a patient's slices, and the space around them, in pixels."""

MAX_PATIENTS = 20
"""Largest number of patients of a sheet; those after them have none."""

Picture = NDArray[np.uint8]


def draw_sheet(study: Study, overlays: Mapping[int, Picture], columns: int) -> bytes:
    """Returns a PNG with a row for each patient: number, label and probability, and below them the slices.

    Args:
        study: the answers.
        overlays: (height, width, 3) pictures of slices, by their index in the study.
        columns: number of slices of a row.
    """
    rows = [_row(patient, overlays, columns) for patient in study.patients[:MAX_PATIENTS]]
    if not rows:
        rows = [_line("no patient", columns)]
    return cv2.imencode(".png", np.concatenate(rows))[1].tobytes()


def _row(patient: Patient, overlays: Mapping[int, Picture], columns: int) -> Picture:
    said = "no answer" if patient.confidence is None else f"{patient.label} {rounded(patient.confidence)}"
    counted = f"{patient.num_counted} of {patient.num_slices} slices"
    text = f"patient {patient.number}: {said} ({patient.decision}), {counted}"
    tiles = [_tile(overlays[i]) for i in patient.carried_by if i in overlays]
    return np.concatenate([_line(text, columns), _side_by_side(tiles, columns)])


def _line(text: str, columns: int) -> Picture:
    line = np.zeros((HEAD, columns * (TILE + GAP) + GAP, 3), np.uint8)
    shown = text.encode("ascii", "replace").decode()  # OpenCV draws no other characters
    cv2.putText(line, shown, (GAP, HEAD - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    return line


def _side_by_side(tiles: Sequence[Picture], columns: int) -> Picture:
    row = np.zeros((TILE + GAP if tiles else 0, columns * (TILE + GAP) + GAP, 3), np.uint8)
    for i, tile in enumerate(tiles[:columns]):
        left = GAP + i * (TILE + GAP)
        row[:TILE, left : left + TILE] = tile
    return row


def _tile(picture: Picture) -> Picture:
    """Returns a picture in a black square, its proportions kept."""
    scale = TILE / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    top, left = (TILE - height) // 2, (TILE - width) // 2
    shrunk = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    tile[top : top + height, left : left + width] = shrunk
    return tile
