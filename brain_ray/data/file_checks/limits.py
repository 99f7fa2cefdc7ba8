"""What all formats have in common: the error, and a limit on the number of parts."""

MAX_PARTS = 20_000
"""Chunks of a PNG or a WebP, segments of a JPEG: each costs some microseconds to look at."""


class StructureError(ValueError):
    """A file that costs too much to decode; its text is the reason."""


def check_parts(number: int) -> None:
    """Refuse the first part beyond the limit."""
    if number > MAX_PARTS:
        raise StructureError(f"more than {MAX_PARTS} parts")
