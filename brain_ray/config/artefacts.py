"""Names of the image artefacts that training can draw and evaluation applies."""

from typing import Literal

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
