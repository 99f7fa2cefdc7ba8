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
"""The value of `data.source` that stands for images drawn by `brain_ray.data.phantoms.files`."""


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
    """Ranges that random changes of an image are drawn from, each uniformly and, but for noise, both ways."""

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
    noise: Fraction = 0.0
    """Largest standard deviation of Gaussian noise, as a share of the full range 0..255."""
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
    """Name of the folder with the training images; `.`: the classes' folders stand in `source` itself."""
    valid_folder: str | None = None
    """Name of the folder with the validation images; None: `valid_fraction` of the training images."""
    test_folder: str = "Testing"
    """Name of the folder with the test images; if it does not exist, `test_fraction` is split off."""
    ignore_folders: tuple[str, ...] = ()
    """Folders, by their path within `source`, that are left out. Without it, one beside those that are used
    ends the run if it holds images."""
    classes: tuple[str, ...] = ("glioma", "meningioma", "notumor", "pituitary")
    """Class folders, in the order of the model's outputs."""
    valid_fraction: Fraction = 0.2
    """Share of the training images that validate."""
    test_fraction: Fraction = 0.15
    """Share of all images that become the test split where the source has no test folder."""
    split_by: Literal["cluster", "image"] = "cluster"
    """`cluster` keeps all copies of a slice on one side of the train/validation split; `image` does not, and
    with `leaks=keep` neither when a test split is drawn. With `leaks=regroup` it has no effect."""
    leaks: Literal["drop", "keep", "regroup", "fail"] = "drop"
    """Training images with a copy in the test split: `drop` them, `keep` them, `regroup` (draw all splits
    anew over whole clusters of copies) or `fail`. A test split that is drawn here shares no cluster with
    training and validation, unless they are kept."""
    conflicts: Literal["drop", "keep"] = "drop"
    """Training images whose copies carry another label (with `leaks=regroup`, any image): `drop` all of
    them, or `keep` them."""
    copy_similarity: Annotated[float, Field(gt=0.9, le=1.0)] = 0.99
    """Correlation of two whole images' 96x96 thumbnails from which on they count as copies."""
    max_rejected: Share = 0.01
    """Share of files that may be unusable; more is an error. What is no image by its name, such as Thumbs.db
    or a table, does not count."""
    max_pixels: Positive = 40_000_000
    """Images with more pixels are rejected from their header, before decoding."""
    crop: CropConfig = CropConfig()
    balance_to: Positive | None = None
    """Rows that each class of the training split is filled up to with augmented copies; None: as it is."""
    balance: AugmentConfig = AugmentConfig(rotation=10.0, shift=0.05, flip=0.5)
    """Ranges for the augmented copies of `balance_to`."""
    export_images: str | None = None
    """Empty folder that also receives the cropped (and augmented) images as a tree of JPEG files, one a row;
    when this run is prepared again, its `train/`, `valid/` and `test/` are emptied first."""

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
    batch_norm: Literal["learned", "fixed"] = "learned"
    """What the backbone's batch norms do while it learns: `learned`, as its other layers; `fixed`, they stay
    as they are and use their moving statistics, as Keras advises for fine-tuning."""
    bn_momentum: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum of the backbone's batch norms; None: the backbone's own (0.99). Short runs want 0.9."""


class TrainConfig(Settings):
    """The training run."""

    num_workers: Positive | tuple[Positive, Positive] = 1
    """Worker processes that share each batch. Two numbers, the fewest and the most: as many as there is room
    for, fewer after a node is lost, more when one comes."""
    use_gpu: bool = False
    """One GPU for each worker."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 0.5
    """CPUs reserved for each worker; leave one for loading. By default two workers share two cores."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    """What the network computes in; its weights are float32. `auto`: what suits the GPU; float32 on CPUs."""
    xla: bool = False
    """Compile the training step with XLA on GPUs; on CPUs it would be many times slower, and is not."""
    frozen_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs at the start that train the head alone, on a backbone that stays as it is."""
    frozen_learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """`learning_rate` of the frozen epochs, over which the schedule runs as well."""
    cache_features: bool = True
    """Frozen epochs train on the backbone's features of the prepared rows, computed once; if not, the
    backbone runs in each of them, on rows changed as `augment` says."""
    epochs: Annotated[int, Field(ge=0)] = 10
    """Epochs after the frozen ones, at most; 0: the head is all that learns."""
    learning_blocks: Positive | None = None
    """The backbone's last blocks that learn in these; None: all of it."""
    batch_size: Positive = 32
    """Images per step, over all workers together."""
    loss: str = "categorical_crossentropy"
    """Keras name of a loss over one-hot labels and probabilities."""
    label_smoothing: Fraction = 0.0
    """Share of each training label that is spread over all classes."""
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = "none"
    """What a training row's loss is multiplied by, for each class; `balanced`: inverse to its rows."""
    optimizer: str = "Adamax"
    """Keras name of the optimizer."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Rate at the start of the schedule, which the warm-up multiplies."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of the optimizer; 0: none."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global norm of the gradients; None: not clipped."""
    schedule: str = "constant"
    """`constant`, or the Keras name of a schedule, which runs over all steps: CosineDecay, PolynomialDecay,
    ExponentialDecay."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs over which the rate rises from 0, at the start and again after the frozen epochs."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum of a moving average of the weights, which is then validated and kept; None: no average."""
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
    None: never. Frozen epochs do not count."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """How often a run goes on from its newest checkpoint after workers were lost."""
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    """Newest checkpoints that are kept; two, so that one cut short leaves one to go on from."""
    mlflow_uri: str = "auto"
    """Where MLflow (the extra `mlflow`) keeps this run: a server's URI or a folder; `none`: nowhere; `auto`:
    where MLflow is installed, in the folder `mlruns` beside the run, if that is on a disk."""

    @property
    def total_epochs(self) -> int:
        """Frozen epochs and those after them."""
        return self.frozen_epochs + self.epochs

    @property
    def elastic(self) -> bool:
        """Whether the number of workers follows the room that there is."""
        return isinstance(self.num_workers, tuple)

    @property
    def min_workers(self) -> int:
        """The fewest workers that train."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def max_workers(self) -> int:
        """The most workers that train."""
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers

    @model_validator(mode="after")
    def _fewest_first(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"num_workers is {self.min_workers} {self.max_workers}: expected the fewest, then the most"
            )
        return self

    @model_validator(mode="after")
    def _some_epochs(self) -> Self:
        if not self.total_epochs:
            raise ValueError("frozen_epochs and epochs are both 0: expected one epoch or more in all")
        return self


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


