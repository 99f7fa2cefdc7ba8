"""MATLAB 7.3 files of the Figshare brain tumour set (Cheng, doi.org/10.6084/m9.figshare.1512427), by h5py.

A file holds one slice, its class, its patient, and the tumour's border and mask. HDF5 can refer to other
files of the machine: such references are refused.
"""

import io
import math
from typing import TYPE_CHECKING, Any

from brain_ray.data.file_checks.limits import ImageError, StructureError, check_volume
from brain_ray.data.file_checks.volume import HeaderFacts, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNATURE = rb"MATLAB 7\.3 MAT-file|\x89HDF\r\n\x1a\n"

CLASSES = {1: "meningioma", 2: "glioma", 3: "pituitary"}
"""Classes by the files' labels."""

_STRUCT = "cjdata"

_MAX_TEXT = 256
"""Largest number of characters of a patient's id."""


def reduce_mat(data: bytes, max_pixels: int) -> bytes:
    """Returns the file unchanged.

    Raises:
        ImageError: it is damaged, or no file of that set.
        StructureError: its pixels exceed what is allowed.
    """
    with _Opened(data) as opened:
        image = opened.field("image")
        check_volume(1, math.prod(image.shape) * image.dtype.itemsize, max_pixels)
    return data


def read_mat(data: bytes, plane: str) -> Volume:
    """Opens a file of one slice.

    Raises:
        ImageError: it is damaged, or no file of that set.
    """
    with _Opened(data) as opened:
        width, height = opened.field("image").shape  # MATLAB stores columns first
        facts = opened.facts((width, height))

    def pixels(number: int) -> "NDArray[Any]":
        with _Opened(data) as opened:
            return opened.read("image").T

    return Volume(int(width), int(height), (0.0,), pixels, facts)


class _Opened:
    """A file that is open. Its errors are those of an image; HDF5's own are of many kinds."""

    def __init__(self, data: bytes) -> None:
        import h5py

        try:
            self._file: Any = h5py.File(io.BytesIO(data), "r")
        except MemoryError:
            raise
        except Exception as error:
            raise ImageError(
                f"damaged: a MATLAB file that HDF5 cannot open ({type(error).__name__})"
            ) from None

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._file.close()
        if isinstance(error, Exception) and not isinstance(error, (ImageError, StructureError, MemoryError)):
            name = type(error).__name__
            raise ImageError(f"damaged: a MATLAB file that HDF5 cannot read ({name})") from None

    def field(self, name: str) -> Any:
        """Returns a field of the file's struct, a dataset of numbers in two dimensions.

        Raises:
            ImageError: there is no such field, or it is in another file.
        """
        import h5py

        for parent, child in ((self._file, _STRUCT), (self._file.get(_STRUCT), name)):
            link = parent.get(child, getlink=True) if isinstance(parent, h5py.Group) else None
            if not isinstance(link, h5py.HardLink):
                raise ImageError(
                    f"a MATLAB file without {_STRUCT}.{name}: only those of Figshare's tumour set are read",
                    "not_an_image",
                )
        found = self._file[_STRUCT][name]
        if not isinstance(found, h5py.Dataset) or found.external is not None or found.is_virtual:
            raise ImageError(f"a MATLAB file whose {name} is no array, or is in another file")
        if len(found.shape) != 2 or found.dtype.kind not in "uif" or min(found.shape) < 1:
            raise ImageError(f"a MATLAB file whose {name} is no table of numbers")
        return found

    def read(self, name: str) -> "NDArray[Any]":
        """Returns a field's numbers."""
        numbers: NDArray[Any] = self.field(name)[()]
        return numbers

    def facts(self, shape: tuple[int, int]) -> HeaderFacts:
        """Returns the class, the patient, and the box around the tumour."""
        import numpy as np

        label = self.read("label")
        mask = self.field("tumorMask") if "tumorMask" in self._file[_STRUCT] else None
        box = None
        if mask is not None and mask.shape == shape:
            columns, rows = np.nonzero(mask[()])
            if len(rows):
                box = (int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)
        return HeaderFacts(
            patient=self._text("PID"),
            class_name=CLASSES.get(int(label.ravel()[0]), "") if label.size == 1 else "",
            tumour=box,
        )

    def _text(self, name: str) -> str:
        if name not in self._file[_STRUCT] or self.field(name).size > _MAX_TEXT:
            return ""
        return "".join(map(chr, self.read(name).ravel().tolist())).strip()
