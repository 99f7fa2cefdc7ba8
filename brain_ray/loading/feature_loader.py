"""Loader of cached features, which need no decoding: batches from the files that `cache_features` wrote."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from brain_ray.loading.loader import Batch, Loader
from brain_ray.loading.sampler import Step, locate


@dataclass(frozen=True)
class FeatureLoader(Loader):
    """Loader of one split's features."""

    def batches(
        self, epoch: int | None, rank: int = 0, num_workers: int = 1, first: int = 0
    ) -> Iterator[Batch]:
        """Yields one worker's batches from the step `first` on; `epoch` gives their order (None: the rows'
        own)."""
        windows = self._windows(self.steps(epoch, rank, num_workers, first))
        ahead = next(windows, None)
        while ahead is not None:
            now, ahead = ahead, next(windows, None)  # whose files are read meanwhile
            yield from self._load(*now)

    def _windows(self, steps: Iterable[Step]) -> Iterator[tuple[list[Step], dict[int, Any]]]:
        """Splits steps into runs of about a window's rows; yields each with the references of its parts."""
        window: list[Step] = []
        rows, most = 0, self.window
        for step in steps:
            if window and rows + step.total > most:
                yield window, self._references(window)
                window, rows = [], 0
            window.append(step)
            rows += step.total
        if window:
            yield window, self._references(window)

    def _references(self, steps: Sequence[Step]) -> dict[int, Any]:
        counts = [part.num_rows for part in self.parts]
        needed = np.unique(locate(np.concatenate([step.rows for step in steps]), counts)[0]).tolist()
        references = ray.get(self.store.get.remote([self.parts[part] for part in needed]))
        return dict(zip(needed, references, strict=True))

    def _load(self, steps: Sequence[Step], references: dict[int, Any]) -> Iterator[Batch]:
        tables: dict[int, pa.Table] = dict(zip(references, ray.get(list(references.values())), strict=True))
        features = {part: _as_matrix(table["features"]) for part, table in tables.items()}
        labels = {part: table["label"].to_numpy() for part, table in tables.items()}
        counts = [part.num_rows for part in self.parts]
        for step in steps:
            parts, rows = locate(step.rows, counts)
            pairs = list(zip(parts.tolist(), rows.tolist(), strict=True))
            yield Batch(
                np.stack([features[part][row] for part, row in pairs]),
                np.array([labels[part][row] for part, row in pairs]),
                np.full(len(step.rows), step.weight, np.float32),
                step.total,
                step.largest,
            )


def _as_matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    array = column.combine_chunks()
    values = array.storage.flatten() if isinstance(array, pa.ExtensionArray) else array.flatten()
    matrix: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return matrix
