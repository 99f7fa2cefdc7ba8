"""Drift: whether the images of late are distributed otherwise than those that the bundle was validated on."""

import itertools
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_ray.bundle.reference import QUANTITIES, box_quantities
from brain_ray.scoring.shift import Shift, compare_with
from brain_ray.serving.answers import Prepared
from brain_ray.serving.schemas import Answer, Drift, DriftedQuantity

if TYPE_CHECKING:
    from brain_ray.bundle.predictor import Predictor

WINDOW = 300
"""Number of images of late that are compared with the reference."""

LEAST = 100
"""Smallest number of images that are compared."""

EVERY = 50
"""Number of images after which the comparison is made anew."""

LEVEL = 1e-4
"""Chance that one comparison alarms although nothing has changed. There are many, each of which counts."""

REQUEST: ContextVar[int] = ContextVar("request")
"""Number of the request that an image is of: its images are taken for a patient's, with one say together."""

numbers = itertools.count()
"""Numbers for requests."""


class DriftWatch:
    """The last images that a model answered, and what they are compared with."""

    def __init__(self, predictor: "Predictor") -> None:
        self._reference = predictor.reference
        stored = {} if predictor.reference is None else predictor.reference.quantities
        self._quantities = {name: stored[name] for name in QUANTITIES if name in stored}
        self._classes = predictor.classes
        self._model = predictor.id
        self._rows: deque[tuple[int, int, Mapping[str, float]]] = deque(maxlen=WINDOW)
        self._seen = 0
        self._shift: Shift | None = None

    def boundaries(self) -> dict[str, list[float]]:
        """Returns bounds for a histogram of each quantity: the deciles of the reference, as far as they
        differ."""
        deciles = np.linspace(0.1, 0.9, 9)
        named = self._quantities.items()
        return {name: np.unique(np.quantile(values, deciles)).tolist() for name, values in named}

    def add(self, prepared: Prepared, answer: Answer) -> tuple[dict[str, float], Shift | None]:
        """Takes an answered image in; returns its quantities, and the comparison if it was just made anew."""
        box, size = prepared.box, (prepared.height, prepared.width)
        boxes = box_quantities((box.top, box.bottom, box.left, box.right), size)
        row = dict(prepared.grey) | {name: float(values[0]) for name, values in boxes.items()}
        row |= {"unlikeness": answer.unlikeness, "confidence": answer.confidence}
        request = REQUEST.get(None)
        group = next(numbers) if request is None else request
        self._rows.append((group, self._classes.index(answer.label), row))
        self._seen += 1
        if self._reference is None or len(self._rows) < LEAST or self._seen % EVERY:
            return row, None
        found = {name: [one[name] for _, _, one in self._rows] for name in row}
        groups = [group for group, _, _ in self._rows]
        before, whose = self._quantities, self._reference.groups
        self._shift = compare_with(before, whose, found, groups, level=LEVEL, draws=0)
        return row, self._shift

    def tell(self) -> Drift:
        """Returns the last comparison, in words and figures."""
        shift, before = self._shift, None
        if self._reference is not None:
            before = self._reference.answer_shares(len(self._classes))
        facts: dict[str, Any] = {"model": self._model, "images": len(self._rows), "quantities": {}}
        facts["labels"] = self._shares()
        if before is not None:
            facts["reference_labels"] = dict(zip(self._classes, map(float, before), strict=True))
        if shift is None:
            return Drift(status="unknown", sentence=self._why_unknown(), **facts)
        facts["quantities"] = {
            name: DriftedQuantity(meaning=QUANTITIES[name], **found.model_dump())
            for name, found in shift.quantities.items()
        }
        return Drift(status="drifted" if shift.alarms else "steady", sentence=describe(shift), **facts)

    def _shares(self) -> dict[str, float]:
        labels = [label for _, label, _ in self._rows]
        return {name: labels.count(k) / max(1, len(labels)) for k, name in enumerate(self._classes)}

    def _why_unknown(self) -> str:
        if self._reference is None:
            return "The bundle is of an earlier version, which kept nothing to compare with."
        return f"{len(self._rows)} images so far: {LEAST} are compared with those of validation, or more."


def describe(shift: Shift) -> str:
    """Returns in sentences which quantities are distributed otherwise than in the reference."""
    start = (
        f"The last {shift.images} images, in {shift.groups} requests, against the "
        f"{shift.reference_images} of validation:"
    )
    alarms = shift.alarms
    if not alarms:
        return f"{start} none of {len(shift.quantities)} quantities differs by more than chance."
    named = "; ".join(
        f"{QUANTITIES[name]} (median {found.found[1]:.3g}, there {found.reference[1]:.3g})"
        for name, found in alarms.items()
    )
    return (
        f"{start} {len(alarms)} of {len(shift.quantities)} quantities differ by more than chance: {named}. "
        "What validation promises of errors need not hold for such images."
    )
