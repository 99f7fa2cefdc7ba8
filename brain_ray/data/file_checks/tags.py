"""Tags of a TIFF's page and of EXIF blocks, which are TIFFs within other formats.

Pillow and libtiff copy the same bytes once for each tag that refers to them: 2000 tags make 4 GB of 2 MB.
"""

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from brain_ray.data.file_checks.limits import StructureError

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two: BigTIFF

MAX_TAGS = 4096
"""Largest number of a page's tags; real ones have less than a hundred."""

MAX_NUMBERS = 2**18
"""Largest number of numbers in all tags, beside bytes and texts: Pillow takes 3 us for each. A 16-bit palette
has 196,608."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of one value, by the type of a tag; 8 of any other."""

_BYTES = (1, 2, 6, 7)
"""Types whose values are read in one piece: bytes and texts."""

_UNSIGNED = {3: "H", 4: "I", 16: "Q"}
"""Types of sizes and offsets, and their codes for `struct`."""


_SUBFILE = 254
"""Tag of a page's kind, the first of its tags."""


class Tag(NamedTuple):
    """A tag: the position of its values in the file."""

    kind: int
    length: int
    at: int


class Page:
    """The first page of a TIFF, or an EXIF block."""

    def __init__(self, data: bytes) -> None:
        """Reads the tags.

        Raises:
            StructureError: there are too many, or their values overlap or do not fit into the file.
        """
        self._data = data
        self._order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
        big = self.number(2, 2) == 43
        self.word, entry, few = (8, 20, 8) if big else (4, 12, 2)
        first = self.number(8, 8) if big else self.number(4, 4)
        count = min(self.number(first, few), len(data) // entry)
        if count > MAX_TAGS:
            raise StructureError(f"more than {MAX_TAGS} tags")
        self.next = first + few + count * entry
        """Position of the next page's offset, `word` bytes long."""
        self._entry, self._few = entry, few
        self._tags: dict[int, Tag] = {}
        self._repeated: set[int] = set()
        total = numbers = 0
        for at in range(first + few, self.next, entry):
            tag, kind, values = self.number(at, 2), self.number(at + 2, 2), self.number(at + 4, self.word)
            length = _SIZES.get(kind, 8) * values
            total += length
            numbers += 0 if kind in _BYTES else values
            place = at + 4 + self.word
            if tag in self._tags:
                self._repeated.add(tag)
            self._tags[tag] = Tag(
                kind, values, place if length <= self.word else self.number(place, self.word)
            )
        if total > len(data):
            raise StructureError("its tags hold more than the file does")
        if numbers > MAX_NUMBERS:
            raise StructureError(f"more than {MAX_NUMBERS} numbers in its tags")

    def number(self, at: int, size: int) -> int:
        """Returns the unsigned number of `size` bytes at a position."""
        return int.from_bytes(self._data[at : at + size], self._order)

    def following(self) -> Iterator[int]:
        """Yields the kind of each page behind this one (its NewSubfileType), 0 where it has none."""
        at, seen = self.number(self.next, self.word), set[int]()
        while at and at not in seen and at < len(self._data):
            seen.add(at)
            first = at + self._few
            yield self.number(first + 4 + self.word, 4) if self.number(first, 2) == _SUBFILE else 0
            at = self.number(first + self.number(at, self._few) * self._entry, self.word)

    def length(self, tag: int) -> int:
        """Returns the number of a tag's values."""
        return self._tags[tag].length if tag in self._tags else 0

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Returns a tag's unsigned numbers, as far as the file contains them.

        Raises:
            StructureError: they have another type, or the tag occurs twice, and decoders differ in what they
                read.
        """
        if tag not in self._tags:
            return ()
        kind, count, at = self._tags[tag]
        if kind not in _UNSIGNED or tag in self._repeated:
            raise StructureError(f"tag {tag} is there twice, or its type is {kind}")
        size = struct.calcsize(_UNSIGNED[kind])
        block = self._data[at : at + count * size]
        count = len(block) // size
        return struct.unpack(
            f"{'<' if self._order == 'little' else '>'}{count}{_UNSIGNED[kind]}", block[: count * size]
        )

    def first(self, tag: int, default: int) -> int:
        """Returns a tag's first number, or `default`.

        Raises:
            StructureError: the numbers have another type, or the tag occurs twice.
        """
        return (*self.numbers(tag), default)[0]


def check_exif(block: bytes) -> None:
    """Checks an EXIF block.

    Raises:
        StructureError: it has too many tags, or their values overlap or do not fit into it.
    """
    tiff = block.removeprefix(b"Exif\0\0")
    if tiff.startswith(TIFF):
        Page(tiff)
