"""Settings of the data: where images come from and how they become rows."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from brain_ray.config.base import Fraction, Positive, Settings, Share

PHANTOMS = "phantoms"
"""The value of `data.source` that stands for images drawn by `brain_ray.data.phantoms.files`."""


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