class SweepConfig(Settings):
    """Training under many settings, and the choice among what comes of it."""

    space: tuple[str, ...] = ("model.backbone=grid(EfficientNetB0, EfficientNetV2B0)",)
    """What is varied, each as NAME=RANGE: the dotted name of a setting under model or train, and
    grid(a, b, ...), choice(a, b, ...), uniform(low, high) or loguniform(low, high). Several names with spaces
    between them take values in step: model.height model.width=grid(96 96, 128 128)."""
    sampler: Literal["grid", "random", "optuna"] = "grid"
    """`grid`: every combination of what is a grid, with `num_samples` draws of the rest for each; `random`:
    `num_samples` draws of everything; `optuna` (the extra of that name): as many proposed by TPE, which
    learns from those before."""
    num_samples: Positive = 1
    """Draws, or proposals, as `sampler` says; a grid without anything to draw needs one."""
    seeds: Positive = 1
    """Trials of each variant, with the run's seed and those that follow it."""
    native_size: bool = True
    """Each backbone gets the input size that it was designed for, unless `space` says another; if not,
    `model.height` and `model.width` hold for all."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """What ends weak trials early: `asha` (Li et al. 2020, arxiv.org/abs/1810.05934), the rule of the median
    of those before, or nothing. A trial is judged by the best value that it has reached."""
    grace_epochs: Positive = 1
    """Epochs that every trial gets."""
    reduction_factor: Annotated[float, Field(gt=1)] = 3.0
    """ASHA keeps one trial of so many at each rung; the rungs' epochs grow by the same factor."""
    max_concurrent: Positive | None = None
    """Trials at a time, at most; None: as many as have room, and on CPUs not more than there are cores."""
    trials_per_gpu: Positive = 1
    """One-worker trials that share a GPU, whose memory they take as they need it."""
    max_failures: Annotated[int, Field(ge=0)] = 1
    """How often a trial that failed is tried again, from its newest checkpoint; then it is given up."""
    silence_minutes: Annotated[float, Field(gt=0)] = 120.0
    """A trial that has no epoch to report for so long is taken for stuck, and fails."""
    choice: Literal["cheapest within noise", "best"] = "cheapest within noise"
    """Which model wins: of the models whose validation cross-entropy is within noise of the best one's, the
    one that answers an image fastest; or simply the best one."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Of all intervals of a comparison together: what lies outside is more than noise."""
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    """Resamples of the validation images for these intervals."""


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
    sweep: SweepConfig = SweepConfig()

    @model_validator(mode="after")
    def _name(self) -> Self:
        if not self.name or any(c in self.name for c in "/\\ ") or self.name.startswith("."):
            raise ValueError(f"name is {self.name!r}: expected a plain folder name, without / and spaces")
        return self

    @model_validator(mode="after")
    def _features_of_something(self) -> Self:
        if self.train.frozen_epochs and self.train.cache_features and self.model.weights == "none":
            raise ValueError(
                f"train.frozen_epochs is {self.train.frozen_epochs} and model.weights none: the features of "
                "a backbone that has learnt nothing teach nothing; set model.weights, or frozen_epochs to 0"
            )
        return self
