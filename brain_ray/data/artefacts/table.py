"""ARTEFACTS: each artefact's function, its five severities and where they are from; and `corrupt`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from brain_ray.arrays import Grey
from brain_ray.data.artefacts import picture, scanner

if TYPE_CHECKING:  # its import takes longer than all others of decoding
    from brain_ray.config.augmentation import Artefact

SEVERITIES = (1, 2, 3, 4, 5)
"""Severities of every artefact, from the mildest to the strongest."""

TORCHIO = "TorchIO (Pérez-García et al. 2020, arxiv.org/abs/2003.04696)"

MEDMNIST_C = "MedMNIST-C's OrganAMNIST (Di Salvo et al. 2024, arxiv.org/abs/2406.17536)"


@dataclass(frozen=True)
class Kind:
    """One artefact."""

    apply: Callable[[Grey, float, np.random.Generator], Grey]
    """Function of an image, an amount and a generator."""
    amounts: tuple[float, float, float, float, float]
    """Amount at each severity."""
    unit: str
    """Meaning of the amounts."""
    source: str
    """Where the amounts are from."""


ARTEFACTS: Mapping["Artefact", Kind] = {
    "bias_field": Kind(
        scanner.bias_field, (0.2, 0.4, 0.6, 0.8, 1.0), "largest |ln field|", "own"
    ),
    "rician_noise": Kind(
        scanner.rician_noise, (0.04, 0.08, 0.12, 0.16, 0.20), "deviation, share of 255",
        f"{MEDMNIST_C}, gaussian_noise",
    ),
    "gibbs_ringing": Kind(
        scanner.gibbs_ringing, (0.6, 0.5, 0.4, 0.3, 0.2), "share of the lines that remains", "own"
    ),
    "motion": Kind(
        scanner.motion, (0.3, 0.5, 0.7, 0.8, 0.9), "share of the lines read of a moved head",
        f"own; movements as in {TORCHIO}",
    ),
    "ghosting": Kind(
        scanner.ghosting, (0.2, 0.4, 0.6, 0.8, 1.0), "share taken off every n-th line",
        f"own; {TORCHIO}'s default is 0.5 to 1",
    ),
    "spikes": Kind(
        scanner.spikes, (0.2, 0.4, 0.6, 0.8, 1.0), "share of the largest value of k-space",
        f"own; {TORCHIO}'s default is 1 to 3",
    ),
    "blur": Kind(
        picture.blur, (2.0, 2.3, 2.6, 2.9, 3.5), "pixels of 224", f"{MEDMNIST_C}, gaussian_blur"
    ),
    "contrast_down": Kind(picture.contrast, (0.8, 0.7, 0.6, 0.55, 0.5), "factor", MEDMNIST_C),
    "contrast_up": Kind(picture.contrast, (1.3, 1.4, 1.6, 1.7, 1.8), "factor", MEDMNIST_C),
    "gamma_down": Kind(picture.gamma, (0.9, 0.8, 0.7, 0.6, 0.4), "exponent", MEDMNIST_C),
    "gamma_up": Kind(picture.gamma, (1.3, 1.4, 1.6, 1.8, 2.0), "exponent", MEDMNIST_C),
    "brightness_down": Kind(picture.brightness, (0.8, 0.75, 0.7, 0.65, 0.6), "factor", MEDMNIST_C),
    "brightness_up": Kind(picture.brightness, (1.2, 1.3, 1.4, 1.5, 1.6), "factor", MEDMNIST_C),
    "jpeg": Kind(picture.jpeg, (50, 30, 15, 10, 7), "quality", MEDMNIST_C),
    "pixelation": Kind(
        picture.pixelation, (0.7, 0.6, 0.5, 0.4, 0.35), "share of the pixels of a side", MEDMNIST_C
    ),
    "rotation": Kind(picture.rotation, (5, 10, 15, 20, 30), "degrees", "own"),
    "shift": Kind(picture.shift, (0.02, 0.05, 0.1, 0.15, 0.2), "share of the sides", "own"),
}  # fmt: skip
"""All artefacts by name; docs/BRAINMR_C.md has their formulas."""

NAMES = tuple(ARTEFACTS)
"""Names of all artefacts, in the order of the tables."""


def corrupt(image: Grey, name: "Artefact", severity: int, rng: np.random.Generator) -> Grey:
    """Returns an image with an artefact: uint8 (height, width), contiguous.

    Generators with equal states draw the same direction, place and noise at each severity.

    Raises:
        ValueError: an unknown name or severity.
    """
    if name not in ARTEFACTS:
        raise ValueError(f"artefact {name!r} is unknown: expected one of {', '.join(NAMES)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity!r}: expected 1 to 5")
    kind = ARTEFACTS[name]
    return np.ascontiguousarray(kind.apply(image, kind.amounts[severity - 1], rng))


def draws_of(seed: int, name: "Artefact", image_id: int) -> np.random.Generator:
    """Returns the generator of an image's artefact, which depends on these three only: not on the severity,
    on other artefacts or on who asks."""
    return np.random.default_rng([seed, crc32(name.encode()), image_id])
