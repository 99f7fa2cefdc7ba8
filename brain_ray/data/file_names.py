"""Patterns of file names: images, and other files that lie among them; and names as Arrow can store them."""

import os
import re

from brain_ray.data.formats import media_types

OTHER_IMAGES = r"avif|dcm|dib|gif|heic|heif|jfif|jp2|jpe|nii(\.gz)?|pbm|pcx|pgm|pnm|ppm|tga"
"""Suffixes of image formats without a row in `FORMATS`, a regular expression."""

IMAGE = re.compile(
    rf"\.({OTHER_IMAGES}|{'|'.join(re.escape(suffix[1:]) for suffix in media_types())})$", re.IGNORECASE
)
"""Suffix of an image's name; files in the classes' folders are opened whatever their suffix."""

NO_IMAGE = re.compile(
    r"\.(csv|db|docx?|html?|ini|ipynb|json|lnk|log|md|py|tsv|txt|url|xlsx?|xml|ya?ml)$", re.IGNORECASE
)
"""End of the name of files that commonly lie among images, such as metadata.csv."""


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
