"""Mixup and CutMix: each row of a step is mixed with another one, or gets a box of it; its label likewise."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brain_ray.config import TrainConfig

if TYPE_CHECKING:
    import tensorflow as tf


class Mixture(NamedTuple):
    """How the rows of a step are mixed."""

    partner: NDArray[np.int32]
    """(rows,): the row that each is mixed with."""
    share: np.float32
    """What a row keeps of its own label."""
    box: NDArray[np.float32]
    """(4,): top, bottom, left and right of what is pasted in, as shares of an image's sides; of CutMix."""


def draw_mixture(config: TrainConfig, rows: int, *seed: int) -> Mixture:
    """Draws how the rows of a step are mixed; if nothing is to be, each row is its own partner.

    With mixup, the share is the larger of the two, so that the row's own label stays the likelier. With
    CutMix, a box has the images' shape, any place for its centre, and the partner's share as its area; what
    lies beyond the image is cut off.
    """
    alpha = config.mixup or config.cutmix
    box = np.zeros(4, np.float32)
    if alpha is None:
        return Mixture(np.arange(rows, dtype=np.int32), np.float32(1), box)
    rng = np.random.default_rng(seed)
    share = rng.beta(alpha, alpha)
    partner = rng.permutation(rows).astype(np.int32)
    if config.mixup:
        return Mixture(partner, np.float32(max(share, 1 - share)), box)
    half = np.sqrt(1 - share) / 2
    (top, left), (bottom, right) = np.clip(rng.random(2) + half * np.array([[-1], [1]]), 0, 1)
    kept = 1 - (bottom - top) * (right - left)
    return Mixture(partner, np.float32(kept), np.array([top, bottom, left, right], np.float32))


def mix_batch(
    config: TrainConfig, mixture: Mixture, inputs: Any, targets: Any, *of_outlines: Any
) -> "list[tf.Tensor]":
    """Mixes the rows of a step; within a compiled one.

    Args:
        config: with either mixup or CutMix.
        mixture: of `draw_mixture`.
        inputs: images, (n, height, width, 1); with mixup also features, (n, channels).
        targets: (n, classes).
        of_outlines: if outlines are learned, the masks of each class, (n, rows, columns, classes), and (n,),
            1 for each that is known, else 0.

    Returns:
        All that is given, float32. Of a mixed image, both outlines have to be known.
    """
    import tensorflow as tf

    share = mixture.share
    mixed = [
        _blend(mixture, inputs, _outside(mixture.box, inputs) if config.cutmix else share),
        _blend(mixture, targets, share),
    ]
    if of_outlines:
        masks, known = of_outlines
        mixed.append(_blend(mixture, masks, _outside(mixture.box, masks) if config.cutmix else share))
        mixed.append(known * tf.gather(known, mixture.partner))
    return mixed


def _blend(mixture: Mixture, values: Any, share: Any) -> "tf.Tensor":
    import tensorflow as tf

    own = tf.cast(values, tf.float32)
    return share * own + (1 - share) * tf.gather(own, mixture.partner)


def _outside(box: Any, images: Any) -> "tf.Tensor":
    """Returns 1 for each pixel of (n, height, width, channels) whose centre is outside the box, else 0."""
    import tensorflow as tf

    height, width = images.shape[1:3]
    top, bottom, left, right = tf.unstack(box)
    rows, columns = ((np.arange(side, dtype=np.float32) + 0.5) / side for side in (height, width))
    in_rows = tf.logical_and(rows >= top, rows < bottom)
    in_columns = tf.logical_and(columns >= left, columns < right)
    inside = tf.logical_and(in_rows[:, tf.newaxis], in_columns)
    return 1 - tf.cast(inside, tf.float32)[..., tf.newaxis]
