"""Settings of the network and of its export."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from brain_ray.config.base import Fraction, Pixels, Positive, Settings, Share
from brain_ray.input_spec import Fit, InputSpec


@dataclass(frozen=True)
class BackboneSpec:
    """All that the package knows of a backbone by its name."""

    factory: str
    """Dotted name of what builds it, with the arguments of a network of keras.applications."""
    native_side: int
    """Height and width of the input, in pixels, that it was designed for: keras.applications' default."""
    blocks: str | None
    """Pattern of the layers' names: what it matches at the start of a name is the block that the layer is in.
    `train.learning_blocks` counts blocks; a bundle's out-of-distribution statistics are of their outputs.
    None: there are no blocks; the statistics are of the layers' outputs, and `learning_blocks` is refused."""
    weights_file: str | None
    """Name of the file of ImageNet weights that Keras downloads; None: there are none."""
    preprocessing: Literal["inside", "caffe", "tf", "torch"] = "inside"
    """What raw pixels go through first: nothing, since the factory's network scales them itself, or what
    `preprocess_input` of its module in keras.applications does, by the name of that function's mode."""
    smallest_side: int = 32
    """Pixels that it needs on each side; a network of keras.applications halves its input five times."""
    framework: str = "brain_ray.training.tensorflow.framework.TensorFlow"
    """Dotted name of the class that trains it: a `brain_ray.training.framework.Framework`."""


def _efficientnet(name: str, native_side: int) -> BackboneSpec:
    file = f"{name.lower().replace('v2', 'v2-')}_notop.h5"  # with a dash for V2's B0 to B3, S, M and L
    return BackboneSpec(f"keras.applications.{name}", native_side, r"block\w+?(?=_)", file)


BACKBONES: dict[str, BackboneSpec] = {
    # Native sides of B0 to B7: those that depth and width were scaled with (Tan and Le 2019,
    # arxiv.org/abs/1905.11946); of V2: those that it is evaluated at (2021, arxiv.org/abs/2104.00298).
    "EfficientNetB0": _efficientnet("EfficientNetB0", 224),
    "EfficientNetB1": _efficientnet("EfficientNetB1", 240),
    "EfficientNetB2": _efficientnet("EfficientNetB2", 260),
    "EfficientNetB3": _efficientnet("EfficientNetB3", 300),
    "EfficientNetB4": _efficientnet("EfficientNetB4", 380),
    "EfficientNetB5": _efficientnet("EfficientNetB5", 456),
    "EfficientNetB6": _efficientnet("EfficientNetB6", 528),
    "EfficientNetB7": _efficientnet("EfficientNetB7", 600),
    "EfficientNetV2B0": _efficientnet("EfficientNetV2B0", 224),
    "EfficientNetV2B1": _efficientnet("EfficientNetV2B1", 240),
    "EfficientNetV2B2": _efficientnet("EfficientNetV2B2", 260),
    "EfficientNetV2B3": _efficientnet("EfficientNetV2B3", 300),
    "EfficientNetV2S": _efficientnet("EfficientNetV2S", 384),
    "EfficientNetV2M": _efficientnet("EfficientNetV2M", 480),
    "EfficientNetV2L": _efficientnet("EfficientNetV2L", 480),
    "ConvNeXtTiny": BackboneSpec(
        "keras.applications.ConvNeXtTiny",
        224,
        r"convnext_tiny_stage_\d+_block_\d+(?=_)",
        "convnext_tiny_notop.h5",
    ),
    "ResNet50": BackboneSpec(
        "keras.applications.ResNet50",
        224,
        r"conv\d+_block\d+(?=_)",
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        preprocessing="caffe",
    ),
    "MobileNetV3Small": BackboneSpec(
        "keras.applications.MobileNetV3Small",
        224,
        r"expanded_conv(_\d+)?(?=_)",
        "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
    ),
    "tiny": BackboneSpec(
        "brain_ray.models.backbones.tiny", 96, r"block\w+?(?=_)", weights_file=None, smallest_side=16
    ),
}
"""The backbones there are, each a row. A network of keras.applications of another family is one more row."""

if TYPE_CHECKING:
    Backbone = str
else:
    Backbone = Literal[tuple(BACKBONES)]


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

    @property
    def backbone_spec(self) -> BackboneSpec:
        """The row of the backbone."""
        return BACKBONES[self.backbone]

    @property
    def input_spec(self) -> InputSpec:
        """What the network is fed."""
        return InputSpec(self.height, self.width, self.fit, self.crop_size)


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
