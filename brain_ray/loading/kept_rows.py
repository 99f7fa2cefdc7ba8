"""Rows that a process has lately used, kept for its next tasks: an epoch takes rows of all files in turn."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray

from brain_ray.data.parts import Part
from brain_ray.data.rows import ROW_COLUMNS
from brain_ray.loading.store import fetch

KEPT_S = 5.0
"""Seconds for which rows are kept after their last use; so long, the object store cannot free them."""


class PartRows:
    """Rows of one file, which share the memory of the object store."""

    def __init__(self, table: pa.Table) -> None:
        """Takes a file's table, each column in one piece."""
        columns = {name: table[name].chunk(0) for name in ROW_COLUMNS}
        numbers = [name for name, column in columns.items() if pa.types.is_integer(column.type)]
        self._numbers = {name: columns.pop(name).to_numpy() for name in numbers}  # faster than Arrow's
        self._others = columns

    def row(self, number: int) -> dict[str, Any]:
        """Returns a row's values by column."""
        row: dict[str, Any] = {name: column.item(number) for name, column in self._numbers.items()}
        for name, column in self._others.items():
            row[name] = column[number].as_py()
        return row


class KeptRows:
    """Files' rows that this process has lately used.

    Asking the `PartStore` and opening what it returns costs a task as much as decoding some ten images.
    """

    def __init__(self, kept_s: float = KEPT_S) -> None:
        """Keeps rows for `kept_s` seconds after their last use."""
        self._kept_s = kept_s
        self._kept: dict[tuple[int, str], tuple[float, PartRows]] = {}  # with the time of their last use
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def of(self, store: Any, parts: Sequence[Part]) -> list[PartRows]:
        """Returns the rows of files; those that are not kept, from the `PartStore` with this handle."""
        keys = [(hash(store), part.path) for part in parts]
        with self._lock:
            found = {key: self._kept[key][1] for key in keys if key in self._kept}
        missing = {key: part for key, part in zip(keys, parts, strict=True) if key not in found}
        if missing:
            tables = fetch(ray.get(store.get.remote(list(missing.values()))))
            found |= {key: PartRows(table) for key, table in zip(missing, tables, strict=True)}
        with self._lock:
            self._kept |= {key: (time.monotonic(), rows) for key, rows in found.items()}
            self._drop()
        return [found[key] for key in keys]

    def _drop(self) -> None:
        """Drops what was not used lately, and comes back while there is something left; under the lock."""
        oldest = time.monotonic() - self._kept_s
        self._kept = {key: kept for key, kept in self._kept.items() if kept[0] > oldest}
        if self._kept and self._timer is None:
            self._timer = threading.Timer(self._kept_s, self._come_back)
            self._timer.daemon = True
            self._timer.start()

    def _come_back(self) -> None:
        with self._lock:
            self._timer = None
            self._drop()


class KeptMasks:
    """Masks of the last training that this process has loaded for."""

    def __init__(self) -> None:
        self._kept: tuple[int, dict[str, bytes]] | None = None

    def of(self, store: Any) -> dict[str, bytes]:
        """Returns the masks, by the names of their images, of the `PartStore` with this handle."""
        kept, key = self._kept, hash(store)
        if kept is None or kept[0] != key:
            (table,) = fetch(ray.get(store.masks.remote()))
            names, masks = (table[name].to_pylist() for name in ("path", "mask"))
            kept = self._kept = key, dict(zip(names, masks, strict=True))
        return kept[1]
