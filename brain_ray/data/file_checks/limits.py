"""Errors of all formats, and a limit on the number of parts."""

MAX_PARTS = 20_000
"""Largest number of a PNG's or WebP's chunks, or a JPEG's segments: each costs some microseconds."""

VOLUME_BYTES_PER_PIXEL = 8
"""Bytes that the unpacked pixels of a file with several images may have for each pixel of the largest image
allowed: 320 MB with 40 million pixels, which are 512 x 512 x 600 voxels of 16 bits."""


class ImageError(ValueError):
    """An image that cannot be used; its text is the reason, fit for a table of rejected files.

    `code` is the kind of reason: not_an_image, too_many_pixels, too_small, several_images or undecodable.
    """

    def __init__(self, reason: str, code: str = "undecodable") -> None:
        super().__init__(reason)
        self.code = code


class EndedError(ImageError):
    """An image on which the process that decoded it has ended: it crashed, or took longer than allowed."""


class StructureError(ValueError):
    """A file that costs too much to decode; its text is the reason."""


def check_parts(number: int) -> None:
    """Raises StructureError if `number` exceeds the limit."""
    if number > MAX_PARTS:
        raise StructureError(f"more than {MAX_PARTS} parts")


def check_single(number: int, kind: str) -> None:
    """Raises ImageError if a picture's file holds a number of pictures (`kind`, as in "pages") other than
    one: which of them is meant is not known."""
    if number > 1:
        raise ImageError(f"a stack of {number} {kind}: save each as a file of its own", "several_images")


def check_volume(num_images: int, image_bytes: int, max_pixels: int) -> None:
    """Raises StructureError if images of so many bytes each, unpacked, are too large together."""
    most = VOLUME_BYTES_PER_PIXEL * max_pixels
    if num_images * image_bytes > most:
        raise StructureError(
            f"{num_images} images of {image_bytes} bytes, unpacked, are more than {most / 1e6:.0f} MB"
        )
