"""What does a model refuse as unlike its training images (`not_mr`), and what does it not?

Far outsiders: photographs that scikit-learn and matplotlib bring, noise, text, blank images. Near ones: other
body parts, drawn, and slices of heads changed as in brain_ray/data/phantoms/outsiders.py. There is no real CT
among them, and no real image of another body part or sequence. Changed slices are made of test images, whose
groups (patients) are neither in training nor in validation. Intervals: 95 %, over groups.

By default phantoms are drawn, and the network `tiny` learns them: two minutes on two cores, no run needed.

    python benchmarks/outsiders.py
    python benchmarks/outsiders.py --data LIST.csv --classes glioma meningioma pituitary   # real images
    python benchmarks/outsiders.py --run runs/b0                 # the bundle and the test images of a run
    python benchmarks/outsiders.py --layers                      # compares layers; test images are left alone

`--data` takes what `--data.source` does; an image without a patient is a group of its own. With `--weights`,
EfficientNetB0 learns instead of `tiny`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from outsider_trial import Images, draw_phantoms, export, inputs_of, learn, read_source, read_tests
from sklearn.datasets import load_sample_images

from brain_ray.arrays import Grey
from brain_ray.bundle.out_of_distribution import OutOfDistributionDetector, threshold
from brain_ray.bundle.predictor import Predictor
from brain_ray.config import Config, DataConfig, ModelConfig
from brain_ray.data.phantoms.outsiders import BODY_PARTS, CHANGES, FAR
from brain_ray.models.outputs import RATIOS, with_maps
from brain_ray.runs import Run
from brain_ray.scoring.intervals import GroupBootstrap

COUNT = 200
"""Images of each kind of outsider; of changed test images, all up to as many."""

RULES = ((2,), (4,), (8,), (16,), (32,), (4, 8), (2, 4, 8), (4, 8, 16), (2, 4, 8, 16, 32))
"""Layers that `--layers` compares, by the input's side as a multiple of the map's."""


def photographs(rng: np.random.Generator) -> Images:
    """Cut squares out of three photographs, in grey; each photograph is a group."""
    face = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    whole = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in load_sample_images().images]
    whole.append(cv2.imread(str(face), cv2.IMREAD_GRAYSCALE))
    parts = []
    for k in range(COUNT):
        image = whole[k % len(whole)]
        side = int(rng.integers(100, min(image.shape)))
        top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape)
        parts.append(np.asarray(image[top : top + side, left : left + side], np.uint8))
    return Images(parts, np.zeros(COUNT, np.int64), np.arange(COUNT) % len(whole))


def outsiders(heads: Images, far: bool = True) -> Iterator[tuple[str, Images]]:
    """Yield kinds of outsiders: far ones, body parts, and changes of these heads."""
    rng = np.random.default_rng(2)
    drawn: dict[str, Callable[[np.random.Generator], Grey]] = {**(FAR if far else {}), **BODY_PARTS}
    if far:
        yield "photographs", photographs(rng)
    for name, draw in drawn.items():
        yield name, Images([draw(rng) for _ in range(COUNT)], np.zeros(COUNT, np.int64), np.arange(COUNT))
    chosen = np.zeros(len(heads.grey), bool)
    chosen[rng.permutation(len(heads.grey))[:COUNT]] = True
    some = heads.take(chosen)
    for name, change in CHANGES.items():
        yield name, Images([change(image, rng) for image in some.grey], some.labels, some.groups)


def refused_by(predictor: Predictor, images: Images) -> NDArray[np.bool_]:
    """Return whether each image is refused, as in serving."""
    inputs = [predictor.prepare_image(image)[0] for image in images.grey]
    batches = [np.stack(inputs[i : i + 32]) for i in range(0, len(inputs), 32)]
    return np.array([d == "not_mr" for batch in batches for d in predictor.predict(batch).decisions])


def show_refused(predictor: Predictor, tests: Images) -> dict[str, dict[str, float]]:
    """Print the share of each kind that is refused; returns it with its interval."""
    found = {}
    print(f"{'':18}{'images':>7}{'groups':>7}   refused (95 % interval)")
    for name, images in (("test images", tests), *outsiders(tests)):
        over = GroupBootstrap(images.groups)
        share = over.share(refused_by(predictor, images))
        print(
            f"{name:18}{over.num_images:7}{over.num_groups:7}"
            f"   {share.value:7.1%} ({share.low:.1%} to {share.high:.1%})"
        )
        found[name] = {key: round(value, 4) for key, value in vars(share).items()}
    missed = [name for name, each in found.items() if each["value"] < 0.9 and name != "test images"]
    print(f"Of these kinds fewer than 90 % are refused: {', '.join(missed) or 'none'}")
    return found


def show_layers(model: Any, train: Images, valid: Images, config: Config) -> dict[str, dict[str, float]]:
    """Print the share of near outsiders that each rule of layers refuses; no test image is used.

    Detectors are fitted to the training images. Half of the validation groups give the thresholds; the other
    half is refused, or changed into outsiders.
    """
    for_threshold, heads = valid.parts((0.5, 0.5))
    kinds = {"train": train, "threshold": for_threshold, "validation": heads} | dict(outsiders(heads, False))
    inputs = {name: inputs_of(images.grey, config).astype(np.float32) for name, images in kinds.items()}
    sizes = sorted({size for rule in RULES for size in rule})
    values: dict[int, dict[str, NDArray[np.float32]]] = {}
    for size in sizes:
        network = with_maps(model, config.model.backbone_spec, (size,))
        values[size] = {name: network.predict(x, batch_size=32, verbose=0)[2] for name, x in inputs.items()}
    names = [name for name in kinds if name not in ("train", "threshold")]
    print(f"{'layers':16}{'features':>9}" + "".join(f"{name.split(' ')[0]:>12}" for name in names))
    found = {}
    for rule in RULES:
        x = {name: np.concatenate([values[size][name] for size in rule], axis=1) for name in kinds}
        detector = OutOfDistributionDetector.fit(x["train"])
        furthest = threshold(
            detector.distance(x["threshold"]), config.export.keep_share, for_threshold.groups
        )
        shares = {name: float((detector.distance(x[name]) > furthest).mean()) for name in names}
        title = "1/" + ", 1/".join(map(str, rule)) + (" *" if rule == RATIOS else "")
        print(f"{title:16}{x['train'].shape[1]:9}" + "".join(f"{share:12.1%}" for share in shares.values()))
        found[title] = {name: round(share, 4) for name, share in shares.items()}
    print("* the rule of bundles")
    return found


def main() -> None:
    """Print a table; last, its shares as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", help="folder of a finished run")
    parser.add_argument("--data", help="folder or list of real images")
    parser.add_argument("--classes", nargs="+", default=DataConfig().classes)
    parser.add_argument("--weights", help="file of EfficientNetB0's initial weights")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--layers", action="store_true", help="compare layers")
    words = parser.parse_args()
    started = time.monotonic()
    if words.run:
        run = Run(str(Path(words.run).parent), Path(words.run).name)
        found: Any = show_refused(Predictor(run.uri("bundle")), read_tests(run))
    else:
        data = DataConfig(source=words.data or "phantoms", classes=tuple(words.classes))
        backbone, weights = ("EfficientNetB0", words.weights) if words.weights else ("tiny", "none")
        sides = {"height": 96, "width": 96, "bn_momentum": 0.9}
        config = Config(
            name="outsiders", data=data, model=ModelConfig(backbone=backbone, weights=weights, **sides)
        )
        images = read_source(data) if words.data else draw_phantoms(data.classes)
        train, valid, tests = images.parts((0.6, 0.2, 0.2))
        model = learn(train, config, words.epochs)
        if words.layers:
            found = show_layers(model, train, valid, config)
        else:
            with tempfile.TemporaryDirectory() as folder:
                predictor = export(model, train, valid, config, Path(folder) / "bundle")
                found = show_refused(predictor, tests)
    print(f"{time.monotonic() - started:.0f} s")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
