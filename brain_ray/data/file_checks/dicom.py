"""DICOM: single images and multi-frame objects, by pydicom and its decoders (RLE; GDCM for the JPEG family).

Only the elements that pixels, order and identity need are read; overlays are left out. Neither pydicom's
messages nor values of elements become part of a reason: they may name a patient.
"""

import io
import logging
import re
import warnings
import zlib  # before GDCM: its library has functions of the same names, and libz would call those
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from brain_ray.data.file_checks.limits import (
    MAX_PARTS,
    VOLUME_BYTES_PER_PIXEL,
    ImageError,
    StructureError,
    check_volume,
)
from brain_ray.data.file_checks.volume import HeaderFacts, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

logging.getLogger("pydicom").addHandler(logging.NullHandler())  # else its lines go to stderr

_PIXELS = (0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010)

_TAGS = (
    *(0x00080016, 0x00080060, 0x00100020, 0x0020000D, 0x0020000E),  # what it is, whose, which series
    *(0x00200013, 0x00200032, 0x00200037, 0x52009229, 0x52009230),  # order, position, both of frames
    *range(0x00280002, 0x00280013),  # shape, colours, bits
    *(0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120, 0x00280121),
    *(0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056, 0x00283000, 0x00283010),  # values, window
    *(
        0x00281101,
        0x00281102,
        0x00281103,
        0x00281201,
        0x00281202,
        0x00281203,
        0x00281221,
        0x00281222,
        0x00281223,
    ),
    *_PIXELS,
)
"""Elements that are read."""

_SYNTAX = re.compile(rb"\x02\0\x10\0UI..([0-9.]+)", re.DOTALL)
_DEFLATED = b"1.2.840.10008.1.2.1.99"

_STANDARD = "1.2.840.10008.1.2."
"""Beginning of DICOM's own codings; others may be of a hospital."""

_META = 144
"""Position behind the first element, the length of the file's own elements that follow."""

_CODES = "MR CT PT NM US CR DX MG XA RF OT SC ES GM SM XC PX IO OP OPT BI EC IVUS OCT SEG RTDOSE RTIMAGE"
MODALITIES = frozenset(_CODES.split())
"""Codes that are told; any other text in their place is not."""


