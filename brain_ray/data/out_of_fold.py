"""Out-of-fold answers: each image's probabilities by a model that saw no image of its group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from brain_ray.data.dataset import read_table
from brain_ray.data.folds import Folds
from brain_ray.data.groups import Ints
from brain_ray.runs import OUT_OF_FOLD, Run


@dataclass(frozen=True)
class OutOfFold:
    """Answers to the images of some folds."""

    image_id: Ints
    """(n,)."""
    fold: Ints
    """(n,), the fold that the image is in: the model that answered it learned from the others."""
    label: Ints
    """(n,), true classes."""
    group: Ints
    """(n,), of patients and copies."""
    probabilities: NDArray[np.float32]
    """(n, classes), raw."""

    @classmethod
    def pool(cls, folds: Folds, answers: Mapping[int, NDArray[np.float32]]) -> "OutOfFold":
        """Puts the answers of some folds together, in the order of the rows.

        Args:
            folds: the folds of all images.
            answers: by fold, (images of the fold, classes), in the order of its rows.
        """
        rows = np.concatenate([np.flatnonzero(folds.held_out(fold)) for fold in answers])
        order = np.argsort(rows)
        rows = rows[order]
        return cls(
            image_id=folds.image_id[rows],
            fold=folds.fold[rows],
            label=folds.label[rows],
            group=folds.group[rows],
            probabilities=np.concatenate(list(answers.values()))[order],
        )

    def of(self, image_ids: Ints) -> NDArray[np.float32]:
        """Returns the answers, (m, classes), to the images with these ids, (m,)."""
        order = np.argsort(self.image_id)
        places: NDArray[np.float32] = self.probabilities[
            order[np.searchsorted(self.image_id[order], image_ids)]
        ]
        return places

    def write(self, run: Run, file: Sequence[str] = OUT_OF_FOLD) -> None:
        """Writes out_of_fold.parquet into the run's train/, or another file."""
        columns = {name: getattr(self, name) for name in ("image_id", "fold", "label", "group")}
        columns |= {f"probability_{k}": column for k, column in enumerate(self.probabilities.T)}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        run.write_bytes(sink.getvalue().to_pybytes(), *file)

    @classmethod
    def read(cls, run: Run, file: Sequence[str] = OUT_OF_FOLD) -> "OutOfFold | None":
        """Reads it; None where a run's training left out no fold."""
        if not run.exists(*file):
            return None
        table: pd.DataFrame = read_table(run, *file)
        chances = table[[name for name in table.columns if name.startswith("probability_")]]
        image_id, fold, label, group = (
            table[name].to_numpy(np.int64) for name in ("image_id", "fold", "label", "group")
        )
        return cls(image_id, fold, label, group, chances.to_numpy(np.float32))
