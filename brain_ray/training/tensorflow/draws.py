"""Seeds of the layers that draw, such as dropout: set for an epoch, and counted on from within one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from brain_ray.training.framework import Arrays

if TYPE_CHECKING:
    import keras


class Draws:
    """What the layers of a model draw. Keras' seed generators count how often each has drawn."""

    def __init__(self, model: "keras.Model") -> None:
        """Finds the model's seed generators."""
        self._generators = [each for each in model.variables if "seed_generator" in each.path]
        self._seeds: Arrays = []

    def start(self, seed: Sequence[int], counted: Arrays | None = None) -> None:
        """Sets the generators by a seed; `counted`, as of `counts`: to where they were after these draws."""
        rng = np.random.default_rng(seed)
        self._seeds = [rng.integers(0, 2**31, size=tuple(each.shape)) for each in self._generators]
        counted = [np.zeros_like(one) for one in self._seeds] if counted is None else counted
        for generator, one, count in zip(self._generators, self._seeds, counted, strict=True):
            generator.assign(one + count)

    def counts(self) -> Arrays:
        """Returns how far each generator has counted since `start`."""
        pairs = zip(self._generators, self._seeds, strict=True)
        return [np.asarray(generator).astype(np.int64) - seed for generator, seed in pairs]
