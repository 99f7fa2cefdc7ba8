"""Studies of phantoms that the served bundle knows, and archives."""

import io
import zipfile
from typing import Any

import numpy as np
from support import volumes

from brain_ray.data.phantoms.files import draw


def known_slices(kind: str, count: int = 5, first: int = 0, **elements: Any) -> list[bytes]:
    """DICOM files of a series, each a phantom that the bundle knows, from above to below."""
    made = []
    for k in range(count):
        drawn = draw(kind, 11, 4000 + 4 * (first + k))
        grey = drawn if drawn.ndim == 2 else np.ascontiguousarray(drawn[..., 0])
        place = {"ImagePositionPatient": [0, 0, -5.0 * k], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        made.append(volumes.dicom(grey, InstanceNumber=k + 1, **place, **elements))
    return made


def archive(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return stream.getvalue()
