"""One shape for the programs of XLA, which compiles each shape anew: smaller batches are filled up."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from brain_ray.loading.loader import Batch


def fill(batch: Batch, partner: NDArray[np.int32]) -> tuple[Batch, NDArray[np.int32]]:
    """Repeats a batch's rows in turn, with weight 0, until there are as many as in the epoch's largest batch.

    In losses and counts the repeated rows weigh nothing. They are part of means over all rows, in which a
    repeated row counts more than once: the statistics of batch norms that learn, and the penalty on
    activities. Without these, gradients are those of the rows. Rows of zeros would move the means much
    further; rows of other batches would have to be loaded for it, and would be part of the means as well.

    Args:
        batch: one worker's part of a global batch.
        partner: (n,), the row that each row is mixed with.

    Returns:
        The batch and the partners, of `batch.largest` rows; as they are, if there are as many.
    """
    rows = len(batch.labels)
    if rows >= batch.largest:
        return batch, partner
    source = np.arange(batch.largest) % rows
    weight = np.zeros(batch.largest, np.float32)
    weight[:rows] = batch.sample_weight
    filled = replace(batch, inputs=batch.inputs[source], labels=batch.labels[source], sample_weight=weight)
    if batch.masks is not None and batch.outlined is not None:
        filled = replace(filled, masks=batch.masks[source], outlined=batch.outlined[source])
    return filled, partner[source]
