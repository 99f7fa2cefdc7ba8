"""Settings of `data`: the source of the images, and how they become rows of a data set."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from brain_ray.config.augmentation import AugmentConfig
from brain_ray.config.base import Fraction, Percentile, Positive, Settings, Share
from brain_ray.input_spec import WINDOW, Plane, ReadSpec

PHANTOMS = "phantoms"
"""The value of `data.source` that stands for images drawn by `brain_ray.data.phantoms.files`."""


class CropConfig(Settings):
    """Finding the box around the head, to which an image is cropped."""

    blur: Positive = 3
    """Side of the Gaussian blur's kernel in pixels, an odd number."""
    threshold: Annotated[int, Field(ge=0, le=254)] = 45
    """Grey level, 0 to 254, above which a pixel belongs to the head."""
    iterations: Annotated[int, Field(ge=0)] = 2
    """Number of 3x3 erosions of the mask, followed by as many dilations, which remove specks."""
    min_share: Fraction = 0.2
    """Smallest share of the image that a box may cover. If it covers less (a fragment of a dark head), the
    whole image is kept; 0: the box is always used."""

    @model_validator(mode="after")
    def _odd_blur(self) -> Self:
        if self.blur % 2 == 0:
            raise ValueError(f"blur is {self.blur}: a Gaussian kernel needs an odd side, such as 3")
        return self


class PhantomConfig(Settings):
    """The phantoms that are drawn if `data.source` is `phantoms`."""

    train_per_class: Positive = 60
    """Images per class under the training folder."""
    test_per_class: Positive = 25
    """Images per class under the test folder, not counting planted copies."""
    copies: Annotated[int, Field(ge=0)] = 0
    """Additional images that are copies of training images (exact, recompressed, brighter, mirrored, turned,
    flipped)."""
    conflicts: Annotated[int, Field(ge=0)] = 0
    """Additional copies that are labelled as another class."""
    faults: Annotated[int, Field(ge=0)] = 0
    """Additional unusable or odd files (in turn: corrupt, truncated, not an image, one pixel, blank,
    16-bit)."""
    slices_per_patient: Positive = 1
    """Images of each patient, neighbouring slices of one head by one scanner; 1: each image is a head of its
    own, and no patients are told."""
    sources: Positive = 3
    """Scanners, which differ in contrast, noise and size; no effect with one slice per patient."""
    shared_patients: Annotated[int, Field(ge=0)] = 0
    """Additional training images, each another slice of a patient in the test folder; no effect with one
    slice per patient."""


class ColumnsConfig(Settings):
    """Names of a manifest's columns. None: found by their usual names; `none`: there is no such column."""

    path: str | None = None
    """Column of the files' paths; usually path, file, filename, filepath or image."""
    label: str | None = None
    """Column of the classes; usually label, class or class_name."""
    split: str | None = None
    """Column of the splits: train, valid or test, spelled as folders may be; usually split."""
    patient: str | None = None
    """Column of the patients; usually patient, patient_id, subject or subject_id."""
    source: str | None = None
    """Column of where images come from, such as a hospital; usually source."""
    fold: str | None = None
    """Column of the folds, whole numbers; usually fold."""
    frame: str | None = None
    """Column of the number, from 0, of the image of its file that a row means (none: all); usually frame."""


class VolumeConfig(Settings):
    """Slices of files that hold several images: NIfTI volumes and multi-frame DICOM."""

    plane: Plane = "axial"
    """Plane of the slices into which a NIfTI volume is cut: `axial`, `coronal` or `sagittal`. They lie as a
    radiologist sees them: the patient's right on the left, the front or the top of the head above."""
    min_content: Share = 0.05
    """Smallest share (0 to 1) of a slice's pixels that are brighter than `crop.threshold`; slices with less
    are empty, and left out. 0: none is left out."""


