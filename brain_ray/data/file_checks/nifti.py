"""NIfTI: volumes of one file (.nii, .nii.gz), whose headers nibabel reads, cut into slices in a standard
orientation.

Images lie as a radiologist sees them: the patient's right on the left; the front above in axial slices, the
top of the head above in coronal and sagittal ones, in which the front is on the left.
"""

import gzip
import io
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from brain_ray.data.file_checks.limits import ImageError, StructureError, check_volume
from brain_ray.data.file_checks.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNATURE = rb"(?s:\x5c\x01\0\0|\0\0\x01\x5c)(?s:.{340})n\+1\0|(?:\x1c\x02\0\0|\0\0\x02\x1c)n\+2\0"
"""NIfTI-1 and NIfTI-2, in both byte orders, unpacked."""

_HEADER = 544
PACKED = b"\x1f\x8b"

_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Axis of a volume that lies along right, front, top by which each plane is cut."""

MAX_OFFSET = 2**24
"""Largest number of bytes before the voxels: the header and its extensions."""

MAX_STRETCH = 16
"""Largest ratio of a voxel's sides at which pixels are made square; more is a header's fault."""


def reduce_nifti(data: bytes, max_pixels: int) -> bytes:
    """Returns the file unchanged, packed as it is.

    Raises:
        ImageError: no NIfTI, not one volume, or its header is damaged.
        StructureError: its voxels exceed what is allowed.
    """
    header = _read_header(data)
    with _refusing("its header cannot be read"):
        shape = _shape(header)
    check_volume(shape[2], shape[0] * shape[1] * header.get_data_dtype().itemsize, max_pixels)
    return data


def read_nifti(data: bytes, plane: str) -> Volume:
    """Opens a NIfTI volume; the slices of a plane are its images, from below, behind or the patient's left
    on.

    A file of a single slice has that one, whatever the plane. Pixels of other than square shape are made
    square.

    Raises:
        ImageError: it is damaged, or its voxels are no numbers.
    """
    import numpy as np
    from nibabel.orientations import io_orientation

    header = _read_header(data)
    with _refusing("its orientation cannot be read"):
        shape = _shape(header)
        order = _order(io_orientation(_affine(header)))
    flat = [axis for axis in range(3) if shape[order[axis][0]] == 1]
    across = flat[0] if len(flat) == 1 else _AXES[plane]
    sizes = [shape[order[axis][0]] for axis in range(3)]
    spacing = [abs(float(header["pixdim"][1 + order[axis][0]])) for axis in range(3)]
    columns, rows = (axis for axis in range(3) if axis != across)
    width, height = _square(sizes[columns], sizes[rows], spacing[columns], spacing[rows])
    volume: list[NDArray[Any]] = []

    def pixels(number: int) -> "NDArray[Any]":
        if not volume:
            with _refusing("its voxels cannot be read"):
                volume.append(_voxels(data, header, shape))
        where: list[Any] = [slice(None)] * 3
        source, flip = order[across]
        where[source] = sizes[across] - 1 - number if flip else number
        part = volume[0][tuple(where)]
        if order[columns][0] < order[rows][0]:
            part = part.T
        # Coordinates end at the left and the top of an image: the patient's right, the head's front and top.
        part = part[:: 1 if order[rows][1] else -1, :: 1 if order[columns][1] else -1]
        if part.shape == (height, width):
            return np.ascontiguousarray(part)
        return _resize(part, height, width)

    thickness = spacing[across] if math.isfinite(spacing[across]) and spacing[across] > 0 else 1.0
    return Volume(width, height, [thickness * number for number in range(sizes[across])], pixels)


def _read_header(data: bytes) -> Any:
    """Returns nibabel's header."""
    import nibabel

    start = _unpack(data, _HEADER)
    kind = nibabel.Nifti2Header if start[4:7] == b"n+2" else nibabel.Nifti1Header
    if kind is nibabel.Nifti1Header and start[344:347] != b"n+1":
        raise ImageError("not an image", "not_an_image")
    with _refusing("its header cannot be read"):
        header = kind(start[: kind.template_dtype.itemsize], check=False)
        header.get_data_dtype()
        if not 0 <= header.get_data_offset() <= MAX_OFFSET:
            raise StructureError(f"voxels more than {MAX_OFFSET} bytes behind the beginning")
        return header


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turns nibabel's errors, of many kinds, into one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImageError, StructureError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(f"damaged NIfTI: {what} ({type(error).__name__})") from None


