"""Network: grey images -> probability of each class."""

import re
from typing import TYPE_CHECKING, Any

from brain_ray.config import BackboneSpec, ModelConfig
from brain_ray.errors import RunError
from brain_ray.models.backbones import build_backbone
from brain_ray.models.weights import fetch, layers_of

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def build_network(config: ModelConfig, num_classes: int, seed: int) -> "keras.Model":
    """Builds the network, with the weights of `config.weights`.

    Input `image`: (n, height, width, 1) float32, raw 0..255 grey. Output `probabilities`: (n, num_classes)
    float32, softmax. Layers: repeat (grey to three channels), backbone (a model), pool, the head's. All
    layers are trainable; see `set_trainable`. The same seed gives the same initial weights. The head computes
    in float32 whatever Keras' dtype policy is: it is cheap, and float16 cannot hold its penalties' sums.

    Side effect: seeds Python, NumPy and TensorFlow (`keras.utils.set_random_seed`), because the stochastic
    depth inside keras.applications' networks takes its seeds from there.

    Raises:
        RunError: the input is too small for the backbone, or the weights are not available or do not fit.
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
    """Adds the head of the notebooks that this project replaces, number for number."""
    import keras

    x = keras.layers.GlobalMaxPooling2D(dtype="float32", name="pool")(features)
    x = keras.layers.BatchNormalization(momentum=0.99, epsilon=0.001, dtype="float32", name="head_norm")(x)
    x = keras.layers.Dense(
        256,
        activation="relu",
        kernel_regularizer=keras.regularizers.L2(0.016),
        activity_regularizer=keras.regularizers.L1(0.006),
        bias_regularizer=keras.regularizers.L1(0.006),
        dtype="float32",
        name="head_dense",
    )(x)
    return keras.layers.Dropout(dropout, seed=seed, dtype="float32", name="head_dropout")(x)


def _gap_head(features: Any, dropout: float, seed: int) -> Any:
    import keras

    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(features)
    return keras.layers.Dropout(dropout, seed=seed, dtype="float32", name="head_dropout")(x)


def split_network(model: "keras.Model") -> "tuple[keras.Model, keras.Model]":
    """Returns two models that share the network's layers: image to pooled features, and features to
    probabilities.

    Features: (n, channels of the backbone's last map).
    """
    import keras

    features = model.get_layer("pool").output
    return keras.Model(model.input, features, name="features"), keras.Model(
        features, model.output, name="head"
    )


def set_trainable(
    model: "keras.Model", spec: BackboneSpec, blocks: int | None, *, fixed_norms: bool = False
) -> None:
    """Makes the head trainable, and of the backbone its last `blocks` with all layers after them: 0 none,
    None all.

    `model.weights` keeps its order, its values and its length. A frozen batch norm uses its moving statistics
    in training as well, and does not change them; with `fixed_norms`, all batch norms of the backbone are
    frozen. A `tf.function` has to be traced again for this to take effect.

    Raises:
        RunError: the backbone has fewer blocks.
    """
    import keras

    backbone = model.get_layer("backbone")
    names = blocks_of(backbone, spec) if blocks else []
    if blocks and blocks > len(names):
        raise RunError(
            f"train.learning_blocks is {blocks}: this backbone has {len(names)}, {names[0]} to {names[-1]}"
        )
    first = names[-blocks] if blocks else None
    backbone.trainable = blocks != 0
    learns = blocks is None
    for layer in backbone.layers:
        learns = learns or (first is not None and block_of(layer, spec) == first)
        for part in layers_of(layer) if isinstance(layer, keras.Model) else [layer]:
            part.trainable = learns and not (
                fixed_norms and isinstance(part, keras.layers.BatchNormalization)
            )


def rate_factors(model: "keras.Model", spec: BackboneSpec, decay: float) -> list[float]:
    """Returns the factor of the learning rate of each trainable variable of a network, in their order.

    1 in the head; `decay` to the power of 1 in the backbone's last block and the layers after it, of 2 in the
    block before; layers before the first block, or between two, count to the one that follows.
    """
    backbone = model.get_layer("backbone")
    names = blocks_of(backbone, spec)
    place, found = 0, {}
    for layer in backbone.layers:
        name = block_of(layer, spec)
        place = max(place, names.index(name)) if name else place
        for variable in layer.variables:
            found[id(variable)] = decay ** (len(names) - place)
    return [found.get(id(variable), 1.0) for variable in model.trainable_variables]


def blocks_of(backbone: "keras.Model", spec: BackboneSpec) -> list[str]:
    """Returns the names of a backbone's blocks, from input to output: block1a, block2a, block2b, ..."""
    names = [block_of(layer, spec) for layer in backbone.layers]
    return list(dict.fromkeys(name for name in names if name))


def block_of(layer: Any, spec: BackboneSpec) -> str:
    """Returns the name of the block that a layer is in, or ""."""
    found = re.match(spec.blocks, layer.name) if spec.blocks else None
    return found[0] if found else ""


def block_outputs(backbone: "keras.Model", spec: BackboneSpec) -> list[Any]:
    """Returns the blocks' outputs, from input to output, as (n, rows, columns, channels) symbolic tensors.

    A block's output is that of its last layer, or of an operator after it: some networks of
    keras.applications end a block with a plain `+`, which is an operation of the graph and not a layer. For a
    backbone without blocks, returns the outputs of all layers.
    """
    import keras

    found: dict[str, Any] = {}
    last = ""
    for operation in backbone.operations:
        is_layer = isinstance(operation, keras.Layer)
        if is_layer:
            last = block_of(operation, spec) if spec.blocks else operation.name
        if last:
            found[last] = operation.output
    return [output for output in found.values() if len(output.shape) == 4]


def penalties(model: "keras.Model") -> "tuple[tf.Tensor, tf.Tensor]":
    """Returns (penalty on weights, penalty on activities) of the last forward pass, scalar tensors.

    Call it right after `model(batch, training=True)`, in the same tape and the same replica. Only trainable
    weights are penalised. Keras 3.15 divides an activity penalty, summed over the replica's batch, by the
    size of that batch (Layer.__call__), so it is already a mean over images. Where gradients are summed over
    replicas, divide both penalties by the number of replicas.
    """
    import tensorflow as tf

    on_weights = [w.regularizer(w) for w in model.trainable_weights if w.regularizer is not None]
    # `losses` lists what layers added in the forward pass, then one for each penalised weight.
    on_activities = model.losses[: len(model.losses) - len(on_weights)]
    return _total(tf, on_weights), _total(tf, on_activities)


def _total(tf: Any, values: list[Any]) -> "tf.Tensor":
    return tf.add_n(values) if values else tf.zeros(())
