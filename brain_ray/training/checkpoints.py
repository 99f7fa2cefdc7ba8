"""A training state as files with hashes: written, read, the newest sound one found."""

import io
import json
import os
from collections.abc import Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import fs as pafs

from brain_ray.records import from_json, to_json
from brain_ray.runs import TRAIN, Run
from brain_ray.storage_retries import delete_file, delete_folder, patiently, read_file
from brain_ray.tracking.history import EpochRecord
from brain_ray.training.commands import ControlState
from brain_ray.training.dwell import DwellState
from brain_ray.training.framework import Arrays
from brain_ray.training.state import Begun, TrainState

ARRAYS, VALUES, MANIFEST = "state.npz", "state.json", "manifest.json"

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's own list of a run's checkpoints."""


PIECE = 2**24
"""Bytes of a file that are read at a time."""


class UnsoundError(ValueError):
    """A checkpoint that is damaged or incomplete; its text says how."""


def write(folder: Path, state: TrainState) -> None:
    """Writes a state into a local folder; the manifest with the other files' SHA-256 comes last.

    Arrays go to the file one by one: B7 with Adam and a moving average has 1.3 GB of them, which are not held
    twice.
    """
    groups = {**state.learner, "best": state.best}
    if state.val_probabilities is not None:
        groups["answers"] = [state.val_probabilities]
    arrays = {f"{group}/{i}": array for group, members in groups.items() for i, array in enumerate(members)}
    values = {
        "dwell": state.dwell.to_json(),
        "history": [record.to_json() for record in state.history],
        "orders": state.control.to_json(),
        "begun": None if state.begun is None else to_json(state.begun),
        "groups": list(groups),
    }
    np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]  # uncompressed: weights do not compress
    (folder / VALUES).write_text(json.dumps(values, allow_nan=False))
    manifest = {"epoch": state.epoch, "files": {name: _digest(folder / name) for name in (ARRAYS, VALUES)}}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def read(filesystem: pafs.FileSystem, folder: str) -> TrainState:
    """Reads a state from a folder of a filesystem, by way of a local copy: its arrays are not held twice.

    Raises:
        UnsoundError: as `check`.
    """
    with TemporaryDirectory() as name:
        copy = Path(name)
        check(filesystem, folder, copy)
        values = json.loads((copy / VALUES).read_bytes())
        arrays: dict[str, Arrays] = {group: [] for group in values["groups"]}
        with np.load(copy / ARRAYS) as stored:
            for key in stored.files:  # in the order in which they were written
                arrays[key.partition("/")[0]].append(stored[key])
    best = arrays.pop("best")
    val_probabilities = arrays.pop("answers", [None])[0]
    history = tuple(EpochRecord.from_json(record) for record in values["history"])
    control = ControlState(**values["orders"])
    begun = values.get("begun")  # earlier versions wrote none
    return TrainState(
        arrays,
        best,
        DwellState.from_json(values["dwell"]),
        history,
        control,
        val_probabilities,
        None if begun is None else from_json(Begun, begun),
    )


def check(filesystem: pafs.FileSystem, folder: str, copy: Path | None = None) -> None:
    """Compares a checkpoint's files with its manifest, and copies them into a local folder if one is given.

    Raises:
        UnsoundError: a file is missing, or is not the one that the manifest lists.
    """
    try:
        manifest = patiently()(read_file, filesystem, f"{folder}/{MANIFEST}")
        found = {
            name: patiently()(
                _copy, filesystem, f"{folder}/{name}", Path(os.devnull) if copy is None else copy / name
            )
            for name in (ARRAYS, VALUES)
        }
    except FileNotFoundError as error:
        raise UnsoundError(f"a file of {folder} is missing: {error}") from error
    try:
        expected = json.loads(manifest)["files"]
    except (ValueError, KeyError) as error:
        raise UnsoundError(f"{folder}/{MANIFEST} is cut short: {error}") from error
    for name, digest in found.items():
        if digest != expected.get(name):
            raise UnsoundError(f"{folder}/{name} is not the file that its manifest lists")


def newest(run: Run) -> tuple[TrainState | None, list[str]]:
    """Returns the newest sound checkpoint of a run, if any, and what is wrong with those passed over.

    It looks into the folders instead of asking Ray, whose list knows nothing of files cut short and can be
    cut short itself.
    """
    faults: list[str] = []
    for folder in reversed(checkpoint_folders(run)):  # their names are times
        try:
            return read(run.fs, folder), faults
        except UnsoundError as error:
            faults.append(str(error))
    return None, faults


def checkpoint_folders(run: Run) -> list[str]:
    """Returns the paths of a run's checkpoints within its filesystem, oldest first."""
    names = run.list_folders(TRAIN)
    return [run.path(TRAIN, name) for name in names if name.startswith("checkpoint_")]


def repair(run: Run) -> list[str]:
    """Deletes what a training cannot go on from; returns what was wrong.

    Checkpoints cut short are deleted; so is Ray's list of them where it is cut short or names one that is
    gone, since Ray would refuse it or hand out what it names. Sound checkpoints stay.
    """
    faults = []
    for folder in checkpoint_folders(run):
        try:
            check(run.fs, folder)
        except UnsoundError as error:
            faults.append(str(error))
            delete_folder(run.fs, folder)
    if run.exists(TRAIN, SNAPSHOT):
        try:
            listed = run.read_json(TRAIN, SNAPSHOT)["checkpoint_results"]
            names = [entry["checkpoint_dir_name"] for entry in listed]
            missing = [name for name in names if not run.exists(TRAIN, name)]
            fault = f"names {', '.join(missing)}, which is gone" if missing else ""
        except (ValueError, KeyError, TypeError) as error:
            fault = f"is cut short: {error}"
        if fault:
            faults.append(f"{run.uri('train', SNAPSHOT)} {fault}")
            delete_file(run.fs, run.path(TRAIN, SNAPSHOT))
    return faults


def prune(run: Run, keep: int) -> None:
    """Deletes all but the `keep` newest checkpoints, also those that are not in Ray's list."""
    folders = checkpoint_folders(run)
    for folder in folders[: max(0, len(folders) - keep)]:
        delete_folder(run.fs, folder)


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Returns arrays as the bytes of an uncompressed .npz; weights do not compress."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _copy(filesystem: pafs.FileSystem, path: str, target: Path) -> str:
    """Copies a file piece by piece; returns its SHA-256."""
    digest = sha256()
    with filesystem.open_input_stream(path, compression=None) as stream, target.open("wb") as file:
        while piece := stream.read(PIECE):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()