class DataConfig(Settings):
    """The source of the images, and how they become rows of a data set."""

    source: str = PHANTOMS
    """Folder or URI of images in a folder for each class, within folders for the splits if there are any
    (`Training/<class>`, `Testing/<class>`); or a manifest: a table (.csv, .tsv, .parquet, .jsonl, .ndjson) of
    their paths and labels; `phantoms` draws images instead."""
    phantoms: PhantomConfig = PhantomConfig()
    train_folder: str | None = None
    """Folder with the training images, as a path within `source`; `.`: the class folders are in `source`
    itself. None: found by its name (Training, train, ...), or where the class folders are."""
    valid_folder: str | None = None
    """Folder with the validation images; None: found by its name (valid, val, ...) beside the training
    folder. Without one, validation takes `valid_fraction` of the training images."""
    test_folder: str | None = None
    """Folder with the test images; None: found by its name (Testing, test, ...) beside the training folder.
    Without one, the test split takes `test_fraction` of all images."""
    ignore_folders: tuple[str, ...] = ()
    """Folders to leave out, as paths within `source`, though they would be used by their names."""
    masks: Literal["leave_out", "keep"] = "leave_out"
    """What happens to masks beside images (`x_mask.png` beside `x.png`, a folder `masks/`): `leave_out`, or
    `keep` them as images."""
    columns: ColumnsConfig = ColumnsConfig()
    root: str | None = None
    """Folder or URI at which the paths in a manifest start; None: the manifest's own folder."""
    ignore_labels: tuple[str, ...] = ()
    """Labels of a manifest whose rows are left out."""
    classes: tuple[str, ...] = ("glioma", "meningioma", "notumor", "pituitary")
    """Names of the class folders, or a manifest's labels, in the order of the model's outputs; two or
    more."""
    patients: str = "auto"
    """The patient whom each file shows. `auto`: what the source itself tells (a manifest's column, DICOM, a
    known data set), `none`: nobody is known, `folder`: the first folder below the class's, `regex:PATTERN`:
    group `patient`, or the first one, of a regular expression that is searched in the path within `source`,
    `csv:FILE`: a table (path or URI) with the columns path or file, and patient. Where one of the last three
    knows none, what the source tells counts."""
    external: bool = False
    """Whether the images only score a bundle that learned from others (`evaluate.bundle`): those of the
    source's test split, or all if it has none, are the test split, and nothing is drawn for training.
    Classes may be missing, and images of other classes are left out."""
    registry: Literal["auto", "none"] = "auto"
    """`auto`: images of published data sets whose patients are known are recognised by their pixels; `none`:
    not looked for."""
    valid_fraction: Fraction = 0.2
    """Share of the training images used for validation, if the source has none."""
    test_fraction: Fraction = 0.15
    """Share of all images used as the test split, if the source has none."""
    split_by: Literal["cluster", "image"] = "cluster"
    """`cluster`: all copies of a slice that were found, and all images of a patient who is known, are on the
    same side of the train/validation split. `image`: they may be on both sides, with `leaks=keep` also of a
    test split that is drawn here. No effect with `leaks=regroup`."""
    leaks: Literal["auto", "drop", "keep", "regroup", "fail"] = "auto"
    """What happens to training images with a copy, or with another image of their patient, in the test split:
    `drop`, `keep`, `regroup` (draws all splits anew over whole groups of patients and copies) or `fail`.
    `auto`: `drop` if no class loses more than a quarter of its training images by it, else `regroup`. A test
    split that is drawn here shares no group with training and validation, except with `keep`."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Number of folds to which the training and validation images are dealt, stratified and by whole groups;
    None: the folds that the source gives, if any."""
    conflicts: Literal["drop", "keep"] = "drop"
    """What happens to training images with a copy of another label (with `leaks=regroup`, to any such image):
    `drop` all of them, or `keep` them."""
    copy_similarity: Annotated[float, Field(gt=0.9, le=1.0)] = 0.97
    """Lowest correlation, above 0.9 up to 1, at which two images count as copies: of the details of their
    heads, laid on each other."""
    max_rejected: Share = 0.01
    """Largest share of unusable files; more is an error. Files whose names show that they are no images, such
    as Thumbs.db or a table, do not count."""
    max_pixels: Positive = 40_000_000
    """Most pixels of an image. Larger images are rejected by their header, before they are decoded."""
    window: tuple[Percentile, Percentile] = WINDOW
    """Percentiles of an image's pixels, of a volume's all together, that become 0 and 255 where they have
    more than 8 bits; a DICOM file's own window comes first. A few hot pixels change nothing, as they would
    with `0 100`, the darkest and the brightest pixel."""
    volumes: VolumeConfig = VolumeConfig()
    crop: CropConfig = CropConfig()
    balance_to: Positive | None = None
    """Rows per class of the training split, reached by adding augmented copies; None: none are added."""
    balance: AugmentConfig = AugmentConfig(rotation=10.0, shift=0.05, flip=0.5)
    """Ranges of the augmentations for the copies that `balance_to` adds."""
    export_images: str | None = None
    """Empty folder into which the cropped (and augmented) images are also written, as a tree with one JPEG
    file per row; None: not written. When the run is prepared again, its `train/`, `valid/` and `test/` are
    emptied first."""

    @model_validator(mode="after")
    def _classes(self) -> Self:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ValueError(f"classes are {list(self.classes)}: expected two or more different names")
        return self

    @field_validator("patients")
    @classmethod
    def _patients(cls, value: str) -> str:
        kind, mark, rest = value.partition(":")
        if (kind in ("auto", "none", "folder") and not mark) or (kind == "csv" and rest):
            return value
        if kind != "regex" or not rest:
            raise ValueError(f"patients is {value!r}: expected auto, none, folder, regex:PATTERN or csv:FILE")
        try:
            groups = re.compile(rest).groups
        except re.error as error:
            raise ValueError(f"patients is {value!r}, no regular expression: {error}") from error
        if not groups:
            raise ValueError(
                f"patients is {value!r}, without a group, such as (p\\d+), that holds the patient"
            )
        return value

    @model_validator(mode="after")
    def _rising_window(self) -> Self:
        if self.window[0] >= self.window[1]:
            raise ValueError(
                f"window is {list(self.window)}: expected two rising percentiles, as in 0.5 99.5"
            )
        return self

    @property
    def read_spec(self) -> ReadSpec:
        """How a file's pixels become grey images."""
        return ReadSpec(self.window, self.volumes.plane)
