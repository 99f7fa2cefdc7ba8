"""Fused batch norm and SiLU for training, with fewer operations than Keras' own, and layers for tf2onnx."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_ray.models.weights import layers_of

if TYPE_CHECKING:
    import keras


def fuse(model: "keras.Model") -> None:
    """Makes a model's batch norms and SiLU activations train with fewer operations.

    Their results are the same, to rounding, and they keep their weights and names. Changes the model in
    place, at any depth. For a model that is trained, not for one that is saved as a whole: its layers are
    then not Keras' own.
    """
    import keras

    norm, silu = _batch_norm(), _silu()
    for layer in layers_of(model):
        if type(layer) is keras.layers.BatchNormalization and _is_plain(layer):
            layer.__class__ = norm
        if getattr(layer, "activation", None) is keras.activations.silu:
            layer.activation = silu


def make_convertible(model: "keras.Model") -> None:
    """Makes a model's layers compute with operations that tf2onnx knows.

    Keras compiles a grouped convolution (as in ConvNeXt) with XLA, and tf2onnx cannot convert the compiled
    call: grouped convolutions with a filter for each channel use TensorFlow's depthwise convolution instead.
    GELU uses Erf instead of Erfc. The mean and variance of a normalisation, which no variable holds, become
    constants of the graph: as TensorFlow's tensors they would be inputs of the ONNX model. The results are
    the same, to rounding, and layers keep their weights and names. Changes the model in place, at any depth;
    not for a model that is saved as a whole, like `fuse`.
    """
    import keras
    import tensorflow as tf

    class DepthwiseByGroups(keras.layers.Conv2D):  # type: ignore[misc]
        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            strides = (1, *self.strides, 1)
            kernel = tf.transpose(kernel, (0, 1, 3, 2))  # (rows, columns, 1, channels), one for each
            return tf.nn.depthwise_conv2d(
                inputs, kernel, strides, self.padding.upper(), dilations=self.dilation_rate
            )

    for layer in layers_of(model):
        if (
            type(layer) is keras.layers.Conv2D
            and 1 < layer.groups == layer.filters
            and layer.kernel.shape[2] == 1
        ):
            layer.__class__ = DepthwiseByGroups
        if isinstance(layer, keras.layers.Normalization) and layer.mean is not None:
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
        if getattr(layer, "activation", None) is keras.activations.gelu:
            layer.activation = lambda x: 0.5 * x * (1 + tf.math.erf(x / math.sqrt(2)))


def _silu() -> Any:
    """Returns x * sigmoid(x), also known as swish, with a gradient of five operations instead of seven."""
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def silu(x: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            with tf.control_dependencies([upstream]):  # again, instead of keeping it since the forward pass
                gate = tf.sigmoid(x)
            return upstream * gate + x * tf.raw_ops.SigmoidGrad(y=gate, dy=upstream)

        return tf.nn.silu(x), gradient

    return silu


def _batch_norm() -> Any:
    """Returns a batch norm that trains with TensorFlow's FusedBatchNormV3, which on GPUs is cuDNN's."""
    import keras
    import tensorflow as tf

    class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            if not (training and self.trainable):
                return super().call(inputs, training=training, mask=mask)
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=self.gamma,
                offset=self.beta,
                mean=[],
                variance=[],
                epsilon=self.epsilon,
                is_training=True,
            )
            # What it returns divides by the count less one; Keras' moving average is of the biased variance.
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), variance.dtype)
            variance *= (count - 1) / count
            for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + new * (1 - self.momentum))
            return outputs

    return FusedBatchNormalization


def _is_plain(layer: Any) -> bool:
    """Returns whether the fused operation supports a batch norm: by channel, of (n, h, w, channels)."""
    by_channel = layer.input_spec.ndim == 4 and layer.axis in (3, -1)
    return bool(by_channel and layer.scale and layer.center and not layer.renorm)