def reduce_dicom(data: bytes, max_pixels: int) -> bytes:
    """Returns the file unchanged.

    Raises:
        ImageError: its header is damaged.
        StructureError: its pixels, unpacked, or its number of elements exceed what is allowed.
    """
    found = _SYNTAX.search(data, 132, 4096)
    if found is not None and found[1] == _DEFLATED:
        start = _META + int.from_bytes(data[_META - 4 : _META], "little")
        unpacker, most = zlib.decompressobj(-zlib.MAX_WBITS), VOLUME_BYTES_PER_PIXEL * max_pixels
        with _refusing("its deflated part cannot be unpacked"):
            unpacker.decompress(data[start:], most)
        if unpacker.unconsumed_tail:
            raise StructureError(f"a DICOM file of more than {most / 1e6:.0f} MB, inflated")
    with _refusing():
        dataset = _parse(data)
        width, height, count = _shape(dataset)
        samples, bits = int(dataset.get("SamplesPerPixel", 1)), int(dataset.BitsAllocated)
    check_volume(count, width * height * samples * max(1, bits // 8), max_pixels)
    return data


def read_dicom(data: bytes, plane: str) -> Volume:
    """Opens a DICOM file; its frames are its images, in whatever plane.

    Values of one frame are those of its own window (VOI) as grey of 8 bits, or, without a window, after the
    rescaling of its header; MONOCHROME1 is inverted, padding is NaN or 0, colours become luma.

    Raises:
        ImageError: its header is damaged.
    """
    with _refusing():
        dataset = _parse(data)
        width, height, count = _shape(dataset)
        groups = _Groups(dataset)
        facts = _facts(dataset)
        positions = [_position(dataset, groups, number) for number in range(count)]

    def pixels(number: int) -> "NDArray[Any]":
        with _refusing("its pixels cannot be decoded"):
            return _values(dataset, groups, number)

    return Volume(width, height, positions, pixels, facts)


@contextmanager
def _refusing(what: str = "its header cannot be read") -> Iterator[None]:
    """Turns pydicom's errors, of many kinds, into one that names no value of the file; silences its warnings,
    which do."""
    from pydicom import config

    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except (ImageError, StructureError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(f"damaged DICOM: {what} ({type(error).__name__})") from None


def _parse(data: bytes) -> Any:
    """Returns the dataset with the elements of `_TAGS`."""
    from pydicom.filereader import read_partial

    left = MAX_PARTS

    def stop(tag: int, vr: str | None, length: int) -> bool:
        nonlocal left
        left -= 1
        if not left:
            raise StructureError(f"more than {MAX_PARTS} elements")
        return tag > _PIXELS[-1]

    dataset = read_partial(io.BytesIO(data), stop, specific_tags=list(_TAGS))
    _check_kind(dataset)
    return dataset


def _check_kind(dataset: Any) -> None:
    """Checks that a dataset has pixels, in a form that can be decoded.

    Raises:
        ImageError: it has none, or the form is not known.
    """
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    if not any(tag in dataset for tag in _PIXELS[2:]):
        raise ImageError(
            "a DICOM file without pixels, such as a directory, a report or a structure", "not_an_image"
        )
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", ""))
    try:
        is_known = syntax.is_transfer_syntax and get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):
        is_known = False
    if not is_known:
        is_standard = len(syntax) < 32 and syntax.startswith(_STANDARD)
        name = syntax.name if syntax.name != syntax else syntax if is_standard else "a coding"
        raise ImageError(
            f"{name} of DICOM is not read: save it as Explicit VR Little Endian (dcmdjpeg, gdcmconv -w)"
        )


def _shape(dataset: Any) -> tuple[int, int, int]:
    """Returns width, height and number of frames."""
    width, height, count = int(dataset.Columns), int(dataset.Rows), int(dataset.get("NumberOfFrames", 1) or 1)
    if min(width, height, count) < 1:
        raise ImageError("damaged DICOM: an image without pixels")
    return width, height, count


def _facts(dataset: Any) -> HeaderFacts:
    code = str(dataset.get("Modality", "") or "")
    return HeaderFacts(
        patient=str(dataset.get("PatientID", "") or "").strip(),
        study=str(dataset.get("StudyInstanceUID", "") or ""),
        series=str(dataset.get("SeriesInstanceUID", "") or ""),
        modality=code if code in MODALITIES else "other",
    )


class _Groups:
    """Functional groups: the place of an attribute of one frame in an enhanced object, or the dataset
    itself."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._shared = next(iter(dataset.get("SharedFunctionalGroupsSequence", None) or ()), None)
        self._frames: Sequence[Any] = dataset.get("PerFrameFunctionalGroupsSequence", None) or ()

    def of(self, number: int, sequence: str) -> Any:
        """Returns the item of a frame's sequence; the dataset if there is none."""
        frame = self._frames[number] if number < len(self._frames) else None
        for group in (frame, self._shared):
            if group is not None and group.get(sequence):
                return group[sequence].value[0]
        return self._dataset


def _position(dataset: Any, groups: _Groups, number: int) -> float:
    """Returns a frame's position along the normal of its plane in mm, or else its number in the series."""
    import numpy as np

    place = groups.of(number, "PlanePositionSequence").get("ImagePositionPatient")
    plane = groups.of(number, "PlaneOrientationSequence").get("ImageOrientationPatient")
    if place is not None and plane is not None and len(place) == 3 and len(plane) == 6:
        row, column = np.array(plane[:3], float), np.array(plane[3:], float)
        position = float(np.dot(np.cross(row, column), np.array(place, float)))
        if np.isfinite(position):
            return position
    return float(dataset.get("InstanceNumber") or 0) + number


def _values(dataset: Any, groups: _Groups, number: int) -> "NDArray[Any]":
    """Returns the pixels of a frame."""
    import numpy as np
    from pydicom.pixels import apply_color_lut, pixel_array

    from brain_ray.data.file_checks import dicom_window
    from brain_ray.data.intensity import luma

    raw: NDArray[Any] = pixel_array(dataset, index=number)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        raw = apply_color_lut(raw, dataset)
    if raw.ndim == 3:
        colours = luma(raw[..., :3])
        return np.rint(colours).astype(np.uint8) if raw.dtype == np.uint8 else colours
    if dataset.BitsAllocated == 1:
        return raw.astype(np.uint8) * np.uint8(255)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    padding = dicom_window.find_padding(raw, dataset)
    values = dicom_window.rescale(raw, dataset, groups.of(number, "PixelValueTransformationSequence"))
    grey = dicom_window.apply_window(values, groups.of(number, "FrameVOILUTSequence"))
    if grey is None and raw.dtype == np.uint8:
        grey = raw
    if grey is None:
        values = -values if inverted else values
        return values if padding is None else np.where(padding, values.dtype.type(np.nan), values)
    grey = 255 - grey if inverted else grey
    return grey if padding is None else np.where(padding, np.uint8(0), grey)