def unpack_head(data: bytes, most: int) -> bytes:
    """Returns the first bytes of what is packed by gzip, at most so many; none if it is damaged."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data[:most], most)
    except zlib.error:
        return b""


def _unpack(data: bytes, most: int) -> bytes:
    """Returns up to `most` bytes of a file, unpacked."""
    if not data.startswith(PACKED):
        return data[:most]
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return file.read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(
            f"damaged: what is packed by gzip cannot be unpacked ({type(error).__name__})"
        ) from None


def _shape(header: Any) -> tuple[int, int, int]:
    """Returns the lengths of the three axes."""
    shape = [int(side) for side in header.get_data_shape()]
    times = math.prod(shape[3:])
    if times != 1 or len(shape) < 2 or min(shape) < 1:
        raise ImageError(
            f"a NIfTI of {' x '.join(map(str, shape))}: expected one volume; save each as a file of its own",
            "several_images" if times > 1 else "undecodable",
        )
    return shape[0], shape[1], shape[2] if len(shape) > 2 else 1


def _affine(header: Any) -> "NDArray[Any]":
    """Returns the way from voxels to right, front, top in mm."""
    import numpy as np

    try:
        affine = np.asarray(header.get_best_affine(), float)
    except ValueError:  # a quaternion that is none
        affine = np.asarray(header.get_base_affine(), float)
    return affine


def _order(found: "NDArray[Any]") -> list[tuple[int, bool]]:
    """Returns, for right, front and top, the axis of the voxels that lies along it, and whether it runs the
    other way."""
    import numpy as np

    if np.isnan(found).any():  # an affine without volume says nothing
        return [(axis, False) for axis in range(3)]
    return [
        next((source, bool(turn < 0)) for source, (to, turn) in enumerate(found) if to == axis)
        for axis in range(3)
    ]


def _square(width: int, height: int, across: float, down: float) -> tuple[int, int]:
    """Returns the size of an image with square pixels, the shorter side of which stays."""
    if not (across > 0 and down > 0 and 1 / MAX_STRETCH < across / down < MAX_STRETCH):
        return width, height
    return (
        (width, round(height * down / across)) if across <= down else (round(width * across / down), height)
    )


def _voxels(data: bytes, header: Any, shape: tuple[int, int, int]) -> "NDArray[Any]":
    """Returns a volume's voxels in the file's own order; higher is brighter.

    Raises:
        ImageError: some are missing, or they are no numbers.
    """
    import numpy as np

    from brain_ray.data.intensity import luma

    kind = header.get_data_dtype()
    offset = int(header.get_data_offset())
    size = math.prod(shape) * kind.itemsize
    content = _unpack(data, offset + size)
    if len(content) < offset + size:
        raise ImageError(f"cut short: {len(content)} bytes of NIfTI, {offset + size} expected")
    voxels: NDArray[Any] = np.frombuffer(content, kind, math.prod(shape), offset).reshape(shape, order="F")
    if kind.names is not None:
        voxels = np.stack([voxels[name] for name in kind.names[:3]], axis=-1)
        grey: NDArray[Any] = np.rint(luma(voxels)).astype(np.uint8)
        return grey
    if kind.kind not in "uif":
        raise ImageError(f"voxels of {kind}, which are no grey levels")
    slope = header.get_slope_inter()[0]
    return -voxels.astype(np.float32) if slope is not None and slope < 0 else voxels


def _resize(image: "NDArray[Any]", height: int, width: int) -> "NDArray[Any]":
    """Stretches an image along one side."""
    import cv2
    import numpy as np

    if image.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int16), np.dtype(np.float32)):
        image = image.astype(np.float32)
    resized: NDArray[Any] = cv2.resize(
        np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_LINEAR
    )
    return resized
