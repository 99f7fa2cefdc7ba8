"""Networks that a bundle averages: where a run has them, and how the process that converts gets them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import Config, ModelConfig
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.errors import RunError
from brain_ray.models.network import build_network
from brain_ray.models.weights import assign_weights, read_weights, write_weights
from brain_ray.runs import (
    AVERAGES,
    AVERAGES_OUT_OF_FOLD,
    BEST,
    MEMBER_FOLDS,
    MEMBERS,
    OUT_OF_FOLD,
    TRAIN,
    Run,
)

if TYPE_CHECKING:
    import keras


class Member(NamedTuple):
    """A trained network."""

    weights: Sequence[NDArray[Any]]
    """In the order of `model.weights` of `build_network`."""
    model: ModelConfig


def members_of(run: Run, config: Config) -> list[Member]:
    """Returns the networks that a bundle averages, the best first.

    Raises:
        RunError: several are asked for, and the run has fewer.
    """
    wanted = config.export.members
    if wanted in AVERAGES_OUT_OF_FOLD:
        return _averaged(run, str(wanted), config.train.fold)
    if wanted in ("best", 1):
        return [_member(run, BEST, config.model)]
    files = run.list_files(*MEMBERS, suffix=".npz")
    if not files or (isinstance(wanted, int) and wanted > len(files)):
        raise RunError(
            f"export.members is {wanted}, and {run.uri(TRAIN)} has {len(files) or 'one'}: train over more "
            "folds (--folds) or seeds (--sweep.seeds), or set --export.members best"
        )
    names = [file.rpartition("/")[2] for file in files]
    return [
        _member(run, (*MEMBERS, name), config.model)
        for name in names[: wanted if isinstance(wanted, int) else None]
    ]


def answers_of(run: Run, config: Config) -> OutOfFold | None:
    """Returns the out-of-fold answers of networks like those of `members_of`; None: no fold was left out.

    Of the mean of several models or seeds that is the mean of their answers; else they are those of a single
    network.
    """
    return OutOfFold.read(run, AVERAGES_OUT_OF_FOLD.get(str(config.export.members), OUT_OF_FOLD))


def members_by_fold(run: Run, config: Config, answers: OutOfFold) -> dict[int, list[Member]]:
    """Returns the networks whose mean gave `answers_of`, by the fold that they left out.

    Raises:
        RunError: their weights are not there, or it is not known which fold each left out.
    """
    folds = [int(fold) for fold in np.unique(answers.fold)]
    if config.export.members in AVERAGES_OUT_OF_FOLD:
        return {fold: _averaged(run, str(config.export.members), fold) for fold in folds}
    if config.train.fold is not None and folds == [config.train.fold]:
        return {config.train.fold: [_member(run, BEST, config.model)]}
    if not run.exists(*MEMBER_FOLDS):
        raise RunError(
            f"{run.uri(*MEMBER_FOLDS)} is not there, so it is not known which of the networks answers which "
            "fold mirrored: an earlier version chose them. Train under another --name, or set "
            "--export.mirrored False"
        )
    known = run.read_json(*MEMBER_FOLDS)
    return {fold: [_member(run, (*MEMBERS, name), config.model)] for name, fold in known.items()}


def _averaged(run: Run, kind: str, fold: int | None) -> list[Member]:
    """Returns the networks of one kind of average that left out a fold."""
    networks = run.read_json(*AVERAGES).get(kind) if run.exists(*AVERAGES) else None
    if not networks:
        raise RunError(
            f"export.members is {kind}, and {run.uri(TRAIN)} has one: sweep over several backbones of one "
            "input size (models), or with --sweep.seeds (seeds), or set --export.members best"
        )
    found = []
    for one in networks:
        if one["fold"] == fold:
            if not run.exists(*one["weights"]):
                raise RunError(
                    f"the weights of trial {one['trial']} are gone from {run.uri(*one['weights'])}: sweep "
                    "again under another --name, or set --export.members best"
                )
            found.append(_member(run, one["weights"], ModelConfig.model_validate(one["model"])))
    return found


def _member(run: Run, weights: Sequence[str], model: ModelConfig) -> Member:
    return Member(read_weights(io.BytesIO(run.read_bytes(*weights))), model)


def write_members(folder: Path, members: Sequence[Member]) -> None:
    """Writes each network's `model-<number>.json` and `weights-<number>.npz`."""
    for number, member in enumerate(members):
        (folder / f"model-{number}.json").write_text(member.model.model_dump_json())
        write_weights(folder / f"weights-{number}.npz", member.weights)


def models_in(folder: Path) -> list[ModelConfig]:
    """Returns the settings of the networks that `write_members` wrote; their weights begin with none."""
    count = len(list(folder.glob("weights-*.npz")))
    texts = [(folder / f"model-{number}.json").read_bytes() for number in range(count)]
    models = [ModelConfig.model_validate_json(text) for text in texts]
    # One graph, whatever the initial weights.
    return [model.model_copy(update={"weights": "none"}) for model in models]


def networks_in(folder: Path, config: Config) -> "list[keras.Model]":
    """Builds the networks that `write_members` wrote."""
    networks = []
    for number, model in enumerate(models_in(folder)):
        networks.append(build_network(model, len(config.data.classes), config.seed))
        assign_weights(networks[-1], read_weights(folder / f"weights-{number}.npz"))
    return networks
