"""Keras optimizers by name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from brain_ray.config import TrainConfig
from brain_ray.errors import RunError

if TYPE_CHECKING:
    import keras


def build_optimizer(
    config: TrainConfig,
    variables: "Sequence[keras.Variable]" = (),
    rate_factors: Sequence[float] = (),
) -> "keras.Optimizer":
    """Makes the optimizer that the settings name, for some variables; in float16, one that scales the loss.

    `rate_factors`, one for each variable, multiply its learning rate; not its weight decay.

    Weight decay leaves out what `decayed_weights` does: biases, gammas and betas have one dimension (timm's
    `param_groups_weight_decay` tells them by it, too).

    Raises:
        RunError: Keras has no optimizer of that name.
    """
    import keras

    settings: dict[str, Any] = {"learning_rate": config.learning_rate, "global_clipnorm": config.clip_norm}
    # AdamW decays by 0.004 if nothing is said, and does not take None.
    if config.weight_decay > 0 or config.optimizer.lower() == "adamw":
        settings["weight_decay"] = config.weight_decay
    try:
        optimizer = keras.optimizers.get({"class_name": config.optimizer, "config": settings})
    except ValueError as error:
        raise RunError(
            f"train.optimizer is {config.optimizer!r}: expected a Keras optimizer such as Adamax"
        ) from error
    if config.decayed_weights == "kernels":
        optimizer.exclude_from_weight_decay(var_list=[each for each in variables if len(each.shape) < 2])
    if set(rate_factors) - {1.0}:
        _scale_rates(optimizer, variables, rate_factors)
    if keras.config.dtype_policy().name == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)  # small gradients would become 0
    if variables:
        optimizer.build(variables)
    return optimizer


def _scale_rates(
    optimizer: "keras.Optimizer", variables: "Sequence[keras.Variable]", factors: Sequence[float]
) -> None:
    """Makes an optimizer step each variable at its own rate, by `update_step`, Keras' hook for optimizers."""
    kind: Any = type(optimizer)
    by_variable = {each.value.ref(): factor for each, factor in zip(variables, factors, strict=True)}

    class WithFactors(kind):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate * by_variable[variable.ref()])

    optimizer.__class__ = WithFactors
