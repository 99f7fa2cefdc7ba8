"""Known formats of image files: `FORMATS` has a row for each.

A new format is a module of `brain_ray.data.file_checks` and a row here: preparation, prediction, uploads, the
API's documentation, the client and the page read `FORMATS`, and take the same files. No image library is
imported before a file is checked.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from brain_ray.data.file_checks import (
    bmp,
    dicom,
    gif,
    jpeg,
    jpeg2000,
    libraries,
    mat,
    nifti,
    png,
    pnm,
    tiff,
    webp,
)
from brain_ray.data.file_checks.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEAD_BYTES = 1024
"""Bytes of a file's beginning that its format shows in."""


@dataclass(frozen=True)
class Format:
    """A format of image files. Its functions must be importable by name: they are sent to other processes."""

    name: str
    """Short name in capitals; Pillow's own if Pillow knows the format."""
    title: str
    """The usual spelling, for people."""
    suffixes: tuple[str, ...]
    """Suffixes of file names, in lower case, with their dot."""
    media_type: str
    signature: bytes
    """Regular expression that the start of every file of this format matches, and of no other; `HEAD_BYTES`
    are enough for it."""
    check: Callable[[bytes, int], bytes]
    """Takes a file and the largest number of pixels allowed; returns the file without parts that its pixels
    do not need.

    Raises:
        ImageError: it is not of this format after all, is damaged, or is a picture's with several of them.
        StructureError: decoding it would take too much time or memory.
    """


@dataclass(frozen=True)
class PictureFormat(Format):
    """A format whose files hold one image."""

    header_size: Callable[[bytes], tuple[int, int]]
    """Takes a file that `check` returned; returns (width, height), in pixels.

    Raises:
        ImageError: it is not of this format after all, or its header is damaged.
    """
    decode: Callable[[bytes, int, int], "NDArray[Any]"]
    """Takes a file that `check` returned, its width and its height; returns (height, width) pixels of any
    number type, in which higher is brighter, after the rotation that the file specifies.

    Raises:
        ImageError: it is damaged.
        MemoryError: there is too little memory.
    """


@dataclass(frozen=True)
class VolumeFormat(Format):
    """A format whose files may hold several images."""

    libraries: tuple[str, ...]
    """Modules that its functions import."""
    packed: bool = field(default=False, kw_only=True)
    """Whether files may be packed by gzip; the signature is then that of what is packed."""
    read: Callable[[bytes, str], Volume]
    """Takes a file that `check` returned, and the plane into which a volume is cut; returns its images.

    Raises:
        ImageError: its header is damaged.
    """


