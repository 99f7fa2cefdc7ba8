"""Patterns of file names: images, and other files that lie among them."""

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
"""End of the name of files that commonly lie among images, such as Thumbs.db and desktop.ini."""


def is_no_image(path: str) -> bool:
    """Returns whether a file's name shows that it is no image."""
    return NO_IMAGE.search(path) is not None
