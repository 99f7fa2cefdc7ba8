"""A bucket as a file system for what Ray itself reads and writes there, which it tries once."""

import io
from collections.abc import Sequence

import pyarrow as pa
from pyarrow import fs as pafs
from tenacity.wait import WaitBaseT

from brain_ray.storage_retries import WAIT, delete_file, delete_folder, patiently, read_file, write_file


def patient(found: pafs.FileSystem, wait: WaitBaseT = WAIT) -> pafs.FileSystem:
    """Returns a file system that does everything again after errors that pass; a disk is returned as it is.

    Ray Train ends a training if its own list of checkpoints cannot be written at once, and Ray Data an
    execution if a folder cannot be listed. A file that is written, or read as a stream, is held as a whole.
    """
    return found if isinstance(found, pafs.LocalFileSystem) else pafs.PyFileSystem(_Patient(found, wait))


class _Patient(pafs.FileSystemHandler):  # type: ignore[misc]
    """What `patient` does, in the form that Arrow asks for."""

    def __init__(self, found: pafs.FileSystem, wait: WaitBaseT) -> None:
        self.found, self.wait = found, wait

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Patient) and bool(self.found == other.found)

    def __hash__(self) -> int:
        return hash(self.found.type_name)

    def get_type_name(self) -> str:
        return str(self.found.type_name)

    def normalize_path(self, path: str) -> str:
        return str(self.found.normalize_path(path))

    def get_file_info(self, paths: Sequence[str]) -> list[pafs.FileInfo]:
        return list(patiently(self.wait)(self.found.get_file_info, paths))

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        return list(patiently(self.wait)(self.found.get_file_info, selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        patiently(self.wait)(self.found.create_dir, path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        delete_folder(self.found, path, self.wait)

    def delete_file(self, path: str) -> None:
        delete_file(self.found, path, self.wait)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        patiently(self.wait)(self.found.delete_dir_contents, path, missing_dir_ok=missing_dir_ok)

    def copy_file(self, source: str, target: str) -> None:
        patiently(self.wait)(self.found.copy_file, source, target)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return patiently(self.wait)(self.found.open_input_file, path)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(patiently(self.wait)(read_file, self.found, path))

    def open_output_stream(self, path: str, metadata: object) -> pa.NativeFile:
        return pa.PythonFile(_Whole(self, path), mode="w")

    def open_append_stream(self, path: str, metadata: object) -> pa.NativeFile:
        raise NotImplementedError(f"a bucket's files do not grow: {path}")

    def move(self, source: str, target: str) -> None:
        raise NotImplementedError(f"Ray moves nothing: {source}")  # a bucket would copy and delete

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError("Ray empties no bucket")


class _Whole(io.BytesIO):
    """A file that is written when it is closed."""

    def __init__(self, storage: _Patient, path: str) -> None:
        super().__init__()
        self._storage, self._path = storage, path

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            patiently(self._storage.wait)(write_file, self._storage.found, self._path, data)
