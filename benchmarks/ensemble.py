"""What an ensemble and mirrored averaging cost to serve, and what mirroring gains.

EfficientNet-B0 with random weights, as a bundle's model.onnx: alone, as the mean of three, and answering each
image mirrored too (`export.mirrored`). ONNX Runtime computes one image and a batch of eight, in turns.

    python benchmarks/ensemble.py [--members 3] [--size 160]
    python benchmarks/ensemble.py --run runs/cv     # also: what mirroring does on images of a run

Those are, of a cross-validation, the images of all folds, each answered by the model that learned from the
others; of another run its validation images, which chose the model's epoch (unmirrored). The gain is mirrored
less plain, of log loss (raw, lower is better) and accuracy, with its 95 % interval over groups.
"""

import argparse
import io
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from brain_ray.bundle.convert import convert_served
from brain_ray.bundle.export import MAX_VALIDATION
from brain_ray.bundle.session import open_session, run
from brain_ray.bundle.thresholds import run_all
from brain_ray.config import Config, ModelConfig
from brain_ray.data.dataset import group_column, read_input_facts, read_inputs
from brain_ray.data.folds import DEVELOPMENT
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.models.ensemble import join_networks
from brain_ray.models.network import build_network
from brain_ray.models.weights import assign_weights, read_weights
from brain_ray.runs import BEST, MEMBER_FOLDS, MEMBERS, Run
from brain_ray.scoring.calibration import log_losses
from brain_ray.scoring.intervals import GroupBootstrap

BACKBONE = "EfficientNetB0"
TURNS, CALLS = 8, 12


def session_of(
    settings: ModelConfig,
    classes: int,
    folder: Path,
    members: int = 1,
    *,
    mirrored: bool = False,
    weights: Sequence[NDArray[Any]] | None = None,
) -> onnxruntime.InferenceSession:
    """Convert the mean of some networks, with random or the given weights, and open it."""
    networks = [build_network(settings, classes, seed) for seed in range(members)]
    if weights is not None:
        assign_weights(networks[0], weights)
    target = folder / "model.onnx"
    specs = [settings.backbone_spec] * members
    convert_served(join_networks(networks, mirrored=mirrored), specs, target, 17)
    return open_session(target.read_bytes(), gpu=False)


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds of a call, by several."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


def costs(members: int, size: int, folder: Path) -> dict[str, float]:
    """Return the times of an answer, and their ratios to that of one network."""
    settings = ModelConfig(backbone=BACKBONE, height=size, width=size, weights="none")
    one = session_of(settings, 4, folder)
    all_ = session_of(settings, 4, folder, members)
    mirrored = session_of(settings, 4, folder, mirrored=True)
    values: dict[str, float] = {"members": members}
    for batch in (1, 8):
        images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 1), np.uint8)
        sessions = (one, all_, mirrored)
        for session in sessions:
            run(session, images)
        taken = np.array(
            [[seconds(lambda: run(session, images)) for session in sessions] for _ in range(TURNS)]  # noqa: B023
        )
        alone, together, twice = np.median(taken, axis=0)
        values[f"ms of one, batch {batch}"] = 1000 * alone
        values[f"ms of all, batch {batch}"] = 1000 * together
        values[f"ms of one mirrored, batch {batch}"] = 1000 * twice
        values[f"of_members_times_one, batch {batch}"] = together / (members * alone)
        values[f"mirrored_of_twice_one, batch {batch}"] = twice / (2 * alone)
    return values


def held_out(run_: Run) -> Iterator[tuple[list[NDArray[Any]], Sequence[str], Any]]:
    """Yield weights with the splits and ids (None: all) of images that they did not learn from: of each fold
    of a cross-validation, or of the one training with its validation images."""
    answers = OutOfFold.read(run_)
    if answers is None:
        yield read_weights(io.BytesIO(run_.read_bytes(*BEST))), ["valid"], None
        return
    for name, fold in run_.read_json(*MEMBER_FOLDS).items():
        held = answers.image_id[answers.fold == fold]
        yield read_weights(io.BytesIO(run_.read_bytes(*MEMBERS, name))), DEVELOPMENT, held


def gains(folder: str, temporary: Path) -> dict[str, float]:
    """Return what mirroring does to a run's models on those images, with the differences' intervals."""
    found = Run(str(Path(folder).parent), Path(folder).name)
    config = Config.model_validate(found.read_json("config.json")["config"])
    settings = config.model.model_copy(update={"weights": "none"})
    losses: list[list[NDArray[np.float64]]] = [[], []]
    right: list[list[NDArray[np.float64]]] = [[], []]
    groups = []
    for weights, splits, ids in held_out(found):
        inputs, labels = read_inputs(found, config, splits, MAX_VALIDATION, ids)
        groups.append(group_column(read_input_facts(found, config, splits, MAX_VALIDATION, ids)))
        for k, mirrored in enumerate((False, True)):
            classes = len(config.data.classes)
            session = session_of(settings, classes, temporary, mirrored=mirrored, weights=weights)
            chances = run_all(session, inputs, "probabilities").astype(np.float64)
            losses[k].append(log_losses(chances, labels))
            right[k].append((chances.argmax(axis=1) == labels).astype(np.float64))
    bootstrap = GroupBootstrap(np.concatenate(groups))
    values: dict[str, float] = {"images": bootstrap.num_images, "groups": bootstrap.num_groups}
    for name, scores in (("log loss", losses), ("accuracy", right)):
        plain, turned = map(np.concatenate, scores)
        difference = bootstrap.mean(turned - plain)
        values |= {name: float(plain.mean()), f"{name}, mirrored": float(turned.mean())}
        values |= {f"{name}, gain low": difference.low, f"{name}, gain high": difference.high}
    return values


def main() -> None:
    """Measure in turns; print a table, and last a line of JSON."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--members", type=int, default=3, help="number of networks (default: 3)")
    words.add_argument("--size", type=int, default=160, help="side of the input in pixels (default: 160)")
    words.add_argument("--run", help="folder of a trained run, whose models are tried mirrored")
    given = words.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow is imported
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # tf2onnx calls what is deprecated
    with tempfile.TemporaryDirectory() as folder:
        values = costs(given.members, given.size, Path(folder))
        if given.run:
            values |= gains(given.run, Path(folder))
    for name, value in values.items():
        print(f"{name:35} {value:.4g}")
    print(json.dumps(values))


if __name__ == "__main__":
    main()
