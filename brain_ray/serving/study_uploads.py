"""Bodies of /v1/studies -> files: forms, zip archives, DICOMweb's multipart/related, or one file."""

import io
import zipfile
import zlib
from collections.abc import Iterator
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
"""Largest number of entries of an archive beside as many files as a study may have: folders, texts."""

_ENTRY = b"PK\x01\x02"
"""Beginning of an entry in an archive's list."""


def parse_study(headers: Headers, body: bytes, max_files: int, max_bytes: int) -> list[Upload]:
    """Returns the files of a study, in order; those of archives are unpacked.

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
    files: list[Upload] = []
    left = max_bytes
    for upload in uploads:
        assert isinstance(upload.data, bytes)
        found = [upload]
        if upload.data.startswith(ZIP) or kind in ZIP_TYPES:
            found = list(_unpack(upload.data, max_files, left, max_bytes))
        left -= sum(len(file.data) for file in found if isinstance(file.data, bytes))
        files += found
        if len(files) > max_files:
            raise too_many(max_files)
    if not files:
        raise ProblemError("no_image", "expected DICOM files, a volume, or pictures of one patient")
    return files


PIECE = 1 << 18
"""Bytes that are unpacked at a time."""


def _unpack(archive: bytes, max_files: int, left: int, max_bytes: int) -> Iterator[Upload]:
    """Yields the files of an archive that may be images; none is unpacked to more than the archive states.

    Of a file that does not begin as an image, the beginning stands for all of it.

    Raises:
        ProblemError: more than `left` bytes or too many files by the archive's own list; damaged; encrypted.
    """
    # Counted before the list is read, whose entries would each cost a kilobyte of memory.
    if archive.count(_ENTRY) > max_files + OTHER_ENTRIES:
        raise too_many(max_files)
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = [entry for entry in opened.infolist() if _may_be_image(entry)]
            if sum(entry.file_size for entry in entries) > left:
                raise too_large(max_bytes)
            if len(entries) > max_files:
                raise too_many(max_files)
            for entry in entries:
                if entry.flag_bits & 1:
                    raise ProblemError("bad_request", "the zip archive is encrypted")
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ProblemError("bad_request", "the zip archive is not packed by deflate")
                with opened.open(entry) as stream:
                    yield Upload(clean_name(entry.filename), _read(stream))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise ProblemError("bad_request", "the zip archive is damaged") from error


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
