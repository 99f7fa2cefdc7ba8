"""Schema of bundle.json."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from brain_ray.config import CropConfig, VolumeConfig
from brain_ray.input_spec import Background, Fit
from brain_ray.scoring.aggregation import Rule

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    # NaN is refused, so that bundle.json stays strict JSON.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Input(_Part):
    """The models' input: (n, height, width, 1) raw grey, 0..255, from `brain_ray.data.transforms`."""

    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    channels: Literal[1] = 1
    fit: Fit
    crop_size: tuple[int, int] | None
    background: Background = "keep"
    """What is around the head; earlier versions kept what the image has there."""
    max_pixels: Annotated[int, Field(ge=1)]
    window: tuple[float, float] = (0.0, 100.0)
    """Percentiles of an image's pixels that became 0 and 255, where they had more than 8 bits. Bundles of a
    version that did not store them were made with the darkest and the brightest pixel."""


class ValidationScores(_Part):
    """Scores of the exported ONNX model on the validation split. Log losses in nats, the rest 0..1."""

    images: Count
    groups: Count | None = None
    """Number of groups that the images belong to; not stored by earlier versions."""
    folds: Count | None = None
    """Number of folds, if these are scores of out-of-fold answers, by models of the same settings."""
    accuracy: float
    log_loss: float
    log_loss_calibrated: float
    """Of probabilities whose temperature was fitted on other groups; earlier versions: on the same images."""
    ece: float
    """Expected calibration error of the raw probabilities."""
    ece_calibrated: float | None = None
    """As `log_loss_calibrated`; None: exported by a version that did not compute it."""


class ModelScores(_Part):
    """Validation scores from the export; test scores after `add_scores`."""

    validation: ValidationScores
    test: dict[str, Any] | None = None


class SplitFacts(_Part):
    """A split: its images, its rows (augmented copies included) and the hash of its content."""

    images: Count
    rows: Count
    sha256: str


class DataFacts(_Part):
    """Data that the model was trained and evaluated on, and the results of the audit for copies."""

    train: SplitFacts
    valid: SplitFacts
    test: SplitFacts
    audit: dict[str, Any]


class TrainingSetup(_Part):
    """What the training ran on from an epoch on, until the next setup: see `brain_ray.training.setups`."""

    first_epoch: Annotated[int, Field(ge=1)]
    num_workers: Annotated[int, Field(ge=1)]
    worker_batch: Annotated[int, Field(ge=1)]
    device: str
    precision: str


class TrainingFacts(_Part):
    """Length of the training, the epoch of the weights, and what it ran on."""

    epochs: Count
    best_epoch: Count
    backbone: str
    setups: tuple[TrainingSetup, ...] = ()
    """Empty if a version trained that did not record it."""
    members: Annotated[int, Field(ge=1)] = 1
    """Number of networks whose probabilities are averaged; epochs and setups are the first one's."""
    models: tuple[str, ...] = ()
    """Backbone and head of each of these networks, if they are models or seeds of a sweep; out-of-fold
    answers are then of such means."""


class Facts(_Part):
    """Facts that a caller of the export supplies: parts of bundle.json by name; `versions` are added to its
    own."""

    data: DataFacts
    training: TrainingFacts
    versions: dict[str, str] = {}
    sweep: dict[str, Any] | None = None


class Difference(_Part):
    """Largest difference of an output between the Keras and the ONNX model, and where it was found."""

    largest: Annotated[float, Field(ge=0)]
    """Absolute for probabilities, in nats for logits, relative for maps and statistics
    (`parity.differences`)."""
    input: str
    batch_size: Count


class Magnified(_Part):
    """Difference of a drawn input beyond its tolerance that rounding explains: `parity.compare_models`."""

    output: str
    input: str
    difference: Annotated[float, Field(ge=0)]
    rounding: Annotated[float, Field(ge=0)]
    """How far the Keras model's own output moves there if the last bit of each weight changes."""


class Check(_Part):
    """Comparison of the Keras and the ONNX model at export. Versions before `outputs` compared probabilities
    on validation images only."""

    images: Count
    """Number of validation images compared."""
    largest_difference: float
    """Largest difference of a probability, but for those of `magnified`."""
    outputs: dict[str, Difference] = {}
    awkward_inputs: tuple[str, ...] = ()
    """Names of the drawn inputs compared besides."""
    magnified: tuple[Magnified, ...] = ()
    """Differences of these that are not among `outputs`, since the network magnifies rounding there."""
    batch_sizes: tuple[Count, ...] = ()


