"""How many planted copies does the audit find? Changes real or drawn images and compares each with itself.

Shows for each kind of change the median similarity and the share that reaches a threshold. FOLDER is searched
for images at any depth; without one, phantoms are drawn.

    python benchmarks/planted.py FOLDER
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.config import CropConfig, DataConfig
from brain_ray.data import similarity as audit
from brain_ray.data.decoding import decode
from brain_ray.data.phantoms.files import draw
from brain_ray.data.transforms import Box, find_box, thumbnail

Grey = NDArray[np.uint8]

COUNT = 200
"""Images that are changed, at most, spread evenly over the folder."""

THRESHOLDS = (0.99, 0.97)


def load(folder: str | None) -> list[Grey]:
    """Return the images: of the folder, or phantoms of the four classes in turn."""
    if folder is None:
        drawn = [draw(DataConfig().classes[i % 4], 11, i) for i in range(COUNT)]
        return [np.ascontiguousarray(image if image.ndim == 2 else image[..., 0]) for image in drawn]
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    step = max(1, len(files) // COUNT)
    return [decode(path.read_bytes()) for path in files[::step][:COUNT]]


def warped(image: Grey, degrees: float = 0, scale: float = 1, shift: float = 0) -> Grey:
    """Turn and zoom an image about its middle, and shift it by a share of its width; edges are repeated."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    matrix[0, 2] += shift * width
    moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def saved(image: Grey) -> Grey:
    """Save as JPEG of quality 30 and read it again."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def cropped(image: Grey) -> Grey:
    """Cut to the head, as training does."""
    return (find_box(image, CropConfig()) or Box.whole(image)).crop(image)


def framed(image: Grey) -> Grey:
    """Add a black margin of 5 % a side."""
    rows, columns = (round(0.05 * side) for side in image.shape)
    wider = cv2.copyMakeBorder(image, rows, rows, columns, columns, cv2.BORDER_CONSTANT, value=(0,))
    return np.asarray(wider, np.uint8)


def lightened(image: Grey) -> Grey:
    """Brighten the dark parts more than the bright ones: gamma 0.6."""
    return np.asarray(255 * (image / 255) ** 0.6, np.uint8)


KINDS: dict[str, Callable[[Grey], Grey]] = {
    "saved as JPEG, quality 30": saved,
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "turned by 180 degrees": lambda image: np.ascontiguousarray(image[::-1, ::-1]),
    "darker, flatter": lambda image: np.asarray(0.6 * image + 30, np.uint8),
    "gamma 0.6": lightened,
    "shifted by 0.5 %": lambda image: warped(image, shift=0.005),
    "shifted by 1 %": lambda image: warped(image, shift=0.01),
    "turned by 1 degree": lambda image: warped(image, degrees=1),
    "turned by 2 degrees": lambda image: warped(image, degrees=2),
    "turned by 5 degrees": lambda image: warped(image, degrees=5),
    "turned by 90 degrees": lambda image: np.ascontiguousarray(np.rot90(image)),
    "zoomed by 1 %": lambda image: warped(image, scale=1.01),
    "zoomed by 2 %": lambda image: warped(image, scale=1.02),
    "cut to the head": cropped,
    "black margin of 5 %": framed,
}


def main(folder: str | None) -> None:
    """Print a table; last, the shares that are found as JSON."""
    images = load(folder)
    if not images:
        sys.exit(f"error: no .jpg or .png below {folder}")
    originals = np.stack([thumbnail(image) for image in images])
    same = np.arange(len(images))
    print(f"{len(images)} images{'':16}{'median':>8}" + "".join(f"{f'found at {t}':>16}" for t in THRESHOLDS))
    shares = {}
    for name, change in KINDS.items():
        copies = np.stack([thumbnail(change(image)) for image in images])
        similarity = audit.verify(originals, copies, same, same, threshold=-1.0).similarity
        found = [float((similarity >= threshold).mean()) for threshold in THRESHOLDS]
        shares[name] = round(found[0], 4)
        print(f"{name:27}{np.median(similarity):8.3f}" + "".join(f"{share:16.1%}" for share in found))
    print(json.dumps({"found": shares}))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
