"""What is done to the pixels of one image: decode, find the head, crop, change, resize. Pure functions."""

import hashlib
import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import imutils
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from brain_ray.data.file_checks import StructureError, reduce_to_picture, unpacks_beyond

if TYPE_CHECKING:  # it takes longer to import than all else that decodes
    from brain_ray.config import AugmentConfig, CropConfig, Fit

Grey = NDArray[np.uint8]
"""A grey image: (height, width), uint8, 0..255."""

MIN_SIDE = 16
"""Images with a shorter side, in pixels, show no brain and are refused."""

THUMBNAIL_SIDE = 96
"""Side, in pixels, of the thumbnails that the audit compares."""

MAX_STARTS = 2**14
"""Rows, and places where a row of a mask turns from 0 to 255, with which its components are not counted."""

MAX_COMPONENTS = 1000
"""Components of a mask, beside the background, whose contours are followed."""

_ROWS = 64


class ImageError(ValueError):
    """An image that cannot be used; its text is the reason, fit for a table of rejected files.

    `code` says which kind of reason: not_an_image, too_many_pixels, too_small or undecodable.
    """

    def __init__(self, reason: str, code: str = "undecodable") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Box:
    """A crop in pixels, half-open: rows top..bottom-1, columns left..right-1."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def whole(cls, image: Grey) -> "Box":
        """The box that holds all of an image."""
        return cls(0, image.shape[0], 0, image.shape[1])

    def crop(self, image: Grey) -> Grey:
        """Return the box's view of an image."""
        return image[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class InputSpec:
    """What a network is fed: the size of its input and how a crop is fitted to it."""

    height: int
    width: int
    fit: "Fit" = "stretch"
    crop_size: tuple[int, int] | None = None


def decode(data: bytes, max_pixels: int = 40_000_000, formats: tuple[str, ...] | None = None) -> Grey:
    """Decode an encoded image to 8-bit grey, (height, width).

    Colour becomes luma, alpha is ignored, EXIF rotation is applied, of several frames the first counts.
    More than 8 bits (16-bit, float) are scaled linearly from the image's own minimum..maximum to 0..255.

    Args:
        data: the file.
        max_pixels: more are refused.
        formats: that are taken, by Pillow's names; None: all that Pillow and OpenCV know. What PNG, JPEG,
            TIFF and WebP may cost is bounded (`brain_ray.data.file_checks`), others only by their size.

    Raises:
        ImageError: not an image, damaged, too costly, fewer than 16 px on a side, more than `max_pixels`, or
            not finite.
        MemoryError: there is too little.
    """
    if not data:
        raise ImageError("empty file", "not_an_image")
    data = _reduce(data, max_pixels)
    width, height = _header_size(data, formats)
    if width * height > max_pixels:
        raise ImageError(f"too large: {width}x{height} px, more than {max_pixels} pixels", "too_many_pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"too small: {width}x{height} px, a side needs {MIN_SIDE}", "too_small")
    if unpacks_beyond(data, width, height):
        raise ImageError("damaged: its pixels unpack to more than it has room for")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        raise ImageError(f"damaged: {error.err}") from error
    if image is None:
        raise ImageError("damaged or truncated: its header is an image's, its pixels cannot be decoded")
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
        raise ImageError(f"not finite: {image.dtype} pixels with NaN or infinity")
    low, high = float(image.min()), float(image.max())
    scale = 255.0 / (high - low) if high > low else 0.0
    grey = np.empty(image.shape, np.uint8)
    for row in range(0, len(image), _ROWS):  # as float64, all rows at once would be eight times the image
        grey[row : row + _ROWS] = np.rint((image[row : row + _ROWS].astype(np.float64) - low) * scale)
    return grey


def read_size(data: bytes, max_pixels: int, formats: tuple[str, ...] | None = None) -> tuple[int, int]:
    """Return (width, height) of an encoded image, in pixels, by its header; arguments as those of `decode`.

    Raises:
        ImageError: not an image, of none of the formats, or too costly to open.
    """
    return _header_size(_reduce(data, max_pixels), formats)


def _reduce(data: bytes, max_pixels: int) -> bytes:
    try:
        return reduce_to_picture(data, max_pixels)
    except StructureError as error:
        raise ImageError(f"refused: {error}") from error


def _header_size(data: bytes, formats: tuple[str, ...] | None) -> tuple[int, int]:
    """Return (width, height) from the header of an image of some formats, without decoding its pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit on pixels is not ours
            with Image.open(io.BytesIO(data), formats=formats) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}", "too_many_pixels") from error
    except UnidentifiedImageError as error:
        expected = f": expected one of {', '.join(formats)}" if formats else ""
        raise ImageError(f"not an image{expected}", "not_an_image") from error
    except Exception as error:  # Pillow's plugins raise many kinds on damaged headers
        raise ImageError(f"damaged header: {error}") from error


def pixel_hash(image: Grey) -> str:
    """SHA-256 (hex) of an image's size and pixels: equal for the same picture stored in other bytes."""
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def thumbnail(image: Grey) -> Grey:
    """Shrink a whole image to 96x96 by area, for the audit for copies."""
    return _as_grey(cv2.resize(image, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA))


def head_mask(image: Grey, crop: "CropConfig") -> Grey:
    """Threshold an image and drop specks: 255 where the head is, else 0; (height, width)."""
    blurred = cv2.GaussianBlur(image, (crop.blur, crop.blur), 0)
    mask = cv2.threshold(blurred, crop.threshold, 255, cv2.THRESH_BINARY)[1]
    element = np.ones((3, 3), np.uint8)
    mask = cv2.erode(mask, element, iterations=crop.iterations)
    return _as_grey(cv2.dilate(mask, element, iterations=crop.iterations))


def find_contour(image: Grey, crop: "CropConfig") -> NDArray[np.int32] | None:
    """Return the outer contour of largest area, (points, 1, 2) as x, y, or None where there is none.

    Of an image that is all specks, only the `MAX_COMPONENTS` with the largest bounding boxes are looked at.
    """
    mask = _drop_specks(head_mask(image, crop))
    contours = imutils.grab_contours(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE))
    return max(contours, key=cv2.contourArea) if contours else None


def _drop_specks(mask: Grey) -> Grey:
    """Keep the components with the largest bounding boxes, unless there are few.

    OpenCV makes an array for each contour: those of 620,000 specks took 1.6 s and 360 MB, now 0.7 s and 150.
    """
    starts = np.count_nonzero(mask[:, 1:] > mask[:, :-1])  # each component has one, or touches the left edge
    if starts + len(mask) <= MAX_STARTS:
        return mask
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count - 1 <= MAX_COMPONENTS:
        return mask
    area = stats[:, cv2.CC_STAT_WIDTH].astype(np.int64) * stats[:, cv2.CC_STAT_HEIGHT]
    area[0] = 0  # the background
    kept = np.zeros(count, np.uint8)
    kept[np.argpartition(area, -MAX_COMPONENTS)[-MAX_COMPONENTS:]] = 255
    return np.asarray(kept[labels], np.uint8)


def find_box(image: Grey, crop: "CropConfig") -> Box | None:
    """Find the box around the head: the extreme points of its contour, all of them inside the box.

    Returns None where nothing is brighter than the threshold, or where the box is smaller than
    `crop.min_share` of the image and so a fragment of the head: the caller takes the whole image. The rule
    is that of the notebooks this project replaces, which lost the last row and column, and dark heads.
    """
    contour = find_contour(image, crop)
    if contour is None:
        return None
    points = contour.reshape(-1, 2)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    box = Box(int(top), int(bottom) + 1, int(left), int(right) + 1)
    return box if box.crop(image).size >= crop.min_share * image.size else None


def resize(image: Grey, height: int, width: int, fit: "Fit" = "stretch") -> Grey:
    """Resize to (height, width): stretched, or with the aspect ratio kept and black added on both sides."""
    if fit == "pad":
        scale = min(height / image.shape[0], width / image.shape[1])
        inner_height = min(height, max(1, round(image.shape[0] * scale)))
        inner_width = min(width, max(1, round(image.shape[1] * scale)))
        canvas = np.zeros((height, width), np.uint8)
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        canvas[top : top + inner_height, left : left + inner_width] = resize(image, inner_height, inner_width)
        return canvas
    shrinks = image.shape[0] > height and image.shape[1] > width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return _as_grey(cv2.resize(image, (width, height), interpolation=interpolation))


def augment(image: Grey, ranges: "AugmentConfig", rng: np.random.Generator) -> Grey:
    """Rotate, shift, scale and flip an image, change its brightness and contrast, add noise, as `ranges` say.

    The draws of one range do not depend on the others. Pixels from outside repeat the edge, as Keras'
    ImageDataGenerator does. Noise comes last: what is resampled after it would be smoothed.
    """
    turn, right, down, zoom, bright, contrast = rng.uniform(-1.0, 1.0, size=6)
    flip = rng.random() < ranges.flip
    height, width = image.shape
    if ranges.rotation or ranges.shift or ranges.zoom:
        centre = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, turn * ranges.rotation, 1 + zoom * ranges.zoom)
        matrix[:, 2] += (right * ranges.shift * width, down * ranges.shift * height)
        image = _as_grey(
            cv2.warpAffine(
                image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        )
    if flip:
        image = image[:, ::-1]
    if ranges.brightness or ranges.contrast:
        mean = float(image.mean())
        gain = 1 + contrast * ranges.contrast
        offset = mean * (1 - gain) + bright * ranges.brightness * 255
        # Through a table of 256 values: exact, and faster than arithmetic on every pixel.
        table = np.clip(np.arange(256) * gain + offset, 0, 255).astype(np.uint8)
        image = table[image]
    if ranges.noise:
        deviation = rng.random() * ranges.noise * 255
        # OpenCV draws four times as fast as NumPy; its generator is this thread's own.
        cv2.setRNGSeed(int(rng.integers(2**31)))
        noise = np.empty(image.shape, np.float32)
        cv2.randn(noise, np.zeros(1), np.full(1, deviation))
        image = _as_grey(cv2.add(image, noise, dtype=cv2.CV_8U))
    return np.ascontiguousarray(image)


def shrink(image: Grey, side: int) -> Grey:
    """Shrink an image, by area, whose longer side is longer than `side`."""
    scale = min(1.0, side / max(image.shape))
    if scale == 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return _as_grey(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def to_input(
    image: Grey,
    box: Box,
    spec: InputSpec,
    changes: Iterable[tuple["AugmentConfig", np.random.Generator]] = (),
) -> NDArray[np.uint8]:
    """Crop an image, fit it to a network's input and change it: (height, width, 1), uint8.

    The one way from pixels to a network's input, for training, evaluation and serving. `changes` are applied
    in order: the fixed one of a balancing copy, then that of the epoch.
    """
    cropped = box.crop(image)
    if spec.crop_size is not None:
        cropped = resize(cropped, *spec.crop_size)
    fitted = resize(cropped, spec.height, spec.width, spec.fit)
    for ranges, rng in changes:
        fitted = augment(fitted, ranges, rng)
    return fitted[..., np.newaxis]


def prepare_image(image: Grey, crop: "CropConfig", spec: InputSpec) -> tuple[NDArray[np.uint8], Box, bool]:
    """Crop a decoded image to its head and fit it: (height, width, 1), uint8, the box, whether one was found.

    Where no head is found, the box is the whole image.
    """
    found = find_box(image, crop)
    box = Box.whole(image) if found is None else found
    return to_input(image, box, spec), box, found is not None


def _as_grey(image: object) -> Grey:
    return np.asarray(image, np.uint8)
