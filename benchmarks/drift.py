"""Does the endpoint's watch for drift alarm when images change, and keep quiet when they do not?

    python benchmarks/drift.py runs/smoke/bundle

Draws phantoms like those of the recipe `smoke`, of other numbers, classifies each with the bundle, and lets
the endpoint's own watch compare them: 20 times 500 as they are, then changed in each of several ways, until
it alarms. Each image is a request.
"""

import argparse
import json
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.bundle.predictor import Predictor
from brain_ray.data.phantoms.files import draw
from brain_ray.serving.answers import Prepared, make_answer
from brain_ray.serving.drift import DriftWatch

Picture = NDArray[np.uint8]

REQUESTS, TIMES = 500, 20
SEED = 99


def small(image: Picture) -> Picture:
    """Return it at 60 pixels."""
    return np.asarray(cv2.resize(image, (60, 60), interpolation=cv2.INTER_AREA), np.uint8)


def gamma(power: float) -> Callable[[Picture], Picture]:
    """Return a function that raises grey levels to a power."""
    return lambda image: np.asarray(255 * (image / 255.0) ** power, np.uint8)


def frame(image: Picture) -> Picture:
    """Return it within a black frame of a tenth of its sides."""
    height, width = (round(0.1 * side) for side in image.shape)
    return np.pad(image, ((height, height), (width, width)))


def blur(image: Picture) -> Picture:
    """Return it blurred by a Gaussian of 1 pixel."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1), np.uint8)


def add(predictor: Predictor, watch: DriftWatch, image: Picture) -> bool:
    """Classify an image; return whether the watch has just alarmed."""
    fed, box, has_box = predictor.prepare_image(image)
    height, width = image.shape
    prepared = Prepared("", time.perf_counter(), fed, box, has_box, width, height)
    answer = make_answer(predictor, predictor.predict(fed[None]), 0, prepared)
    shift = watch.add(prepared, answer)[1]
    return shift is not None and bool(shift.alarms)


def main() -> None:
    """Print how often and how soon it alarms, and last a line of JSON."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("bundle", help="folder of a bundle that was made of phantoms")
    given = words.parse_args()
    predictor = Predictor(given.bundle)
    number = iter(range(10**9))

    def phantom() -> Picture:
        index = next(number)
        drawn = draw(predictor.classes[index % len(predictor.classes)], SEED, index)
        return drawn if drawn.ndim == 2 else np.ascontiguousarray(drawn[..., 0])

    alarmed = 0
    for _ in range(TIMES):
        watch = DriftWatch(predictor)
        alarmed += any(add(predictor, watch, phantom()) for _ in range(REQUESTS))
    print(f"as they are: {alarmed} of {TIMES} times {REQUESTS} requests alarm")
    found: dict[str, float | None] = {"undisturbed alarms": alarmed}
    print(f"\n{'changed':16}{'alarm after':>12}  by")
    changes = {"60 pixels": small, "gamma 0.5": gamma(0.5), "gamma 0.8": gamma(0.8), "10 % frame": frame}
    for name, change in {**changes, "blur of 1 px": blur}.items():
        watch = DriftWatch(predictor)
        after = next((i for i in range(1, REQUESTS + 1) if add(predictor, watch, change(phantom()))), None)
        told = watch.tell()
        by = ", ".join(name for name, one in told.quantities.items() if one.alarms)
        print(f"{name:16}{after or 'never':>12}  {by}")
        found[name] = after
    print(json.dumps(found))


if __name__ == "__main__":
    main()
