"""Names of files and images: patterns, names as Arrow can store them, and a name for each image."""

import os
import re

from brain_ray.data.formats import media_types

OTHER_IMAGES = r"avif|heic|heif|hdr|img|jxl|mha|mhd|nrrd|pcx|tga"
"""Suffixes of image formats without a row in `FORMATS`, a regular expression."""

IMAGE = re.compile(
    rf"\.({OTHER_IMAGES}|{'|'.join(re.escape(suffix[1:]) for suffix in media_types())})$", re.IGNORECASE
)
"""Suffix of an image's name; files in the classes' folders are opened whatever their suffix."""

NO_IMAGE = re.compile(
    r"\.(csv|db|docx?|html?|ini|ipynb|json|lnk|log|md|py|tsv|txt|url|xlsx?|xml|ya?ml)$|(^|/)DICOMDIR$",
    re.IGNORECASE,
)
"""End of the name of files that commonly lie among images, such as metadata.csv."""

ALONE = -1
"""Number of an image that is alone in its file."""


def image_name(path: str, frame: int) -> str:
    """Returns the name of an image: its file's path and, if the file holds several, its number in
    brackets."""
    return path if frame == ALONE else f"{path}[{frame}]"


def is_no_image(path: str) -> bool:
    """Returns whether a file's name shows that it is no image."""
    return NO_IMAGE.search(path) is not None


def storable(name: str) -> str:
    r"""Returns a local file's name, as `os.scandir` gives it, in a form that Arrow can store.

    Bytes that are not UTF-8 become `\x` and two hexadecimal digits, and so does a backslash before an x: the
    name is found again by `local_name`. All other names stay as they are.
    """
    return re.sub(r"[\udc80-\udcff]|\\(?=x)", lambda found: rf"\x{ord(found[0]) & 0xFF:02x}", name)


def local_name(stored: str) -> str:
    """Returns the local name, for `open`, of a path that `storable` returned."""
    if "\\x" not in stored:
        return stored
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), stored.encode())
    return os.fsdecode(raw)
