"""Rows that a process keeps: the same as its files', asked for once, and given back in the end."""

import time
import weakref
from typing import Any

import pyarrow as pa
import ray

from brain_ray.data.parts import Part
from brain_ray.data.rows import ROW_COLUMNS, ROW_SCHEMA
from brain_ray.loading.kept_rows import KeptRows, PartRows


def table_of(*labels: int) -> pa.Table:
    names = [name for name in ROW_COLUMNS if name not in ("label", "path", "bytes")]
    columns = {name: [10 * number + label for label in labels] for number, name in enumerate(names)}
    columns |= {"label": labels, "path": [f"{label}.jpg" for label in labels]}
    columns |= {"bytes": [bytes([label] * 3) for label in labels]}
    return pa.table(columns, schema=pa.schema([ROW_SCHEMA.field(name) for name in columns]))


@ray.remote(num_cpus=0)
class Store:
    """Gives tables as the `PartStore` does, and counts what it was asked for."""

    def __init__(self, **tables: pa.Table) -> None:
        self._references = {path: ray.put(table) for path, table in tables.items()}
        self._asked: list[str] = []

    def get(self, parts: list[Part]) -> list[Any]:
        self._asked += [part.path for part in parts]
        return [self._references[part.path] for part in parts]

    def asked(self) -> list[str]:
        return self._asked


def parts(*paths: str) -> list[Part]:
    return [Part(path, 2, 100) for path in paths]


def test_a_row_has_the_values_of_its_table() -> None:
    table = table_of(3, 1, 2)
    rows = PartRows(table)
    assert [rows.row(number) for number in range(3)] == table.to_pylist()
    assert type(rows.row(0)["label"]) is int


def test_a_store_is_asked_once_for_what_is_used_again(ray_cluster: None) -> None:
    store = Store.remote(a=table_of(1), b=table_of(2), c=table_of(3))
    kept = KeptRows()
    labels = [
        [rows.row(0)["label"] for rows in kept.of(store, parts(*names))] for names in ("ab", "cb", "ca")
    ]
    assert labels == [[1, 2], [3, 2], [3, 1]]
    assert ray.get(store.asked.remote()) == ["a", "b", "c"]


def test_two_stores_with_the_same_paths_are_told_apart(ray_cluster: None) -> None:
    kept = KeptRows()
    stores = [Store.remote(a=table_of(label)) for label in (1, 2)]
    assert [kept.of(store, parts("a"))[0].row(0)["label"] for store in (*stores, *stores)] == [1, 2, 1, 2]


def test_rows_are_given_back_though_no_task_follows(ray_cluster: None) -> None:
    store = Store.remote(a=table_of(1))
    kept = KeptRows(kept_s=0.2)
    rows = weakref.ref(kept.of(store, parts("a"))[0])
    deadline = time.monotonic() + 10
    while rows() is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert rows() is None
    kept.of(store, parts("a"))
    assert ray.get(store.asked.remote()) == ["a", "a"]


def test_what_is_used_again_in_time_stays(ray_cluster: None) -> None:
    store = Store.remote(a=table_of(1), b=table_of(2))
    kept = KeptRows(kept_s=2.0)
    kept.of(store, parts("a", "b"))
    for _ in range(5):
        time.sleep(0.5)
        kept.of(store, parts("a"))
    kept.of(store, parts("b"))
    assert ray.get(store.asked.remote()) == ["a", "b", "b"]
