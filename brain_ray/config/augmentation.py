"""Ranges of the random augmentations of an image, and the names of the artefacts that can be drawn."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from brain_ray.config.base import Fraction, Settings, Share

Artefact = Literal[
    "bias_field",
    "rician_noise",
    "gibbs_ringing",
    "motion",
    "ghosting",
    "spikes",
    "blur",
    "contrast_down",
    "contrast_up",
    "gamma_down",
    "gamma_up",
    "brightness_down",
    "brightness_up",
    "jpeg",
    "pixelation",
    "rotation",
    "shift",
]
"""Name of an artefact; `brain_ray.data.artefacts.table` has what each does."""


class AugmentConfig(Settings):
    """Ranges of the random augmentations: each is drawn uniformly from [-x, x], noise from [0, x]."""

    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation in degrees, 0 to 180."""
    shift: Share = 0.0
    """Largest shift, as a share (0 to 1) of the width and of the height."""
    zoom: Fraction = 0.0
    """Largest change of scale: 0.1 draws a factor between 0.9 and 1.1."""
    brightness: Fraction = 0.0
    """Largest brightening or darkening of a middle grey, as a share of the full range 0..255."""
    contrast: Fraction = 0.0
    """Largest change of contrast about the mean: 0.1 draws a factor between 0.9 and 1.1."""
    keep_black: bool = True
    """Whether the air around a head stays black: what comes in from outside of an image is black, brightness
    multiplies, and contrast is a power of the grey level over the mean. If False, the edge is repeated,
    brightness is added, and contrast is a line through the mean, which makes black grey."""
    noise: Fraction = 0.0
    """Largest standard deviation of Gaussian noise, as a share of the full range 0..255."""
    flip: Share = 0.0
    """Probability of a left-right flip."""
    curve: Share = 0.0
    """Probability that grey levels are mapped by a random rising Bezier curve from black to white (Zhou et
    al. 2019, arxiv.org/abs/1908.06912): another contrast, the same order of brightness."""
    invert: Share = 0.0
    """Probability that the brightest becomes the darkest, as between T1 and T2 weighting. Levels below a
    fifth of the image's mean are taken for air, which stays dark."""
    artefacts: tuple[Artefact, ...] = ()
    """Artefacts of MR images (`docs/BRAINMR_C.md`), one of which is drawn, with its severity, for the share
    `artefact_share` of the images."""
    artefact_share: Share = 0.0
    """Probability that an image is given one of `artefacts`."""

    @model_validator(mode="after")
    def _artefacts_to_draw(self) -> Self:
        if self.artefact_share and not self.artefacts:
            raise ValueError(
                f"artefact_share is {self.artefact_share}, and artefacts names none: expected some of "
                f"{', '.join(get_args(Artefact))}"
            )
        return self
