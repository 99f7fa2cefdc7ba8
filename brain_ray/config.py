"""The tree of settings: one frozen, typed object describes a whole run."""

from typing import Annotated, Literal, Self

import tyro
from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Pixels = Annotated[int, Field(ge=16, le=2048)]

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

PHANTOMS = "phantoms"
"""The value of `data.source` that stands for images drawn by `brain_ray.data.phantom`."""


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CropConfig(Settings):
    """How the box around the head is found."""

    blur: Positive = 3
    """Side of the Gaussian blur, in pixels; odd."""
    threshold: Annotated[int, Field(ge=0, le=254)] = 45
    """Grey level (0..255) above which a pixel belongs to the head."""
    iterations: Annotated[int, Field(ge=0)] = 2
    """How often the mask is eroded, then dilated, with a 3x3 element, to drop specks."""
    min_share: Fraction = 0.2
    """A box with a smaller share of the image holds a fragment of a dark head: the whole image is taken."""

    @model_validator(mode="after")
    def _odd_blur(self) -> Self:
        if self.blur % 2 == 0:
            raise ValueError(f"blur is {self.blur}: a Gaussian kernel needs an odd side, such as 3")
        return self


class AugmentConfig(Settings):
    """Ranges that random changes of an image are drawn from, each uniformly and both ways."""

    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation, in degrees."""
    shift: Share = 0.0
    """Largest shift, as a share of the width and of the height."""
    zoom: Fraction = 0.0
    """Largest change of scale: 0.1 draws a factor between 0.9 and 1.1."""
    brightness: Fraction = 0.0
    """Largest brightening or darkening, as a share of the full range 0..255."""
    contrast: Fraction = 0.0
    """Largest change of contrast about the mean: 0.1 draws a factor between 0.9 and 1.1."""
    flip: Share = 0.0
    """Probability of a left-right flip."""


class PhantomConfig(Settings):
    """What is drawn when `data.source` is `phantoms`."""

    train_per_class: Positive = 60
    """Images per class under the training folder."""
    test_per_class: Positive = 25
    """Images per class under the test folder, planted copies apart."""
    copies: Annotated[int, Field(ge=0)] = 0
    """Copies of training images planted on top (exact, recompressed, brighter, mirrored, turned, flipped)."""
    conflicts: Annotated[int, Field(ge=0)] = 0
    """Copies planted under the name of another class."""
    faults: Annotated[int, Field(ge=0)] = 0
    """Unusable or odd files planted (corrupt, truncated, not an image, one pixel, blank, 16-bit, in turn)."""


class DataConfig(Settings):
    """Where images come from and how they become rows."""

    source: str = PHANTOMS
    """Folder or URI with `Training/<class>` and, if any, `Testing/<class>`; `phantoms` draws some."""
    phantoms: PhantomConfig = PhantomConfig()
    train_folder: str = "Training"
    """Name of the folder with the training images."""
    test_folder: str = "Testing"
    """Name of the folder with the test images; if it does not exist, `test_fraction` is split off."""
    classes: tuple[str, ...] = ("glioma", "meningioma", "notumor", "pituitary")
    """Class folders, in the order of the model's outputs."""
    valid_fraction: Fraction = 0.2
    """Share of the training images that validate."""
    test_fraction: Fraction = 0.15
    """Share of all images that become the test split where the source has no test folder."""
    split_by: Literal["cluster", "image"] = "cluster"
    """`cluster` keeps all copies of a slice on one side of the train/validation split; `image` does not."""
    leaks: Literal["drop", "keep", "regroup", "fail"] = "drop"
    """Training images with a copy in the test split: `drop` them, `keep` them, `regroup` (draw all splits
    anew over whole clusters of copies) or `fail`."""
    conflicts: Literal["drop", "keep"] = "drop"
    """Training images whose copies carry another label: `drop` all of them, or `keep` them."""
    copy_similarity: Annotated[float, Field(gt=0.9, le=1.0)] = 0.99
    """Correlation of two 96x96 thumbnails from which on they show the same slice."""
    max_rejected: Share = 0.01
    """Share of files that may be unusable; more is an error."""
    max_pixels: Positive = 40_000_000
    """Images with more pixels are rejected from their header, before decoding."""
    crop: CropConfig = CropConfig()
    balance_to: Positive | None = None
    """Rows that each class of the training split is filled up to with augmented copies; None: as it is."""
    balance: AugmentConfig = AugmentConfig(rotation=10.0, shift=0.05, flip=0.5)
    """Ranges for the augmented copies of `balance_to`."""
    export_images: str | None = None
    """Folder that also receives the cropped (and augmented) images as a tree of JPEG files."""

    @model_validator(mode="after")
    def _classes(self) -> Self:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ValueError(f"classes are {list(self.classes)}: expected two or more different names")
        return self


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
    trainable: Literal["all", "frozen", "staged"] = "all"
    """What learns: everything, only the head, or the head for `train.frozen_epochs` and then everything."""
    bn_momentum: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum of the backbone's batch norms; None: the backbone's own (0.99). Short runs want 0.9."""


class TrainConfig(Settings):
    """The training run."""

    num_workers: Positive = 1
    """Worker processes that share each batch."""
    use_gpu: bool = False
    """One GPU for each worker."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 0.5
    """CPUs reserved for each worker; leave one for loading. By default two workers share two cores."""
    epochs: Positive = 10
    """Passes over the training split, at most."""
    batch_size: Positive = 32
    """Images per step, over all workers together."""
    loss: str = "categorical_crossentropy"
    """Keras name of a loss over one-hot labels and probabilities."""
    label_smoothing: Fraction = 0.0
    """Share of each training label that is spread over all classes."""
    optimizer: str = "Adamax"
    """Keras name of the optimizer."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Rate at the start, after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of the optimizer; 0: none."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global norm of the gradients; None: not clipped."""
    schedule: str = "constant"
    """`constant`, or the Keras name of a schedule, which runs over all steps: CosineDecay, PolynomialDecay,
    ExponentialDecay."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs over which the rate rises from 0."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum of a moving average of the weights, which is then validated and kept; None: no average."""
    frozen_epochs: Annotated[int, Field(ge=0)] = 3
    """With `model.trainable=staged`: epochs that train the head alone."""
    unfrozen_rate_factor: Annotated[float, Field(gt=0)] = 0.1
    """With `model.trainable=staged`: the rate is multiplied by this once everything trains."""
    augment: AugmentConfig = AugmentConfig(flip=0.5)
    """Ranges drawn anew for each training row in each epoch."""
    shuffle_window: Positive = 65_536
    """Rows that are shuffled among each other; a larger data set is also shuffled by whole files."""
    monitor: Literal["val_cross_entropy", "val_loss"] = "val_cross_entropy"
    """What chooses the best epoch; `val_loss` is Keras', the head's penalties included."""
    dwell: bool = True
    """After an epoch without improvement: back to the best weights, with the rate times `dwell_factor`."""
    dwell_factor: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """What `dwell` multiplies the rate by."""
    ask_epoch: Positive | None = 10
    """Epochs without improvement that end the run, unless its operator says otherwise (`jobs/control.py`);
    None: never."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """How often a run goes on from its newest checkpoint after a worker was lost."""
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    """Newest checkpoints that are kept; two, so that one cut short leaves one to go on from."""


class ExportConfig(Settings):
    """The bundle."""

    opset: Positive = 17
    """ONNX operator set."""
    verify_images: Positive = 64
    """Validation images on which the Keras and the ONNX model must agree."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-4
    """Largest difference of a probability between the two."""


class EvaluateConfig(Settings):
    """Scoring and the report."""

    batch_size: Positive = 32
    """Images per call of the model."""
    num_actors: Positive = 1
    """Copies of the model that score in parallel."""
    cpus_per_actor: Positive = 1
    """CPUs, and threads, of each copy."""
    calibration_bins: Positive = 15
    """Equal-width bins of the reliability diagram and of the expected calibration error."""


class Config(Settings):
    """One run of brain_ray."""

    recipe: Annotated[str, tyro.conf.Suppress] = "smoke"
    """Name of the recipe that these settings started from."""
    storage: str = "runs"
    """Folder or URI (s3://, gs://) that holds the runs."""
    name: str = "smoke"
    """Name of the run: its folder is `<storage>/<name>`. Started again, it goes on from what is finished."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 123
    """Seed of every split, shuffle, augmentation and initial weight."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    export: ExportConfig = ExportConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _name(self) -> Self:
        if not self.name or any(c in self.name for c in "/\\ ") or self.name.startswith("."):
            raise ValueError(f"name is {self.name!r}: expected a plain folder name, without / and spaces")
        return self
