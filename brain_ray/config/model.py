"""Settings of the network and of its export."""

from typing import Annotated, Literal

from pydantic import Field

from brain_ray.config.base import Fraction, Pixels, Positive, Settings, Share

Backbone = Literal[
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2S",
    "EfficientNetV2M",
    "EfficientNetV2L",
    "tiny",
]


Fit = Literal["stretch", "pad"]


class ModelConfig(Settings):
    """The network and what it is fed."""

    backbone: Backbone = "EfficientNetB0"
    """A network of keras.applications, or `tiny`: five convolutions, for trials of the plumbing."""
    weights: str = "imagenet"
    """`imagenet` (downloaded by Keras), `none`, or the path or URI of a file of the backbone without its top:
    a `.weights.h5` made for `weights=None`, or Keras' own `_notop.h5`."""
    height: Pixels = 224
    """Height of the network's input, in pixels."""
    width: Pixels = 224
    """Width of the network's input, in pixels."""
    fit: Fit = "stretch"
    """How a crop meets the input size: `stretch` changes its aspect ratio, `pad` keeps it and adds black."""
    crop_size: tuple[Pixels, Pixels] | None = None
    """Height and width that each crop is first resized to, as the notebooks did; None: not at all."""
    head: Literal["seed", "gap"] = "gap"
    """`seed`: max pooling, batch norm, penalised dense 256, dropout. `gap`: average pooling, dropout."""
    dropout: Fraction = 0.3
    """Share of the head's features that are dropped in training."""
    batch_norm: Literal["learned", "fixed"] = "learned"
    """What the backbone's batch norms do while it learns: `learned`, as its other layers; `fixed`, they stay
    as they are and use their moving statistics, as Keras advises for fine-tuning."""
    bn_momentum: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum of the backbone's batch norms; None: the backbone's own (0.99). Short runs want 0.9."""


class ExportConfig(Settings):
    """The bundle."""

    opset: Positive = 17
    """ONNX operator set."""
    verify_images: Positive = 64
    """Validation images on which the Keras and the ONNX model must agree."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-4
    """Largest difference of a probability between the two."""
    max_error: Share = 0.01
    """Share of the model's answers that may be wrong, on the validation images: where it is less sure than
    that takes, it abstains. On other images more may be wrong."""
    keep_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.99
    """Share of the validation images that pass as pictures of the training data's kind; what is further from
    that than they are is not answered."""
