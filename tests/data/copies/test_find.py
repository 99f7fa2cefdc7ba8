"""The search over all scanned images: copies, near misses, chains of neighbouring slices, equal pixels."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray.data
from support.slices import Grey, moved, slice_of, views_of

from brain_ray.arrays import fixed_size
from brain_ray.data.copies.candidates import index, search
from brain_ray.data.copies.find import find_copies
from brain_ray.data.copies.verification import MARGIN, verify


def scanned(images: list[Grey], block: int = 16) -> tuple[ray.data.Dataset, pd.DataFrame]:
    views = views_of(images)
    found = index(views)
    heads = np.tile(np.array([100, 100, 120], np.float32), (len(images), 2, 1))
    columns = {"views": views, "heads": heads, "embeddings": found.embeddings, "spectra": found.packed}
    table = pa.table({name: fixed_size(column) for name, column in columns.items()})
    for name, value in (("image_id", np.arange(len(images))), ("width", 200), ("height", 200)):
        table = table.append_column(name, pa.array(np.broadcast_to(value, len(images))))
    hashes = [str(hash(image.tobytes())) for image in images]
    manifest = pd.DataFrame(
        {
            "image_id": range(len(images)),
            "path": [f"{k}.png" for k in range(len(images))],
            "class_name": "glioma",
            "source_split": "train",
            "pixel_sha256": hashes,
            "file_sha256": [f"file{k}" for k in range(len(images))],
        }
    )
    blocks = [table.slice(k, block) for k in range(0, len(images), block)]
    return ray.data.from_blocks(blocks), manifest


@pytest.mark.parametrize("threshold", [0.93, 0.97])
def test_copies_and_near_misses_follow_the_threshold(threshold: float, ray_cluster: None) -> None:
    images = [slice_of(seed) for seed in range(8)]
    images += [slice_of(seed, height=0.1 + 0.07 * seed) for seed in range(8)]
    pairs, near_misses = find_copies(*scanned(images, 5), threshold)
    views = views_of(images)
    every = verify(views, search(index(views)), threshold)
    copies = every.similarity >= threshold
    assert 0 < copies.sum() < 8
    assert set(zip(pairs["a"], pairs["b"], strict=True)) == set(
        zip(every.a[copies].tolist(), every.b[copies].tolist(), strict=True)
    )
    assert near_misses == (~copies).sum()
    assert every.similarity.min() >= threshold - MARGIN


def test_chains_of_neighbouring_slices_are_told_from_copies(ray_cluster: None) -> None:
    volume = [slice_of(1, height=0.1 * k) for k in range(12)]
    copies = [moved(slice_of(2), degrees) for degrees in (0, 4, 8)]
    pairs, _ = find_copies(*scanned([*volume, *copies]), 0.95)
    chained = pairs[pairs["chain"]]
    assert set(chained["a"]) | set(chained["b"]) == set(range(12))
    rest = pairs[~pairs["chain"]]
    assert set(rest["a"]) | set(rest["b"]) == {12, 13, 14}


def test_equal_pixels_are_copies_even_of_uniform_images(ray_cluster: None) -> None:
    blank = np.zeros((200, 200), np.uint8)
    images = [slice_of(1), blank, blank, slice_of(2), blank, slice_of(1)]
    pairs, near_misses = find_copies(*scanned(images, 2), 0.97)
    assert list(zip(pairs["a"], pairs["b"], strict=True)) == [(0, 5), (1, 2), (2, 4)]
    assert (pairs["kind"] == "same pixels").all()
    assert (pairs["similarity"] == 1).all()
    assert (pairs["view"] == "whole").all()
    assert not pairs["chain"].any()
    assert near_misses == 0
