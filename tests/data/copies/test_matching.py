"""A match tells the pose, and how alike two views are in it after small changes."""

import numpy as np
import pytest
from support.slices import Grey, moved, slice_of, views_of

from brain_ray.data.copies import matching, spectra

COUNT = 8


def compare(change_degrees: float, mirror: bool = False, **change: float) -> matching.Matches:
    def changed(image: Grey) -> Grey:
        found = moved(image, change_degrees, **change)
        return np.ascontiguousarray(found[::-1]) if mirror else found

    originals = [slice_of(seed) for seed in range(COUNT)]
    one, other = (
        spectra.transform(views_of(images)[:, 0])
        for images in (originals, [changed(image) for image in originals])
    )
    rows = np.arange(COUNT)
    return matching.match(matching.prepare(one), matching.coarsen(other), rows, rows, 0.5)


@pytest.mark.parametrize("degrees", [0, 4, -90, 130])
@pytest.mark.parametrize("mirror", [False, True])
def test_the_angle_and_the_mirror_are_found(degrees: float, mirror: bool) -> None:
    found = compare(degrees, mirror)
    assert (found.mirrored == mirror).all()
    off = (np.degrees(found.angle) + degrees + 180) % 360 - 180  # y is downwards: angles are clockwise
    assert np.abs(off).max() < 1.5
    assert found.changed.min() > 0.93


@pytest.mark.parametrize("change", [{"zoom": 1.04}, {"right": 0.02, "down": 0.015}])
def test_small_changes_of_the_frame_are_forgiven(change: dict[str, float]) -> None:
    views = views_of([slice_of(seed) for seed in range(COUNT)])[:, 0]
    shifted = np.stack([moved(view, **change) for view in views])
    rows = np.arange(COUNT)
    one, other = spectra.transform(views), spectra.transform(shifted)
    found = matching.match(matching.prepare(one), matching.coarsen(other), rows, rows, 0.3)
    before = (spectra.as_real(matching.coarsen(one)) * spectra.as_real(matching.coarsen(other))).sum(axis=1)
    assert (found.changed > before).all()
    assert found.changed.min() > 0.9


def test_different_slices_are_not_alike_after_small_changes() -> None:
    views = spectra.transform(views_of([slice_of(seed) for seed in range(COUNT)])[:, 0])
    a, b = np.triu_indices(COUNT, 1)
    found = matching.match(matching.prepare(views), matching.coarsen(views), a, b, 0.0)
    assert found.changed.max() < 0.84


def test_changes_are_only_tried_from_a_correlation_on() -> None:
    views = spectra.transform(views_of([slice_of(seed) for seed in range(COUNT)])[:, 0])
    a, b = np.triu_indices(COUNT, 1)
    assert not matching.match(matching.prepare(views), matching.coarsen(views), a, b, 0.99).changed.any()
