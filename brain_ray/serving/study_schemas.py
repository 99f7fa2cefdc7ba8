"""Response body of /v1/studies, which `jobs/predict.py --per patient` writes too."""

from typing import Annotated, Literal

from pydantic import Field

from brain_ray.serving.schemas import Answer, Body, Failure, ModelId, Probability

Count = Annotated[int, Field(ge=0)]


class Together(Body):
    """One answer to several slices."""

    label: str | None
    """The most probable class; null where there is no slice to say it of."""
    decision: Literal["answer", "abstain", "not_mr", "unreadable"]
    """`answer`: sure enough for the share of wrong answers to patients that the bundle allows, as far as the
    patients of its validation show it; `abstain`: not so; `not_mr`: more than half of the slices are unlike
    the training images or show no head, or the files name another modality; `unreadable`: no slice could be
    read."""
    candidates: list[str] | None
    """The classes that cannot be excluded, as for an image, but by patients. Null: the bundle is of an
    earlier version, or there is no slice."""
    confidence: Probability | None
    """The calibrated probability of `label`."""
    calibrated: dict[str, Probability] | None
    """Of each class."""
    num_slices: Count
    """Slices that were sent, without empty ones."""
    num_counted: Count
    """Slices that the answer was made of: not those that could not be read, that are unlike the training
    images, or in which no head was found."""
    carried_by: list[Count]
    """Indices into `slices` of those that speak most for `label`, the first most."""


class Series(Together):
    """One series of a patient, or one volume."""

    number: Annotated[int, Field(ge=1)]
    """Series are numbered in the order in which they came; their own names and ids are not told."""
    patient: Annotated[int, Field(ge=1)]
    """Number of its patient."""
    modality: str
    """By DICOM's code, such as MR; "" where the files do not say."""


class Patient(Together):
    """All slices of a patient."""

    number: Annotated[int, Field(ge=1)]
    """Patients are numbered in the order in which they came; their names and ids are not told."""
    series: list[Annotated[int, Field(ge=1)]]
    """Numbers of the patient's series."""


class Slice(Body):
    """One slice, and whose it is."""

    patient: Annotated[int, Field(ge=1)]
    series: Annotated[int, Field(ge=1)]
    counted: bool
    """Whether it is part of the answers to its series and patient."""
    result: Annotated[Answer | Failure, Field(discriminator="status")]
    crop: str | None = None
    """The part that the model saw, shrunk: PNG, base64. Null: not asked for."""
    heatmap: str | None = None
    """Grad-CAM of the slice's own label: a PNG, base64, of the crop's size, RGBA."""


class Study(Body):
    """Answers to the slices of one or several patients."""

    rule: str
    """How the answers to slices become one: the bundle's, see `brain_ray.scoring.aggregation.RULES`."""
    model: ModelId
    patients: list[Patient]
    series: list[Series]
    slices: list[Slice]
    """By patient, series and position in it."""
    unassigned: list[Failure]
    """Files that could not be read, or do not say whose they are."""
    empty_slices: Count
    """Slices of volumes that show nothing, which have no result."""
    notes: list[str]
    """What to know of the files, such as a series that mixes patients."""
    contact_sheet: str | None = None
    """The slices that carry each patient's answer, with their heat maps: PNG, base64. Null: not asked for."""
    milliseconds: Annotated[float, Field(ge=0)] = 0.0
    """The whole request, from its last byte on."""
