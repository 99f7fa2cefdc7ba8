"""Embeddings compare views in every position at once; spectra are stored in small integers."""

import numpy as np
import pytest
from support.slices import moved, slice_of, views_of

from brain_ray.data.copies import spectra

VIEWS = views_of([slice_of(seed) for seed in range(12)])[:, 0]


def embed(views: np.ndarray) -> np.ndarray:
    return spectra.embed(spectra.transform(np.ascontiguousarray(views)))


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_embeddings_do_not_change_with_orientation(quarters: int, mirror: bool) -> None:
    other = np.rot90(VIEWS, quarters, axes=(1, 2))
    other = other[:, :, ::-1] if mirror else other
    assert (embed(VIEWS) * embed(other)).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("degrees", [10, 37])
def test_embeddings_hardly_change_with_other_turns(degrees: float) -> None:
    turned = views_of([moved(slice_of(seed), degrees) for seed in range(12)])[:, 0]
    assert (embed(VIEWS) * embed(turned)).sum(axis=1).min() > 0.95


def test_embeddings_of_different_slices_differ() -> None:
    products = embed(VIEWS) @ embed(VIEWS).T
    assert np.allclose(np.diag(products), 1, atol=1e-5)
    np.fill_diagonal(products, 0)
    assert products.max() < 0.74


def test_a_uniform_view_resembles_nothing() -> None:
    found = spectra.transform(np.full((1, 64, 64), 128, np.uint8))
    assert not found.any()
    assert not spectra.embed(found).any()


def test_no_views_have_no_spectra() -> None:
    none = spectra.transform(np.empty((0, 64, 64), np.uint8))
    assert len(none) == len(spectra.embed(none)) == len(spectra.unpack(spectra.pack(none))) == 0


def test_packed_spectra_are_nearly_the_same() -> None:
    found = spectra.transform(VIEWS)
    packed = spectra.pack(found)
    assert (packed.dtype, packed.shape) == (np.int8, (12, spectra.PACKED_SIZE))
    products = spectra.as_real(found) * spectra.as_real(spectra.unpack(packed))
    assert products.sum(axis=1).min() > 0.995
