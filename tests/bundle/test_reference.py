"""A bundle's reference: what its validation images are like, in a few numbers."""

from pathlib import Path

import numpy as np
import pytest
from support.models import noise

from brain_ray.bundle.bundle import REFERENCE_FILE, load_bundle
from brain_ray.bundle.predictor import Predictor
from brain_ray.bundle.reference import ANSWER, QUANTITIES, Reference, box_quantities, grey_quantities
from brain_ray.bundle.schema import BundleInfo


def test_grey_quantities_are_of_the_levels() -> None:
    board = np.zeros((2, 4, 4, 1), np.uint8)
    board[1, :, ::2] = 200  # columns of 200 and 0
    found = grey_quantities(board)
    assert found["grey_mean"].tolist() == [0, 100]
    assert found["grey_spread"].tolist() == [0, 100]
    assert found["grey_dark"].tolist() == [1, 0.5]
    assert found["grey_detail"].tolist() == [0, 100], "all steps to the right are of 200, those down of 0"
    assert grey_quantities(board[:0])["grey_mean"].shape == (0,)


def test_box_quantities_are_of_rows_and_columns() -> None:
    found = box_quantities([[10, 60, 0, 100], [0, 10, 0, 5]], [[100, 100], [10, 5]])
    assert found["box_share"].tolist() == [0.5, 1]
    assert found["box_aspect"].tolist() == [0.5, 2]


def test_groups_are_numbered_and_not_named() -> None:
    made = Reference.of(["P7", "P2", "P7", "P9"], {"confidence": [0.5, 1, 0.25, 1]})
    assert made.groups.tolist() == [0, 1, 0, 2]
    again = Reference.from_bytes(made.to_bytes())
    assert again.groups.tolist() == made.groups.tolist()
    assert again.quantities["confidence"].tolist() == [0.5, 1, 0.25, 1]
    assert b"P7" not in made.to_bytes()


def test_the_bundle_holds_what_its_predictor_says_of_the_validation_images(
    exported: tuple[Path, BundleInfo],
) -> None:
    folder, _ = exported
    reference = Reference.from_bytes(load_bundle(str(folder)).read(REFERENCE_FILE))
    found = Predictor(str(folder), 1).predict(noise(24))
    values = reference.quantities
    assert set(values) == set(QUANTITIES) - {"box_share", "box_aspect"} | {ANSWER}, "no boxes were given"
    assert reference.groups.tolist() == list(range(24))
    np.testing.assert_allclose(values["confidence"], found.calibrated.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(values["unlikeness"], found.unlikeness, rtol=1e-4)
    assert values["grey_mean"] == pytest.approx(noise(24).reshape(24, -1).mean(axis=1), rel=1e-5)
