"""The whole network: a grey image in, a probability for each class out."""

from typing import TYPE_CHECKING, Any, Literal

from brain_ray.config import ModelConfig
from brain_ray.model.backbones import build_backbone, fetch

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Phase = Literal["head", "all"]
"""What learns: the head alone, or everything."""


def build_network(config: ModelConfig, num_classes: int, seed: int) -> "keras.Model":
    """Build the network, with the weights that `config.weights` asks for.

    Input `image`: (n, height, width, 1) float32, raw 0..255 grey. Output `probabilities`: (n, num_classes)
    float32, softmax. Layers: repeat (grey to three channels), backbone (a model), pool, the head's.
    Everything learns; see `set_trainable`. The same seed gives the same initial weights.

    Seeds Python, NumPy and TensorFlow as a side effect (`keras.utils.set_random_seed`): the stochastic depth
    inside keras.applications' networks takes its seeds from there.

    Raises:
        RunError: the input is too small for the backbone, or the weights cannot be had or do not fit.
    """
    import keras

    keras.utils.set_random_seed(seed)
    if config.weights in ("imagenet", "none"):
        backbone = build_backbone(config)
    else:
        with fetch(config.weights) as file:
            backbone = build_backbone(config, str(file))
    image = keras.Input((config.height, config.width, 1), dtype="float32", name="image")
    # Three equal channels, not a stem of one: ImageNet weights have three.
    features = backbone(keras.layers.Concatenate(name="repeat")([image, image, image]))
    head = _seed_head if config.head == "seed" else _gap_head
    x = head(features, config.dropout, seed)
    outputs = keras.layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(image, outputs, name="network")


def _seed_head(features: Any, dropout: float, seed: int) -> Any:
    """The head of the notebooks that this project replaces, number for number."""
    import keras

    x = keras.layers.GlobalMaxPooling2D(name="pool")(features)
    x = keras.layers.BatchNormalization(momentum=0.99, epsilon=0.001, name="head_norm")(x)
    x = keras.layers.Dense(
        256,
        activation="relu",
        kernel_regularizer=keras.regularizers.L2(0.016),
        activity_regularizer=keras.regularizers.L1(0.006),
        bias_regularizer=keras.regularizers.L1(0.006),
        name="head_dense",
    )(x)
    return keras.layers.Dropout(dropout, seed=seed, name="head_dropout")(x)


def _gap_head(features: Any, dropout: float, seed: int) -> Any:
    import keras

    x = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    return keras.layers.Dropout(dropout, seed=seed, name="head_dropout")(x)


def set_trainable(model: "keras.Model", phase: Phase) -> None:
    """Let the head alone learn, or everything. `model.weights` keeps its order, its values and its length.

    A frozen backbone's batch norms use their moving statistics in training as well, and leave them alone.
    Takes effect in a `tf.function` only when that is traced anew.
    """
    model.get_layer("backbone").trainable = phase == "all"


def penalties(model: "keras.Model") -> "tuple[tf.Tensor, tf.Tensor]":
    """Return (penalty on weights, penalty on activities) of the last forward pass, scalars.

    To be called right after `model(batch, training=True)`, in the same tape and the same replica. Only
    weights that learn at present are penalised. Keras 3.15 divides an activity penalty, summed over the
    replica's batch, by the size of that batch (Layer.__call__): it is a mean over images already. So where
    gradients are summed over replicas, both are to be divided by the number of replicas.
    """
    import tensorflow as tf

    on_weights = [w.regularizer(w) for w in model.trainable_weights if w.regularizer is not None]
    # `losses` lists what layers added in the forward pass, then one for each penalised weight.
    on_activities = model.losses[: len(model.losses) - len(on_weights)]
    return _total(tf, on_weights), _total(tf, on_activities)


def _total(tf: Any, values: list[Any]) -> "tf.Tensor":
    return tf.add_n(values) if values else tf.zeros(())