class Decision(_Part):
    """Thresholds of the decisions, and their effect on the validation images."""

    abstain_below: Annotated[float, Field(ge=0)]
    """Answers with a lower calibrated probability are withheld. Above 1: all answers."""
    max_error: Share
    """Allowed share of wrong answers among those given."""
    confidence: Share | None = None
    """Confidence with which they are no more. None: an earlier version's, which had none."""
    error_bound: Share | None = None
    """Upper bound, at that confidence, of the share of wrong answers; 1 if there are no answers."""
    answers: float | None = None
    """Effective number of independent answers on which the bound rests; if there are none, of all images."""
    answers_needed: Count | None = None
    """Smallest number of independent answers, all right, that shows what was asked."""
    models: Count | None = None
    """Number of models from which the same images chose this one, and by which the bound is corrected."""
    folds: Count | None = None
    """Number of folds, if the threshold is of out-of-fold answers, by models of the same settings."""
    sensitivities: tuple[Share, ...] | None = None
    """For each class, the share of its images that shall have it among their candidates."""
    candidate_floors: tuple[Share, ...] | None = None
    """For each class, the calibrated probability from which on it is a candidate."""
    error: Share
    """Share of wrong answers among those given."""
    answered: Share
    """Share of images that were answered."""
    unlikeness_threshold: Annotated[float, Field(gt=0)]
    """Distance of features from those of the training images, above which an image is refused (`not_mr`)."""
    keep_share: Share
    """Requested share of images within that distance, each group of them with the same say (in bundles of an
    earlier version each image)."""
    kept: Share
    """Share of images within that distance."""
    learned_from: Count
    """Number of training images that the distance is measured from."""


class PatientRule(_Part):
    """How the answers to a patient's slices become one answer, chosen on the images of `Decision`.

    A unit is the images of one group (a patient, with copies) that have one class.
    """

    rule: Rule
    """See `brain_ray.scoring.aggregation.RULES`."""
    temperature: Annotated[float, Field(gt=0)]
    """Of the unit's probabilities, which the rule makes of the slices' calibrated ones."""
    abstain_below: Annotated[float, Field(ge=0)]
    """Answers with a lower probability are withheld. Above 1: all answers."""
    error_bound: Share
    """As in `Decision`, of the answers to units; `max_error` and `confidence` are those there."""
    answers: float
    answers_needed: Count
    models: Count
    """Number of models, times that of rules, that the images chose from: what the bound is corrected for."""
    candidate_floors: tuple[Share, ...]
    """As in `Decision`, of units."""
    units: Count
    images: Count
    """Number of their images, without those that are refused as unlike the training images."""
    accuracy: Share
    error: Share
    """Share of wrong answers among those given."""
    answered: Share
    """Share of units that were answered."""
    log_losses: dict[Rule, float]
    """Log loss of each rule, in nats, by temperatures that were fitted on other groups."""


class BundleInfo(_Part):
    """The content of bundle.json."""

    format: Literal[2] = 2
    name: str
    created: str
    """Time of the export, ISO 8601, UTC."""
    classes: tuple[str, ...]
    """Classes, in the order of the outputs."""
    input: Input
    crop: CropConfig
    volumes: VolumeConfig = VolumeConfig()
    """How a volume is cut into slices."""
    temperature: Annotated[float, Field(gt=0)]
    decision: Decision
    patients: PatientRule | None = None
    """None: exported by a version that had no rule for patients."""
    canaries: dict[str, tuple[float, ...]]
    """Probabilities from model.onnx for each image in `canaries/`, by its name."""
    scores: ModelScores
    data: DataFacts
    training: TrainingFacts
    versions: dict[str, str]
    config: dict[str, Any]
    """The run's whole config at the time; not validated, because settings may change later."""
    files: dict[str, str]
    """SHA-256 (hex) of each file except bundle.json and MODEL_CARD.md."""
    check: Check
    sweep: dict[str, Any] | None = None
    """Results of the sweep that chose this model: rule, sentence of the choice, criterion of noise, trials
    and contenders; None: the model was trained alone."""
