"""What an ensemble costs to serve: the time of one image, against as many times that of one member.

EfficientNet-B0 with random weights, as a bundle's model.onnx, alone and as the mean of three; ONNX Runtime
computes one image and a batch of eight, in turns.

    python benchmarks/ensemble.py [--members 3] [--size 160]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from brain_ray.bundle.convert import convert_served
from brain_ray.bundle.session import open_session, run
from brain_ray.config import BACKBONES, ModelConfig
from brain_ray.models.ensemble import join_networks
from brain_ray.models.network import build_network

BACKBONE = "EfficientNetB0"
TURNS, CALLS = 8, 12


def session_of(members: int, size: int, folder: Path) -> onnxruntime.InferenceSession:
    """Convert the mean of some networks, and open it."""
    settings = ModelConfig(backbone=BACKBONE, height=size, width=size, weights="none")
    networks = [build_network(settings, 4, seed) for seed in range(members)]
    target = folder / f"{members}.onnx"
    convert_served(join_networks(networks), BACKBONES[BACKBONE], target, 17)
    return open_session(target.read_bytes(), gpu=False)


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds of a call, by several."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


def main() -> None:
    """Measure in turns; print a table, and last a line of JSON."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--members", type=int, default=3, help="number of networks (default: 3)")
    words.add_argument("--size", type=int, default=160, help="side of the input in pixels (default: 160)")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one, all_ = (session_of(number, given.size, Path(folder)) for number in (1, given.members))
    values: dict[str, float] = {"members": given.members}
    for batch in (1, 8):
        images = np.random.default_rng(0).integers(0, 256, (batch, given.size, given.size, 1), np.uint8)
        run(one, images), run(all_, images)
        taken = np.array(
            [[seconds(lambda: run(session, images)) for session in (one, all_)] for _ in range(TURNS)]  # noqa: B023
        )
        alone, together = np.median(taken, axis=0)
        values[f"ms of one, batch {batch}"] = 1000 * alone
        values[f"ms of all, batch {batch}"] = 1000 * together
        values[f"of_members_times_one, batch {batch}"] = together / (given.members * alone)
    for name, value in values.items():
        print(f"{name:35} {value:.3g}")
    print(json.dumps(values))


if __name__ == "__main__":
    main()
