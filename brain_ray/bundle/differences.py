"""How far two computations of one model differ, and how far its own rounding reaches."""

from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.bundle.bundle import BundleError
from brain_ray.bundle.schema import Difference, Magnified
from brain_ray.config import ExportConfig
from brain_ray.scoring.calibration import FLOOR

if TYPE_CHECKING:
    import keras

FLOOR_SHARE = 0.01
"""Relative differences refer to a channel's (or heat map's) largest value, or to this share of the output's
largest value if that is more: rounding errors do not shrink with a channel that is nearly zero everywhere."""

TOLERANCES = {
    "probabilities": ("tolerance", ""),
    "logits": ("logit_tolerance", " nats"),
    "feature_map": ("map_tolerance", " of the channel's largest value"),
    "statistics": ("map_tolerance", " of the channel's largest value"),
    "heatmap": ("map_tolerance", " of its largest value"),
}
"""Setting of `export` with the largest allowed difference of each output, and the difference's unit."""

LAST_BIT = float(np.finfo(np.float32).eps)
"""By which share of itself the last bit of a weight changes it, at most."""

DRAWS = 4
"""Draws of the direction in which the last bit of each weight changes."""

ROUNDINGS = 64.0
"""How many times what the last bits of the weights change a drawn input's answers may differ, where that is
more than the tolerance. Ten times were seen on a black image, most of it between ONNX Runtime with and
without its optimisations, and about once on the other drawn inputs."""

Outputs = Mapping[str, NDArray[np.float32]]
"""Outputs by name, (n, ...) each: those of `session.OUTPUTS`, and `heatmap` (n, classes, rows, columns)."""

Compute = Callable[[NDArray[np.uint8]], Outputs]
"""Function that maps (n, height, width, 1) raw grey to a model's outputs."""


def differences(expected: Outputs, found: Outputs, usual: Outputs) -> dict[str, NDArray[np.float64]]:
    """Returns the difference of each output, in the output's shape, and of the logits.

    `probabilities`: absolute. `logits`: of the logarithms of the probabilities, which are the logits less a
    constant, in nats; probabilities below `calibration.FLOOR` count as equal to it. `feature_map` and
    `statistics`: relative to the largest value of the channel, here or in the outputs of usual images: of a
    white image all deviations are rounding errors. `heatmap`: relative to its own largest value.
    """
    result = {}
    for name, values in expected.items():
        a, b = values.astype(np.float64), found[name].astype(np.float64)
        if name == "probabilities":
            result["logits"] = np.abs(np.log(np.maximum(a, FLOOR)) - np.log(np.maximum(b, FLOOR)))
            result[name] = np.abs(a - b)
        else:
            axes = (-2, -1) if name == "heatmap" else tuple(range(a.ndim - 1))
            size = np.abs(a).max(axis=axes, keepdims=True)
            if name != "heatmap":
                size = np.maximum(size, np.abs(usual[name]).max(axis=axes, keepdims=True))
            result[name] = np.abs(a - b) / np.maximum(size, max(FLOOR_SHARE * size.max(), 1e-30))
    return result


def rounding_of(model: "keras.Model", compute: Compute, image: NDArray[np.uint8]) -> dict[str, float]:
    """Returns how far a Keras model's answer moves, in probabilities and logits, if the last bit of each
    weight changes.

    To compute in another order, as ONNX Runtime does, gives what slightly other weights would give: rounding
    errors of a sum of products are those of its factors, times a number that grows with the sum's length.

    Args:
        model: whose weights are changed meanwhile.
        compute: function that computes with it.
        image: (1, height, width, 1).
    """
    usual = {"probabilities": compute(image)["probabilities"]}
    weights = model.get_weights()
    rng = np.random.default_rng(0)
    moved: dict[str, float] = {}
    try:
        for _ in range(DRAWS):
            model.set_weights([_change_last_bits(array, rng) for array in weights])
            found = differences(usual, compute(image), usual)
            moved = {name: max(moved.get(name, 0.0), float(found[name].max())) for name in found}
    finally:
        model.set_weights(weights)
    return moved


def _change_last_bits(array: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Returns an array of numbers that are a last bit more or less each; one of integers as it is."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    changes = 1 + LAST_BIT * rng.choice([-1.0, 1.0], array.shape)
    return np.asarray(array * changes, array.dtype)


class LargestDifferences:
    """Largest difference of each output so far, and the sizes of the batches that were compared."""

    def __init__(
        self,
        folder: Path,
        awkward: Set[str],
        export: ExportConfig,
        rounding: Callable[[NDArray[np.uint8]], Mapping[str, float]],
    ) -> None:
        self._folder, self._awkward, self._rounding = folder, awkward, rounding
        self._allowed = {output: getattr(export, setting) for output, (setting, _) in TOLERANCES.items()}
        self._usual: Outputs = {}
        self._moved: dict[str, Mapping[str, float]] = {}
        self.found: dict[str, Difference] = {}
        self.magnified: dict[tuple[str, str], Magnified] = {}
        self.batch_sizes: set[int] = set()

    def add(self, names: Sequence[str], images: NDArray[np.uint8], expected: Outputs, found: Outputs) -> None:
        """Compares a batch of inputs with these names; the first batch is of usual images.

        Of awkward inputs, maps and statistics have to be finite only: a network that has seen nothing like
        them may multiply rounding errors in its inner layers.

        Raises:
            BundleError: an output is not finite.
        """
        self.batch_sizes.add(len(names))
        self._usual = self._usual or expected
        for output, values in differences(expected, found, self._usual).items():
            each = values.reshape(len(names), -1).max(axis=1)
            worst = int(each.argmax())  # NaN is the largest
            if not np.isfinite(each[worst]):
                raise BundleError(
                    f"{self._folder}: {output} of {names[worst]} is not finite: the weights are unusable"
                )
            for k, name in enumerate(names):
                if name in self._awkward and (
                    output not in ("probabilities", "logits")
                    or self._is_rounding(output, name, images[k : k + 1], float(each[k]))
                ):
                    each[k] = 0.0
            worst = int(each.argmax())
            if output not in self.found or each[worst] > self.found[output].largest:
                self.found[output] = Difference(
                    largest=float(each[worst]), input=names[worst], batch_size=len(names)
                )

    def _is_rounding(self, output: str, name: str, image: NDArray[np.uint8], difference: float) -> bool:
        """Whether a difference beyond the tolerance is no more than rounding makes of it; notes it if so."""
        if difference <= self._allowed[output]:
            return False
        if name not in self._moved:
            self._moved[name] = self._rounding(image)
        moved = self._moved[name][output]
        if difference > ROUNDINGS * moved:
            return False
        known = self.magnified.get((output, name))
        if known is None or difference > known.difference:
            self.magnified[output, name] = Magnified(
                output=output, input=name, difference=difference, rounding=moved
            )
        return True
