"""Folds of a prepared data set: which rows a training without one of them learns from, and leaves out."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brain_ray.config import Config
from brain_ray.data.dataset import group_column, read_columns, read_table
from brain_ray.data.groups import Ints, fold_numbers, hold_out_groups
from brain_ray.errors import RunError
from brain_ray.runs import DATASET_MANIFEST, Run

DEVELOPMENT = ("train", "valid")
"""Splits that are dealt to the folds, in the order of their rows here."""

Masks = dict[Literal["train", "valid", "held_out"], NDArray[np.bool_]]


@dataclass(frozen=True)
class Folds:
    """Folds of the training and validation images, row by row of the files of `train` and then of `valid`."""

    image_id: Ints
    """(rows,)."""
    label: Ints
    """(rows,)."""
    group: Ints
    """(rows,), of patients and copies."""
    fold: Ints
    """(rows,)."""
    original: NDArray[np.bool_]
    """(rows,), False for the augmented copies that balance the classes."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the folds, rising."""
        return tuple(np.unique(self.fold).tolist())

    def left_out_by(self, config: Config) -> tuple[int, ...]:
        """Returns the folds that a cross-validation leaves out in turn: all, or the one of `train.fold`."""
        return self.numbers if config.train.fold is None else (config.train.fold,)

    def held_out(self, fold: int) -> NDArray[np.bool_]:
        """Returns which rows, (rows,), are the images of a fold.

        Raises:
            RunError: there is no such fold.
        """
        held: NDArray[np.bool_] = (self.fold == fold) & self.original
        if not held.any():
            raise RunError(f"there is no fold {fold}: the folds are {list(self.numbers)}")
        return held

    def used_by(self, config: Config) -> Masks:
        """Returns `split` for a training that leaves out a fold."""
        assert config.train.fold is not None, "a training without a fold uses the splits as they are"
        return self.split(config.train.fold, config.data.valid_fraction, config.train.group_share)

    def split(self, fold: int, valid_fraction: float, group_share: float = 1.0) -> Masks:
        """Returns which rows a training without a fold learns from, chooses its epoch on, and leaves out.

        No group of an image that is left out is learned from or chosen on: where folds cut a group, its
        images in other folds are not used. Of the others, `valid_fraction` of each class is drawn for the
        choice, by whole groups and by the fold's number alone: the same for all models and seeds. Of the
        groups that are then left, `group_share` is learned from.

        Raises:
            RunError: there is no such fold, or a class is left without an image to learn from.
        """
        held = self.held_out(fold)
        usable = ~np.isin(self.group, self.group[held])
        rows = np.flatnonzero(usable & self.original)
        drawn = rows[hold_out_groups(self.label[rows], self.group[rows], valid_fraction, fold)]
        chosen_on = np.isin(self.group, self.group[drawn])
        learned = usable & ~chosen_on
        learned &= np.isin(self.group, self._share_of(learned, group_share, fold))
        masks: Masks = {"train": learned, "valid": chosen_on & self.original, "held_out": held}
        for split in ("train", "valid"):
            missing = np.setdiff1d(self.label, self.label[masks[split]])
            if len(missing):
                raise RunError(
                    f"without fold {fold}, no image of class {missing[0]} is left for {split}: lower "
                    "--folds, or add patients of this class"
                )
        return masks

    def _share_of(self, rows: NDArray[np.bool_], share: float, seed: int) -> Ints:
        """Draws a share of the groups of some rows, of those of each class and one at least; returns their
        numbers. A group with several classes is taken for that of its first row."""
        groups, first = np.unique(self.group[rows], return_index=True)
        order = np.random.default_rng([seed, 3]).permutation(len(groups))
        groups, labels = groups[order], self.label[rows][first[order]]
        drawn = [groups[labels == k][: math.ceil(share * (labels == k).sum())] for k in np.unique(labels)]
        return np.concatenate(drawn)


def read_folds(run: Run, config: Config) -> Folds:
    """Deals the training and validation images of a run to `config.folds` folds, or takes the source's, or
    those of each source, which are numbered from 1 by their names.

    Dealt, they are stratified by class, by whole groups, and by the config's seed.

    Raises:
        RunError: no data set, a class with fewer groups than folds, `source`, and the source tells the fold
            of some images only, or `each_source`, and the source of some is not known, or that of all is one.
    """
    manifest = read_table(run, *DATASET_MANIFEST)
    manifest = manifest[manifest["split"].isin(DEVELOPMENT)].set_index("image_id")
    manifest = manifest.assign(group=group_column(manifest))
    if config.folds == "source":
        fold = _stated(run, manifest)
    elif config.folds == "each_source":
        fold = _by_source(run, manifest)
    else:
        assert config.folds is not None, "Config refuses train.fold without folds"
        fold = pd.Series(fold_numbers(manifest, config.folds, config.seed), manifest.index)
    tables = [read_columns(run, split, ["image_id", "augment_seed"]).to_pandas() for split in DEVELOPMENT]
    rows = pd.concat(tables, ignore_index=True)
    known = manifest.loc[rows["image_id"], ["label", "group"]].astype(np.int64)
    return Folds(
        image_id=rows["image_id"].to_numpy(np.int64),
        label=known["label"].to_numpy(),
        group=known["group"].to_numpy(),
        fold=fold.loc[rows["image_id"]].to_numpy(np.int64),
        original=rows["augment_seed"].to_numpy() < 0,
    )


def _stated(run: Run, manifest: pd.DataFrame) -> "pd.Series[int]":
    told = manifest["fold"] if "fold" in manifest else pd.Series(-1, manifest.index)
    without = int((told < 0).sum())
    if without:
        raise RunError(
            f"--folds is source, and the source tells no fold of {without} of {len(told)} training and "
            f"validation images of {run.uri('dataset')}: add a column fold (whole numbers from 0) to its "
            "manifest, or give the number of folds to deal"
        )
    if told.nunique() < 2:
        raise RunError("--folds is source, and all images are of one fold: two are needed at least")
    return told


def _by_source(run: Run, manifest: pd.DataFrame) -> "pd.Series[int]":
    told = manifest["source"].fillna("") if "source" in manifest else pd.Series("", manifest.index)
    without = int((told == "").sum())
    if without:
        raise RunError(
            f"--folds is each_source, and the source of {without} of {len(told)} training and validation "
            f"images of {run.uri('dataset')} is not known: add a column source (where an image comes from: a "
            "hospital, a scanner) to their manifest"
        )
    names = sorted(set(told))
    if len(names) < 2:
        raise RunError(f"--folds is each_source, and all images are of {names[0]}: two are needed at least")
    return told.map({name: number for number, name in enumerate(names, start=1)})
