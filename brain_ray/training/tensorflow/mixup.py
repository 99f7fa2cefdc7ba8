"""Mixup: each row of a step is mixed with another one, its label too."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf


def draw_mixture(alpha: float | None, rows: int, *seed: int) -> tuple[NDArray[np.int32], np.float32]:
    """Draws for some rows which other one each is mixed with, int32 (rows,), and the share of the row itself.

    The share is the larger of the two, so that the row's own label stays the likelier. Without an `alpha`,
    each row is its own partner.
    """
    if alpha is None:
        return np.arange(rows, dtype=np.int32), np.float32(1)
    rng = np.random.default_rng(seed)
    share = rng.beta(alpha, alpha)
    return rng.permutation(rows).astype(np.int32), np.float32(max(share, 1 - share))


def mix(values: Any, partner: Any, share: Any) -> "tf.Tensor":
    """Mixes rows, (n, ...), with their partners, (n,) indices; within a compiled step. Returns float32."""
    import tensorflow as tf

    own = tf.cast(values, tf.float32)
    return share * own + (1 - share) * tf.gather(own, partner)
