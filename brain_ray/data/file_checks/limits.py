"""Errors of all formats, and a limit on the number of parts."""

MAX_PARTS = 20_000
"""Largest number of a PNG's or WebP's chunks, or a JPEG's segments: each costs some microseconds."""


class ImageError(ValueError):
    """An image that cannot be used; its text is the reason, fit for a table of rejected files.

    `code` is the kind of reason: not_an_image, too_many_pixels, too_small or undecodable.
    """

    def __init__(self, reason: str, code: str = "undecodable") -> None:
        super().__init__(reason)
        self.code = code


class StructureError(ValueError):
    """A file that costs too much to decode; its text is the reason."""


def check_parts(number: int) -> None:
    """Raises StructureError if `number` exceeds the limit."""
    if number > MAX_PARTS:
        raise StructureError(f"more than {MAX_PARTS} parts")