FORMATS: dict[str, PictureFormat | VolumeFormat] = {
    row.name: row
    for row in (
        PictureFormat(
            name="JPEG",
            title="JPEG",
            suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
            media_type="image/jpeg",
            signature=rb"\xff\xd8\xff",
            check=jpeg.reduce_jpeg,
            header_size=partial(libraries.header_size, name="JPEG"),
            decode=jpeg.decode_jpeg,
        ),
        PictureFormat(
            name="PNG",
            title="PNG",
            suffixes=(".png",),
            media_type="image/png",
            signature=rb"\x89PNG\r\n\x1a\n",
            check=png.reduce_png,
            header_size=partial(libraries.header_size, name="PNG"),
            decode=png.decode_png,
        ),
        PictureFormat(
            name="BMP",
            title="BMP",
            suffixes=(".bmp", ".dib"),
            media_type="image/bmp",
            signature=rb"BM",
            check=bmp.reduce_bmp,
            header_size=partial(libraries.header_size, name="BMP"),
            decode=libraries.decode_on_black,
        ),
        PictureFormat(
            name="TIFF",
            title="TIFF",
            suffixes=(".tif", ".tiff"),
            media_type="image/tiff",
            # Two byte orders and two sizes of offsets; and a mixture that Pillow reads and the check refuses.
            signature=rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0",
            check=tiff.reduce_tiff,
            header_size=tiff.tiff_size,
            decode=tiff.decode_tiff,
        ),
        PictureFormat(
            name="WEBP",
            title="WebP",
            suffixes=(".webp",),
            media_type="image/webp",
            signature=rb"RIFF(?s:.{4})WEBP",
            check=webp.reduce_webp,
            header_size=partial(libraries.header_size, name="WEBP"),
            decode=libraries.decode_on_black,
        ),
        PictureFormat(
            name="GIF",
            title="GIF",
            suffixes=(".gif",),
            media_type="image/gif",
            signature=rb"GIF8[79]a",
            check=gif.reduce_gif,
            header_size=partial(libraries.header_size, name="GIF"),
            decode=libraries.decode_on_black,
        ),
        PictureFormat(
            name="PNM",
            title="PGM",
            suffixes=(".pgm", ".pbm", ".ppm", ".pnm"),
            media_type="image/x-portable-anymap",
            signature=rb"P[1-6][\s#]",
            check=pnm.reduce_pnm,
            header_size=pnm.pnm_size,
            decode=pnm.decode_pnm,
        ),
        PictureFormat(
            name="JPEG2000",
            title="JPEG 2000",
            suffixes=(".jp2", ".j2k", ".jpf", ".j2c"),
            media_type="image/jp2",
            signature=re.escape(jpeg2000.BOXES) + b"|" + re.escape(jpeg2000.CODESTREAM),
            check=jpeg2000.reduce_jpeg2000,
            header_size=jpeg2000.jpeg2000_size,
            decode=libraries.decode_on_black,
        ),
        VolumeFormat(
            name="DICOM",
            title="DICOM",
            suffixes=(".dcm", ".dicom", ".ima"),
            media_type="application/dicom",
            signature=rb"(?s:.{128})DICM",
            check=dicom.reduce_dicom,
            libraries=("pydicom.pixels", "gdcm"),
            read=dicom.read_dicom,
        ),
        VolumeFormat(
            name="NIFTI",
            title="NIfTI",
            suffixes=(".nii", ".nii.gz"),
            media_type="application/x-nifti",
            signature=nifti.SIGNATURE,
            packed=True,
            check=nifti.reduce_nifti,
            libraries=("nibabel",),
            read=nifti.read_nifti,
        ),
        VolumeFormat(
            name="MAT",
            title="MATLAB 7.3 (Figshare)",
            suffixes=(".mat",),
            media_type="application/x-matlab-data",
            signature=mat.SIGNATURE,
            check=mat.reduce_mat,
            libraries=("h5py",),
            read=mat.read_mat,
        ),
    )
}
"""The rows, by name, in the order in which messages and pages list them."""

AnyFormat = PictureFormat | VolumeFormat


def format_of(data: bytes, formats: Iterable[AnyFormat]) -> AnyFormat | None:
    """Returns the format whose signature a file, or its first `HEAD_BYTES`, has; None if there is none."""
    if data.startswith(nifti.PACKED):
        rows = (row for row in formats if isinstance(row, VolumeFormat) and row.packed)
        return next(
            (row for row in rows if re.match(row.signature, nifti.unpack_head(data, HEAD_BYTES))), None
        )
    return next((row for row in formats if re.match(row.signature, data)), None)


def is_volume(data: bytes) -> bool:
    """Returns whether a file, or its first `HEAD_BYTES`, is of a format whose files may hold several
    images."""
    return isinstance(format_of(data, FORMATS.values()), VolumeFormat)


def format_of_name(name: str) -> AnyFormat | None:
    """Returns the format whose suffix a file's name has; None if there is none."""
    lowered = name.lower()
    return next((row for row in FORMATS.values() if lowered.endswith(row.suffixes)), None)


def media_types() -> dict[str, str]:
    """Returns the media type of each suffix."""
    return {suffix: row.media_type for row in FORMATS.values() for suffix in row.suffixes}
