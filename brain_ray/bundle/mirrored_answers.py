"""Out-of-fold answers as a mirrored bundle gives them: each image as it is and mirrored, averaged.

`python -m brain_ray.bundle.mirrored_answers <job>`: <job> holds config.json, what `write_members` writes of
each network, and images.npy, (n, height, width, 1) uint8. Writes answers.npy there, (n, classes) float32.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brain_ray.bundle.isolated import run_module
from brain_ray.bundle.members import Member, members_by_fold, networks_in, write_members
from brain_ray.config import Config
from brain_ray.data.dataset import read_input_facts, read_inputs
from brain_ray.data.folds import DEVELOPMENT
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.models.ensemble import join_networks
from brain_ray.models.keras_import import import_keras
from brain_ray.runs import Run

BATCH_SIZE = 32


def mirrored_answers(run: Run, config: Config, plain: OutOfFold, limit: int) -> OutOfFold:
    """Returns answers of the networks that gave the plain ones, each to the images of its own fold.

    TensorFlow runs in a separate process, on the CPU. Of a fold of more than `limit` images, those that
    `read_inputs` draws are answered.

    Raises:
        RunError: as `members_by_fold`.
    """
    found: dict[int, NDArray[np.float32]] = {}
    for fold, members in members_by_fold(run, config, plain).items():
        held = plain.image_id[plain.fold == fold]
        inputs, _ = read_inputs(run, config, DEVELOPMENT, limit, held)
        ids = read_input_facts(run, config, DEVELOPMENT, limit, held).index
        found |= zip(ids, _answer(config, members, inputs), strict=True)
    kept = np.isin(plain.image_id, list(found))
    return OutOfFold(
        image_id=plain.image_id[kept],
        fold=plain.fold[kept],
        label=plain.label[kept],
        group=plain.group[kept],
        probabilities=np.stack([found[number] for number in plain.image_id[kept]]),
    )


def _answer(config: Config, members: Sequence[Member], inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder)
        (job / "config.json").write_text(config.model_dump_json())
        write_members(job, members)
        np.save(job / "images.npy", inputs)
        run_module(__name__, job)
        answers: NDArray[np.float32] = np.load(job / "answers.npy")
        return answers


def main() -> None:
    """Answers the images of the folder that the command line names."""
    import_keras()
    job = Path(sys.argv[1])
    config = Config.model_validate_json((job / "config.json").read_bytes())
    model = join_networks(networks_in(job, config), mirrored=True)
    images: NDArray[np.uint8] = np.load(job / "images.npy", mmap_mode="r")
    answers = [
        np.asarray(model(images[start : start + BATCH_SIZE].astype(np.float32), training=False), np.float32)
        for start in range(0, len(images), BATCH_SIZE)
    ]
    np.save(job / "answers.npy", np.concatenate(answers))


if __name__ == "__main__":
    main()
