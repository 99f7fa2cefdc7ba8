"""Images without an answer, kept for people to label: files as they were sent, in a folder or a bucket."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from pyarrow import fs as pafs
from pydantic import BaseModel

from brain_ray.data.decoding import CheckedFile
from brain_ray.data.file_checks import nifti
from brain_ray.data.formats import FORMATS, format_of
from brain_ray.errors import RunError
from brain_ray.logs import log
from brain_ray.serving.config import ServingConfig
from brain_ray.serving.counts import Counts
from brain_ray.serving.drift import REQUEST
from brain_ray.serving.model_runs import run_in
from brain_ray.serving.schemas import Answer
from brain_ray.serving.uploads import Upload
from brain_ray.storage import describe_os_error, filesystem, storage_errors
from brain_ray.storage_retries import read_file, write_file

WAITING_SHARE = 0.25
"""Share of `max_held_mb` that files waiting to be written may take; more are not kept."""

NAME_DIGITS = 32
"""Hexadecimal digits of a file's SHA-256 in its name."""


class Withheld(BaseModel):
    """An image of a kept file, without its sender's name for it."""

    image: int | None
    """Its number in its file; None: it is alone there."""
    decision: str
    """`answer` if only the answer to its patient was withheld."""
    patient_decision: str | None = None
    """That of its patient, if it was withheld and this image carries it."""
    label: str
    candidates: list[str] | None
    confidence: float
    calibrated: dict[str, float]
    unlikeness: float


class Record(BaseModel):
    """What is written beside a kept file."""

    file: str
    """The file's name: the first half of its SHA-256, and the usual suffix of its format."""
    kept_at: datetime
    request: str
    """Random, the same for all files of a request."""
    model: str
    """Id of the model."""
    images: list[Withheld]


def describe(answer: Answer, image: int | None = None, patient_decision: str | None = None) -> Withheld:
    """Returns what is kept of an answer."""
    facts = answer.model_dump(include=set(Withheld.model_fields))
    return Withheld(image=image, patient_decision=patient_decision, **facts)


def open_folder(location: str) -> tuple[pafs.FileSystem, str]:
    """Opens the folder for kept files, makes it if need be, and sees that it can be written.

    A folder of this machine is made for its user alone.

    Raises:
        RunError: it cannot be written.
    """
    fs, folder = filesystem(location)
    with storage_errors(f"keep images for review in {location}"):
        if isinstance(fs, pafs.LocalFileSystem):
            _make_private(folder)
        else:
            fs.create_dir(folder, recursive=True)
        probe = f"{folder}/.probe-{secrets.token_hex(4)}"
        write_file(fs, probe, b"")
        fs.delete_file(probe)
    return fs, folder


class Review:
    """A replica's folder for images without an answer. Keeping one delays no answer, and costs none."""

    def __init__(
        self,
        config: ServingConfig,
        hold: Callable[[int], AbstractContextManager[None]],
        counts: Counts,
    ) -> None:
        """Opens the folder.

        Args:
            config: settings of the endpoint, with a folder.
            hold: context in which a number of bytes counts as held by the replica.
            counts: metrics.

        Raises:
            RunError: it cannot be written.
        """
        assert config.review is not None
        self._fs, self._folder = open_folder(config.review)
        self._max_bytes = 1e6 * config.max_review_mb
        self._max_waiting = WAITING_SHARE * 1e6 * config.max_held_mb
        self._hold, self._counts = hold, counts
        files = [info for info in self._fs.get_file_info(pafs.FileSelector(self._folder)) if info.is_file]
        self._names = {info.base_name for info in files}
        self._bytes = sum(info.size or 0 for info in files)
        self._waiting = 0
        self._session = secrets.token_hex(4)
        self._failing = False
        self._thread = ThreadPoolExecutor(1, "review")
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, upload: Upload, model: str, images: Sequence[Withheld]) -> None:
        """Begins to write a file and what is said of its images; called in the event loop.

        A file that is there already is not written again, and one for which there is no room is not kept.
        """
        data = upload.data.data if isinstance(upload.data, CheckedFile) else upload.data
        assert isinstance(data, bytes), "what could not be read has no answer"
        if self._waiting + len(data) > self._max_waiting:
            self._counts.reviewed("no_room")
            return
        found = format_of(data, FORMATS.values())
        suffix = found.suffixes[0] if found else ""
        if suffix == ".nii" and data.startswith(nifti.PACKED):
            suffix = ".nii.gz"
        task = asyncio.create_task(self._keep(data, suffix, model, images))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, data: bytes, suffix: str, model: str, images: Sequence[Withheld]) -> None:
        request = f"{self._session}-{REQUEST.get(0)}"
        self._waiting += len(data)
        try:
            with self._hold(len(data)):
                outcome = await run_in(self._thread, self._write, data, suffix, request, model, images)
        finally:
            self._waiting -= len(data)
        self._counts.reviewed(outcome)

    def _write(self, data: bytes, suffix: str, request: str, model: str, images: Sequence[Withheld]) -> str:
        """Writes a file and its record; returns what came of it, for metrics."""
        digest = hashlib.sha256(data).hexdigest()[:NAME_DIGITS]
        name, record_name = f"{digest}{suffix}", f"{digest}.json"
        if record_name in self._names:
            return "known"
        now = datetime.now(UTC).replace(microsecond=0)
        record = Record(file=name, kept_at=now, request=request, model=model, images=list(images))
        text = record.model_dump_json(indent=1).encode()
        if self._bytes + len(data) + len(text) > self._max_bytes:
            return "no_room"
        try:
            write_file(self._fs, f"{self._folder}/{name}", data)
            write_file(self._fs, f"{self._folder}/{record_name}", text)  # with which the file counts
        except OSError as error:
            if not self._failing:
                log.warning(f"images are not kept for review any more: {describe_os_error(error)}")
            self._failing = True
            return "failed"
        if self._failing:
            log.info("images are kept for review again")
        self._failing = False
        self._bytes += len(data) + len(text)
        self._names.add(record_name)
        return "kept"


def read_records(location: str) -> tuple[list[Record], int]:
    """Returns the records of a folder, the earliest first, and the number of those that are damaged.

    Raises:
        RunError: there is no such folder, or it cannot be read.
    """
    fs, folder = filesystem(location)
    records: list[Record] = []
    damaged = 0
    with storage_errors(f"read {location}"):
        if fs.get_file_info(folder).type != pafs.FileType.Directory:
            raise RunError(f"{location} is no folder: expected the one of the endpoint's setting `review`")
        files = {info.base_name for info in fs.get_file_info(pafs.FileSelector(folder)) if info.is_file}
        for name in sorted(name for name in files if name.endswith(".json")):
            try:
                record = Record.model_validate_json(read_file(fs, f"{folder}/{name}"))
            except ValueError:
                damaged += 1
                continue
            damaged += record.file not in files
            records += [record] if record.file in files else []
    return sorted(records, key=lambda record: (record.kept_at, record.file)), damaged


def _make_private(folder: str) -> None:
    path = Path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
