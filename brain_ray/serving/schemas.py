"""Response bodies of the endpoint, which are also its OpenAPI document's."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(ge=0)]


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Problem(Body):
    """An error (RFC 9457, media type application/problem+json)."""

    type: str
    """`urn:brain_ray:problem:<code>`"""
    title: str
    """What kind of error this is, the same for each of its kind."""
    status: int
    """The HTTP status that the request has, or would have if this image were its only one."""
    code: str
    """Stable, for programs: `not_an_image`, `undecodable`, `too_many_pixels`, `queue_full`, ..."""
    detail: str
    """What was found, what was expected."""


class CropBox(Body):
    """The part of an image that the model saw, in pixels, half-open: rows top..bottom-1."""

    top: Pixels
    bottom: Pixels
    left: Pixels
    right: Pixels


class ModelId(Body):
    """Which model answered."""

    name: str
    """The run that it is from."""
    sha256: str
    """Of model.onnx, hex."""
    id: str
    """`<name>-<first 12 digits of sha256>`"""


class Answer(Body):
    """What the model says of one image."""

    status: Literal["ok"] = "ok"
    name: str
    """The file name that was sent with the image, or `image`."""
    label: str
    """The most probable class."""
    decision: Literal["answer", "abstain", "not_mr"]
    """`answer`: sure enough for the share of wrong answers that the bundle allows, as far as its validation
    images show it; `abstain`: not so; `not_mr`: the picture is unlike the training images by a distance of
    features, and its label means nothing. That recognises neither MR nor heads: a picture that passes need
    be neither."""
    candidates: list[str] | None = None
    """The classes that cannot be excluded: each was among the candidates of the share of its own images that
    the bundle states as its sensitivity, in validation. Null: the bundle is of an earlier version."""
    confidence: Probability
    """The calibrated probability of `label`."""
    probabilities: dict[str, Probability]
    """Of each class, as the network gives them."""
    calibrated: dict[str, Probability]
    """Of each class, with the bundle's temperature: what to read as a confidence."""
    unlikeness: Annotated[float, Field(ge=0)]
    """Distance of the picture's features from the training images', as a multiple of the largest that is
    allowed: more than 1 is `not_mr`."""
    box: CropBox
    has_box: bool
    """Whether a head was found; if not, the box is the whole image."""
    width: Pixels
    """Of the image, after its EXIF rotation."""
    height: Pixels
    model: ModelId
    milliseconds: Annotated[float, Field(ge=0)]
    """From the image's bytes to this answer, its time in the queue included."""


class Failure(Body):
    """One image among several that could not be used; the others are not affected."""

    status: Literal["error"] = "error"
    name: str
    problem: Problem


class Predictions(Body):
    """One result for each image, in the order sent."""

    results: list[Annotated[Answer | Failure, Field(discriminator="status")]]
    milliseconds: Annotated[float, Field(ge=0)]
    """The whole request, from its last byte on."""


class Explanation(Answer):
    """An answer and a heat map: Grad-CAM (Selvaraju et al. 2017) of the most probable class."""

    crop: str
    """The part of the image that the model saw: PNG, base64."""
    heatmap: str
    """A PNG, base64, of the crop's size, RGBA: transparent where the answer does not depend on the image."""
    overlay: str
    """The heat map over the crop: PNG, base64."""


class Explanations(Body):
    """One result for each image, in the order sent."""

    results: list[Annotated[Explanation | Failure, Field(discriminator="status")]]
    milliseconds: Annotated[float, Field(ge=0)]


class Served(Body):
    """One model on the air, and how it came to its requests."""

    id: str
    role: Literal["main", "challenger"]
    share: Probability
    """Of the images."""
    mode: Literal["answers", "mirrors"]
    """`mirrors`: it gets copies of images that the main model answers, for the metrics only."""
    bundle: dict[str, Any]
    """The facts of bundle.json, without its settings."""
    card: str
    """MODEL_CARD.md"""


class Models(Body):
    """What is on the air, the main model first."""

    classes: list[str]
    models: list[Served]
    limits: dict[str, float]
    """max_upload_mb, max_images, max_pixels, timeout_s."""
    samples: list[str]
    """Names of the sample images (drawn phantoms) under /v1/samples/<name>."""
    review: bool = False
    """Whether images without an answer are kept for people to look at."""


class DriftedQuantity(Body):
    """A quantity of the images of late, and of the validation images."""

    meaning: str
    distance: Probability
    """Of Kolmogorov and Smirnov, each request and each patient of validation with the same say."""
    by_chance: Probability
    """The distance that chance exceeds once in ten thousand comparisons, of all quantities together."""
    reference: tuple[float, float, float]
    """Quartiles of the validation images."""
    found: tuple[float, float, float]
    alarms: bool


class Drift(Body):
    """Whether the images of late are like those that the model was validated on, by the replica that
    answers."""

    status: Literal["steady", "drifted", "unknown"]
    sentence: str
    model: str
    images: Annotated[int, Field(ge=0)]
    """Images that the main model answered of late, at most 300."""
    quantities: dict[str, DriftedQuantity]
    labels: dict[str, Probability]
    """Share of these images by their most probable class."""
    reference_labels: dict[str, Probability] | None = None
    """The same of the validation images; no alarm is made of it, since what is common differs from place to
    place."""


class Health(Body):
    """Whether it is alive, or ready."""

    status: Literal["ok"] = "ok"
    models: list[str] = []
    """Of /readyz: ids of the models that have just answered their canary images."""
