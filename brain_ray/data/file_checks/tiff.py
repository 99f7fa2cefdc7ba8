"""TIFF: libtiff gets one page, with strips or tiles of a size and number that fit the picture.

libtiff allocates a tile as its tag says, a GB for 64 pixels; OpenCV continues after each strip that cannot be
read, and logs it; Pillow takes 3 us for the offset of each, and 5 million fit into 20 MB.
"""

from itertools import islice
from typing import TYPE_CHECKING, Any

from brain_ray.data.file_checks import libraries
from brain_ray.data.file_checks.jpeg import PIXELS_PER_VISIT, walk_jpeg
from brain_ray.data.file_checks.limits import MAX_PARTS, ImageError, StructureError, check_parts, check_single
from brain_ray.data.file_checks.tags import TIFF, Page

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_STRIPS = 2**15
"""Largest number of strips or tiles: OpenCV prepares the conversion of colours anew for each."""

PIXEL_BITS, COLOUR_BITS = 64, 96
"""Largest number of bits of a pixel: four samples of 16, or one of 64; and three of 32 if the picture has at
most a quarter of the pixels allowed, since their luma is taken of copies."""

FREE_TILE = 2**20
"""Pixels of a tile allowed for any picture; a larger tile may have up to four times the picture's pixels."""

MAX_JPEG_TABLES = 4096
"""Largest number of bytes of the tables that strips in JPEG share, read anew for each; real ones have about
600."""

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _SAMPLES, _PLANES = 256, 257, 258, 259, 262, 277, 284
_EXTRA, _UNASSOCIATED = 338, 2
_SAMPLE_KIND, _FLOAT = 339, 3
_WHITE_IS_ZERO, _RGB = 0, 2
_NO_PICTURE = 5
"""Bits of a page's kind: a smaller version of another page, or a mask for it."""
_STRIPS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_JPEG_TABLES, _IN_JPEG = 347, 7


def reduce_tiff(data: bytes, max_pixels: int) -> bytes:
    """Returns a TIFF that ends with its first page.

    Raises:
        ImageError: it holds several pages, without previews and masks.
        StructureError: the tags, or the number or the size of strips or tiles, are beyond what a picture of
            `max_pixels` needs.
    """
    if not data.startswith(TIFF):  # Pillow reads such a file with the wrong byte order
        raise StructureError("a TIFF header with two byte orders")
    page = Page(data)
    width, height = page.first(_WIDTH, 0), page.first(_HEIGHT, 0)
    samples = page.first(_SAMPLES, 1)
    bits = samples * max(page.numbers(_BITS), default=1)
    if bits > (COLOUR_BITS if 4 * width * height <= max_pixels else PIXEL_BITS):
        raise StructureError(f"{bits} bits a pixel")
    if samples == 2 and bits > 16 and page.length(_EXTRA):  # OpenCV makes eight bits of them
        raise StructureError("grey and alpha of more than 8 bits")
    kinds = list(islice(page.following(), MAX_PARTS + 1))
    check_parts(len(kinds))
    check_single(1 + sum(not kind & _NO_PICTURE for kind in kinds), "pages")
    rows = min(max(1, page.first(_STRIP_ROWS, height)), max(1, height))
    number = -(-height // rows)
    if page.length(_TILE_WIDTH) or page.length(_TILE_HEIGHT):
        tile_width, tile_height = (max(1, page.first(tag, 1)) for tag in (_TILE_WIDTH, _TILE_HEIGHT))
        if tile_width * tile_height > max(FREE_TILE, min(4 * width * height, max_pixels)):
            raise StructureError(
                f"tiles of {tile_width}x{tile_height} px for a picture of {width}x{height} px"
            )
        number = max(number, -(-width // tile_width) * -(-height // tile_height))
    number *= samples if page.first(_PLANES, 1) == 2 else 1
    number = max(number, *map(page.length, (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES)))
    if number > MAX_STRIPS:
        raise StructureError(f"{number} strips or tiles, more than {MAX_STRIPS}")
    _check_bytes(page, data, max_pixels)
    if page.number(page.next, page.word):
        data = data[: page.next] + bytes(page.word) + data[page.next + page.word :]
    return data


def _check_bytes(page: Page, data: bytes, max_pixels: int) -> None:
    """Checks that strips or tiles share no bytes, and that those in JPEG are bounded together."""
    in_jpeg = page.first(_COMPRESSION, 1) == _IN_JPEG
    if in_jpeg and page.length(_JPEG_TABLES) > MAX_JPEG_TABLES:
        raise StructureError(f"more than {MAX_JPEG_TABLES} bytes of tables")
    for places, lengths in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        counts = page.numbers(lengths)
        if len(counts) > 1 and sum(counts) > len(data):
            raise StructureError("its strips or tiles hold more than the file does")
        visits = 0
        for start, count in zip(page.numbers(places), counts, strict=False):
            if in_jpeg:
                visits += walk_jpeg(data[start : start + count], max_pixels)[1]
                if visits * PIXELS_PER_VISIT > max_pixels:
                    raise StructureError("its strips or tiles have too many scans")


def tiff_size(data: bytes) -> tuple[int, int]:
    """Returns (width, height) by the tags: Pillow knows fewer kinds of pixels than OpenCV.

    Raises:
        ImageError: the tags do not say.
    """
    page = Page(data)
    width, height = page.first(_WIDTH, 0), page.first(_HEIGHT, 0)
    if not (width and height):
        raise ImageError("damaged header: no width and height")
    return width, height


def decode_tiff(data: bytes, width: int, height: int) -> "NDArray[Any]":
    """Decodes a TIFF to (height, width) grey of its number type, in which higher is brighter, laid on black.

    OpenCV inverts 8 bits of which 0 is white, but no others, and multiplies 8 bits of colour by their alpha,
    but no others.

    Raises:
        ImageError: it is damaged.
        MemoryError: there is too little memory.
    """
    page = Page(data)
    samples, bits = page.first(_SAMPLES, 1), max(page.numbers(_BITS), default=1)
    extra = _first(page, _EXTRA)
    is_fourth = samples == 4 and extra == -1 and _first(page, _COLOURS) == _RGB  # OpenCV writes no tag for it
    if is_fourth or (extra == _UNASSOCIATED and (bits > 8 or samples != 4)):
        return libraries.decode_on_black(data, width, height)
    image = libraries.decode(data, width, height, colours=samples >= 3 and (bits > 16 or _is_float(page)))
    if _first(page, _COLOURS) == _WHITE_IS_ZERO and bits > 8:
        return -image.astype("float64" if image.dtype.itemsize > 2 else "float32")
    return image


def _is_float(page: Page) -> bool:
    return _first(page, _SAMPLE_KIND) == _FLOAT


def _first(page: Page, tag: int) -> int:
    """Returns the first number of a tag that decoders may ignore; -1 if there is none."""
    try:
        return page.first(tag, -1)
    except StructureError:
        return -1
