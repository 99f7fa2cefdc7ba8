"""Schema of bundle.json."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from brain_ray.config import CropConfig
from brain_ray.input_spec import Fit

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    # NaN is refused, so that bundle.json stays JSON that every reader takes.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Input(_Part):
    """What the models are fed: (n, height, width, 1) raw grey, 0..255, from `brain_ray.data.transforms`."""

    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    channels: Literal[1] = 1
    fit: Fit
    crop_size: tuple[int, int] | None
    max_pixels: Annotated[int, Field(ge=1)]


class ValidationScores(_Part):
    """Scores of the exported ONNX model on the validation split. Log losses in nats, the rest 0..1."""

    images: Count
    accuracy: float
    log_loss: float
    log_loss_calibrated: float
    ece: float


class ModelScores(_Part):
    """Validation scores from the export, test scores once `add_scores` has been called."""

    validation: ValidationScores
    test: dict[str, Any] | None = None


class SplitFacts(_Part):
    """A split: its images, its rows (augmented copies included) and the hash of what is in it."""

    images: Count
    rows: Count
    sha256: str


class DataFacts(_Part):
    """What the model learned from and was judged on, and what the audit for copies found."""

    train: SplitFacts
    valid: SplitFacts
    test: SplitFacts
    audit: dict[str, Any]


class TrainingFacts(_Part):
    """How long it was trained, and which epoch it is from."""

    epochs: Count
    best_epoch: Count
    backbone: str


class Facts(_Part):
    """What an exporter has to be told: parts of bundle.json under their names; `versions` join its own."""

    data: DataFacts
    training: TrainingFacts
    versions: dict[str, str] = {}
    sweep: dict[str, Any] | None = None


class Check(_Part):
    """How far the two models were apart, as a probability, and on how many validation images."""

    images: Count
    largest_difference: float


class Decision(_Part):
    """Which answers are given: the thresholds, and what they did on the validation images."""

    abstain_below: Annotated[float, Field(ge=0)]
    """An answer whose calibrated probability is lower is withheld. Above 1: every one is."""
    max_error: Share
    """The share of wrong answers among those given that was asked for."""
    error: Share
    """The share of wrong answers among those given."""
    answered: Share
    """The share of images that were answered."""
    unlikeness_threshold: Annotated[float, Field(gt=0)]
    """The distance from the training images from which on a picture is none of their kind."""
    keep_share: Share
    """The share of images within that distance that was asked for."""
    kept: Share
    """The share of images within that distance."""
    learned_from: Count
    """Training images that the distance is measured from."""


class BundleInfo(_Part):
    """The content of bundle.json."""

    format: Literal[2] = 2
    name: str
    created: str
    """Time of the export, ISO 8601, UTC."""
    classes: tuple[str, ...]
    """In the order of the outputs."""
    input: Input
    crop: CropConfig
    temperature: Annotated[float, Field(gt=0)]
    decision: Decision
    canaries: dict[str, tuple[float, ...]]
    """Under the name of each image in `canaries/`, the probabilities that model.onnx gives it."""
    scores: ModelScores
    data: DataFacts
    training: TrainingFacts
    versions: dict[str, str]
    config: dict[str, Any]
    """The run's whole configuration, as it was; not checked, so that settings may change later."""
    files: dict[str, str]
    """SHA-256 (hex) of each file but bundle.json and MODEL_CARD.md."""
    check: Check
    sweep: dict[str, Any] | None = None
    """What the sweep that chose this model found: the rule and the sentence of its choice, how noise was
    judged, its trials and the contenders; None: the model was trained by itself."""
