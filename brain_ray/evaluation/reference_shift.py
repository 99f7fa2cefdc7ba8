"""Shift of scored images against a bundle's reference, and how it is told."""

import numpy as np
import pandas as pd

from brain_ray.bundle.bundle import Bundle
from brain_ray.bundle.reference import QUANTITIES, reference_of
from brain_ray.evaluation.robustness import choose_images
from brain_ray.scoring.shift import Shift, compare_with

MAX_IMAGES = 5000
"""Largest number of images that are compared with the reference; of more, groups are drawn."""


def compare_with_reference(bundle: Bundle, images: pd.DataFrame, seed: int) -> Shift | None:
    """Compares images with the validation images of a bundle; None for a bundle of an earlier version.

    Args:
        bundle: an opened bundle.
        images: table with group and the columns `reference.QUANTITIES`.
        seed: seed of what is drawn.
    """
    reference = reference_of(bundle)
    if reference is None:
        return None
    chosen = images.iloc[choose_images(images["group"], MAX_IMAGES, seed)]
    found = {name: chosen[name].to_numpy(np.float64) for name in QUANTITIES}
    return compare_with(reference.quantities, reference.groups, found, chosen["group"], seed)


def describe_shift(shift: Shift) -> str:
    """Returns in sentences which quantities are distributed otherwise than in the reference."""
    alarms = shift.alarms
    start = (
        f"{shift.images} images in {shift.groups} groups against the {shift.reference_images} validation "
        f"images in {shift.reference_groups} groups that the bundle's thresholds come from: "
    )
    if not alarms:
        return (
            f"{start}none of {len(shift.quantities)} quantities is distributed otherwise by more than "
            "chance. That is no proof that the images are alike"
        )
    named = "; ".join(
        f"{QUANTITIES[name]} (median {_short(found.found[1])}, there {_short(found.reference[1])}; distance "
        f"{found.distance:.2f}, by chance up to {found.by_chance:.2f})"
        for name, found in alarms.items()
    )
    return (
        f"{start}{len(alarms)} of {len(shift.quantities)} quantities are distributed otherwise: {named}. "
        "What validation promises of errors and candidates need not hold here"
    )


def shift_rows(shift: Shift) -> list[tuple[str, str, str, str, str, bool]]:
    """Returns table rows: meaning, quartiles of the reference and of the images, distance, by chance, whether
    it alarms."""
    return [
        (
            QUANTITIES[name],
            " – ".join(map(_short, found.reference)),
            " – ".join(map(_short, found.found)),
            f"{found.distance:.2f}",
            f"{found.by_chance:.2f}",
            found.alarms,
        )
        for name, found in shift.quantities.items()
    ]


def _short(value: float) -> str:
    return f"{value:.3g}"
