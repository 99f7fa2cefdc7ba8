"""DICOM's way from stored to shown values: padding, rescaling, window (PS3.3, C.7.5.1.1.2, C.11.1,
C.11.2)."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def find_padding(raw: "NDArray[Any]", dataset: Any) -> "NDArray[np.bool_] | None":
    """Returns where stored values are padding; None if the header names none."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    found: NDArray[np.bool_] = (raw >= low) & (raw <= high)
    return found if found.any() else None


def rescale(raw: "NDArray[Any]", dataset: Any, place: Any) -> "NDArray[Any]":
    """Returns values after the modality's table or rescaling, float32 (float64 of numbers of 32 bits).

    Args:
        raw: stored values.
        dataset: the dataset.
        place: the item that has RescaleSlope and RescaleIntercept.
    """
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels import apply_modality_lut

        return np.asarray(apply_modality_lut(raw, dataset), np.float32)
    kind: Any = np.float64 if raw.dtype.itemsize > 2 else np.float32
    slope, intercept = (float(place.get(name, usual) or usual) for name, usual in _RESCALE)
    with np.errstate(over="ignore", invalid="ignore"):
        values: NDArray[Any] = raw.astype(kind) * kind(slope) + kind(intercept)
    return values


_RESCALE = (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))


def apply_window(values: "NDArray[Any]", place: Any) -> "NDArray[np.uint8] | None":
    """Returns (height, width) values through the first window of a header, or else its table, as uint8.

    Args:
        values: values after `rescale`.
        place: the item that has WindowCenter and WindowWidth, or VOILUTSequence.

    Returns:
        None if it has neither.
    """
    center, width = (_first(place.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is not None and width is not None and np.isfinite(center) and 0 < width < np.inf:
        function = str(place.get("VOILUTFunction", "") or "LINEAR")
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if function == "SIGMOID":
                share = 1 / (1 + np.exp(-4 * (values - center) / width))
            elif function == "LINEAR_EXACT" or width <= 1:
                share = (values - center) / width + 0.5
            else:
                share = (values - (center - 0.5)) / (width - 1) + 0.5
        return np.rint(255 * np.clip(np.nan_to_num(share, nan=0.0), 0, 1)).astype(np.uint8)
    if place.get("VOILUTSequence"):
        from pydicom.pixels import apply_voi

        found = apply_voi(np.rint(values).astype(np.int32), place)
        bits = int(place.VOILUTSequence[0].LUTDescriptor[2])
        shown: NDArray[np.uint8] = np.rint(255 * np.clip(found / (2.0**bits - 1), 0, 1)).astype(np.uint8)
        return shown
    return None


def _first(value: Any) -> float | None:
    """Returns the first of an element's numbers; None if it has none."""
    if value is None or value == "":
        return None
    many = isinstance(value, (list, tuple)) or hasattr(value, "__getitem__")
    return float(value[0] if many else value) if not many or len(value) else None
