"""Whether a file's name says that it is an image, or that it is something else."""

import re

from brain_ray.data.formats import media_types

OTHER_IMAGES = r"avif|dcm|dib|gif|heic|heif|jfif|jp2|jpe|nii(\.gz)?|pbm|pcx|pgm|pnm|ppm|tga"
"""Ends of the names of images of formats without a row in `FORMATS`."""

IMAGE = re.compile(
    rf"\.({OTHER_IMAGES}|{'|'.join(re.escape(suffix[1:]) for suffix in media_types())})$", re.IGNORECASE
)
"""End of an image's name; where files are opened, in the classes' folders, it does not matter."""

NO_IMAGE = re.compile(
    r"\.(csv|db|docx?|html?|ini|ipynb|json|lnk|log|md|py|tsv|txt|url|xlsx?|xml|ya?ml)$", re.IGNORECASE
)
"""End of the name of what commonly lies among images, such as Thumbs.db and desktop.ini."""


def is_no_image(path: str) -> bool:
    """Tell whether a file's name says that it is something else than an image."""
    return NO_IMAGE.search(path) is not None
