"""Artefacts of the acquisition, which arise in the scanner: field, noise and k-space. Pure functions.

Each maps a grey image, uint8 (height, width), to one of the same shape. A generator draws what differs
between scans, such as a direction, in the same way for every amount, so that a larger one changes more.
k-space is that of the magnitude image: the phase of the real one is lost with the file.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey

REFERENCE_SIDE = 224
"""Side, in pixels, for which lengths in pixels are stated: that of MedMNIST-C's images."""

BIAS_ORDER = 3
"""Degree of the bias field's polynomial, as in TorchIO."""

GHOSTS = (4, 10)
"""Fewest and most ghosts, as in TorchIO."""

SPIKE_PERIODS = (8, 64)
"""Fewest and most periods of a spike's stripes across the image."""

MOTION_DEGREES, MOTION_MM = 5, 5
"""Size of a movement: the mean of what TorchIO draws."""

FIELD_OF_VIEW_MM = 240
"""Assumed length of the image's shorter side, for movements in mm."""


def as_grey(levels: NDArray[np.floating]) -> Grey:
    """Rounds levels to uint8, and clips them to 0..255."""
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)


def signs(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Draws `count` directions, each -1 or 1."""
    return 2 * rng.integers(0, 2, count) - 1


def move(image: Grey, degrees: float, right: float, down: float) -> NDArray[np.float32]:
    """Turns an image about its middle, then moves it by pixels; air, 0, comes in from outside."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += np.array([right, down])
    return np.asarray(cv2.warpAffine(image.astype(np.float32), matrix, (width, height)), np.float32)


def bias_field(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Multiplies by a smooth field, exp of a polynomial in x and y: the coil sees some places better.

    The polynomial has no constant term (that is brightness), and reaches `amount` at its extreme, either way.
    Van Leemput et al. 1999, IEEE Trans. Med. Imaging 18(10), 885; the degree is that of TorchIO's
    RandomBiasField.
    """
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in image.shape)
    field = np.zeros(image.shape, np.float32)
    for down in range(BIAS_ORDER + 1):
        for right in range(BIAS_ORDER + 1 - down):
            if down or right:
                field += np.float32(rng.uniform(-1, 1)) * rows[:, np.newaxis] ** down * columns**right
    field -= field.mean()
    factor = np.exp(amount * field / max(float(np.abs(field).max()), 1e-6))
    return as_grey(image.astype(np.float32) * factor)


def rician_noise(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Adds Gaussian noise of deviation `amount` * 255 to the real and the imaginary part; takes the
    magnitude.

    Air becomes grey, as in scans. Gudbjartsson and Patz 1995, doi.org/10.1002/mrm.1910340618.
    """
    real, imaginary = 255 * np.float32(amount) * rng.standard_normal((2, *image.shape), np.float32)
    return as_grey(np.hypot(image + real, imaginary))


def gibbs_ringing(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Cuts k-space to its central rectangle: edges ring, since their high frequencies were not acquired.

    `amount` is the share of the lines, in both directions, that remains of `REFERENCE_SIDE`, or of fewer
    pixels. On its cause: doi.org/10.1148/rg.313105115. MONAI's GibbsNoise cuts a disc instead.
    """
    spectrum = np.fft.rfft2(image.astype(np.float32))
    share = amount * min(1.0, REFERENCE_SIDE / min(image.shape))
    rows = np.abs(np.fft.fftfreq(image.shape[0])) <= share / 2
    columns = np.fft.rfftfreq(image.shape[1]) <= share / 2
    return as_grey(np.abs(np.fft.irfft2(spectrum * rows[:, np.newaxis] * columns, image.shape)))


def motion(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Fills the outer lines of k-space, of all lines the share `amount`, from moved heads.

    The head is still only while the centre is read: it turns by `MOTION_DEGREES` and moves by `MOTION_MM`
    before and after, in directions and along an axis that are drawn. Larger movements change little, more
    lines change much. Shaw et al. 2019, proceedings.mlr.press/v102/shaw19a.html; TorchIO's RandomMotion.
    """
    axis = int(rng.integers(2))
    pixels = MOTION_MM / FIELD_OF_VIEW_MM * min(image.shape)
    lines = np.fft.fft(image.astype(np.float32), axis=axis)
    share = np.fft.ifftshift(np.arange(image.shape[axis])) / image.shape[axis]
    before = amount * rng.uniform(0.45, 0.55)
    for outside in (share < before, share >= 1 - amount + before):
        turn, right, down = signs(rng, 3)
        moved = move(image, turn * MOTION_DEGREES, right * pixels, down * pixels)
        lines = np.where(np.expand_dims(outside, 1 - axis), np.fft.fft(moved, axis=axis), lines)
    return as_grey(np.abs(np.fft.ifft(lines, axis=axis)))


def ghosting(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Weakens every n-th line of k-space by `amount`, a share: faint copies of the head stand beside it.

    The central line stays. n, the number of ghosts, and the axis are drawn, as in TorchIO's RandomGhosting.
    """
    axis, ghosts = int(rng.integers(2)), int(rng.integers(GHOSTS[0], GHOSTS[1] + 1))
    factors = np.ones(image.shape[axis], np.float32)
    factors[::ghosts] -= np.float32(amount)
    factors[len(factors) // 2] = 1
    lines = np.fft.fft(image.astype(np.float32), axis=axis)
    lines *= np.expand_dims(np.fft.ifftshift(factors), 1 - axis)
    return as_grey(np.abs(np.fft.ifft(lines, axis=axis)))


def spikes(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Adds one spike to k-space, `amount` times its largest value: stripes across the image.

    That is a wave of `amount` times the image's mean; its direction, period and phase are drawn. As in
    TorchIO's RandomSpike, it is the real part that counts.
    """
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    periods = min(rng.uniform(*SPIKE_PERIODS), 0.4 * min(image.shape))
    rows, columns = (np.arange(side, dtype=np.float32) / side for side in image.shape)
    down, right = (2 * np.pi * periods * part for part in (np.sin(angle), np.cos(angle)))
    wave = np.cos(down * rows[:, np.newaxis] + right * columns + phase)
    return as_grey(image + amount * float(image.mean()) * wave)
