"""Bodies of /v1/studies -> files: forms, zip archives, DICOMweb's multipart/related, or one file."""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.datastructures import Headers

from brain_ray.data.file_names import is_no_image
from brain_ray.data.formats import HEAD_BYTES
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.uploads import (
    Upload,
    clean_name,
    content_type_of,
    damaged_form,
    find_boundary,
    is_image,
    parse_form,
    parse_uploads,
    too_large,
    too_many,
)

ZIP = b"PK\x03\x04"
"""Beginning of a zip archive."""

ZIP_TYPES = ("application/zip", "application/x-zip-compressed")

OTHER_ENTRIES = 1000
"""Largest number of entries of all archives beside as many files as a study may have: folders, texts."""

_ENTRY = b"PK\x01\x02"
"""Beginning of an entry in an archive's list."""


@dataclass(frozen=True)
class StudyFiles:
    """Files of a study as they came, those of archives still packed."""

    num_files: int
    num_bytes: int
    """Size of them all, unpacked, by the archives' lists."""
    unpack: Callable[[], list[Upload]]
    """Returns the files, in order, or raises a `ProblemError`: an archive is damaged."""


def parse_study(headers: Headers, body: bytes, max_files: int, max_bytes: int) -> StudyFiles:
    """Returns the files of a study; archives are counted by their lists, and not unpacked yet.

    Args:
        headers: the request's headers.
        body: the request's body.
        max_files: largest number of files.
        max_bytes: largest size of them all together, unpacked.

    Raises:
        ProblemError: `no_image`, `too_large`, `too_many_images`, `bad_request`, `not_an_image`.
    """
    content_type, kind = content_type_of(headers)
    if kind in ZIP_TYPES or (kind != "multipart/form-data" and body.startswith(ZIP)):
        uploads = [Upload("archive", body)]
    elif kind == "multipart/related":
        uploads = list(_parse_related(content_type, body, max_files))
    elif kind == "multipart/form-data":
        uploads = parse_form(content_type, body, max_files)
    else:
        uploads = parse_uploads(headers, body, max_files)
    num_files = num_bytes = num_entries = 0
    archives: set[int] = set()
    for i, upload in enumerate(uploads):
        assert isinstance(upload.data, bytes)
        sizes = [upload.num_bytes]
        if upload.data.startswith(ZIP) or kind in ZIP_TYPES:
            archives.add(i)
            # Counted before the list is read, whose entries would each cost a kilobyte of memory.
            num_entries += upload.data.count(_ENTRY)
            if num_entries > max_files + OTHER_ENTRIES:
                raise too_many(max_files)
            with _open(upload.data) as (_, entries):
                sizes = [entry.file_size for entry in entries]
        num_files, num_bytes = num_files + len(sizes), num_bytes + sum(sizes)
        if num_bytes > max_bytes:
            raise too_large(max_bytes)
        if num_files > max_files:
            raise too_many(max_files)
    if not num_files:
        raise ProblemError("no_image", "expected DICOM files, a volume, or pictures of one patient")

    def unpack() -> list[Upload]:
        files: list[Upload] = []
        for i, upload in enumerate(uploads):
            assert isinstance(upload.data, bytes)
            files += _unpack(upload.data) if i in archives else [upload]
        return files

    return StudyFiles(num_files, num_bytes, unpack)


PIECE = 1 << 18
"""Bytes that are unpacked at a time."""


@contextmanager
def _open(archive: bytes) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """Opens an archive, and lists the files in it that may be images.

    Raises:
        ProblemError: damaged, also where that shows as it is read; encrypted; packed in another way.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = [entry for entry in opened.infolist() if _may_be_image(entry)]
            for entry in entries:
                if entry.flag_bits & 1:
                    raise ProblemError("bad_request", "the zip archive is encrypted")
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ProblemError("bad_request", "the zip archive is not packed by deflate")
            yield opened, entries
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise ProblemError("bad_request", "the zip archive is damaged") from error


def _unpack(archive: bytes) -> Iterator[Upload]:
    """Yields the files of an archive that may be images; none is unpacked to more than the archive states.

    Of a file that does not begin as an image, the beginning stands for all of it.
    """
    with _open(archive) as (opened, entries):
        for entry in entries:
            with opened.open(entry) as stream:
                yield Upload(clean_name(entry.filename), _read(stream))


def _read(stream: IO[bytes]) -> bytes:
    """Returns a file of an archive, or its beginning if that is none of an image.

    Piece by piece: to unpack a hundred megabytes at once would hold up all other requests for as long.
    """
    found = io.BytesIO()
    head = stream.read(HEAD_BYTES)
    found.write(head)
    if is_image(head):
        while piece := stream.read(PIECE):
            found.write(piece)
    return found.getvalue()


def _may_be_image(entry: zipfile.ZipInfo) -> bool:
    parts = entry.filename.split("/")
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not (entry.is_dir() or hidden or is_no_image(entry.filename) or entry.file_size == 0)


def _parse_related(content_type: str, body: bytes, max_files: int) -> Iterator[Upload]:
    """Yields the parts of a body as DICOMweb stores instances (STOW-RS, PS3.18 section 10.5)."""
    boundary = find_boundary(content_type, body, max_files)
    parts: list[bytearray] = []
    begun = 0

    def begin() -> None:
        parts.append(bytearray())

    def keep(data: bytes, start: int, end: int) -> None:
        parts[-1].extend(data[start:end])

    def end() -> None:
        nonlocal begun
        begun += 1

    try:
        parser = MultipartParser(boundary, {"on_part_begin": begin, "on_part_data": keep, "on_part_end": end})
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise damaged_form() from error
    if begun < len(parts):
        raise damaged_form()
    for number, part in enumerate(parts, 1):
        yield Upload(f"part {number}", bytes(part))
