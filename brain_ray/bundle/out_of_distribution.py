"""Out-of-distribution detector: Mahalanobis distance of an image from the training images.

After Lee et al. 2018 (arxiv.org/abs/1807.03888), but on statistics from early in the network, see `convert`:
after fine-tuning, little in the last feature map distinguishes a photograph from a head. One Gaussian stands
for all classes, whose means hardly differ so early. The statistics are over whole maps: an image that is
turned has nearly the same ones, and nearly the same distance.
"""

import io
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.intervals import group_weights

Floats = NDArray[np.float32]

ROUNDING = 1e-5
"""Deviation of a statistic, as a share of its largest absolute value, up to which it counts as constant: some
hundred times float32's precision."""


@dataclass(frozen=True)
class OutOfDistributionDetector:
    """Gaussian of the training images' statistics."""

    mean: Floats
    """(k,), mean of the statistics."""
    whitening: Floats
    """(k, k), a factor of the inverse covariance, in units of the statistics as they are."""

    @classmethod
    def fit(cls, statistics: NDArray[np.floating]) -> Self:
        """Fits the Gaussian to (n, k) statistics; the covariance is shrunk (Ledoit and Wolf 2004).

        The statistics are standardised first: shrinking goes towards one variance for all of them, beside
        which those of a small scale would count for nothing. `whitening` contains the standardising.
        """
        from sklearn.covariance import LedoitWolf  # at export only: its import takes seconds

        values = statistics.astype(np.float64)
        mean, scale = values.mean(axis=0), _scales(values)
        found = LedoitWolf(assume_centered=True).fit((values - mean) / scale)
        whitening = np.linalg.cholesky(found.precision_) / scale[:, np.newaxis]
        return cls(mean.astype(np.float32), whitening.astype(np.float32))

    def distance(self, statistics: Floats) -> Floats:
        """Returns the distance of each row of (n, k) statistics from the mean: (n,) float32."""
        whitened = (statistics - self.mean) @ self.whitening
        return np.asarray(np.sqrt(np.square(whitened).sum(axis=1)), np.float32)

    def to_bytes(self) -> bytes:
        """Encodes the Gaussian as a .npz file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, mean=self.mean, whitening=self.whitening)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decodes the bytes of `to_bytes`."""
        with np.load(io.BytesIO(data)) as stored:
            return cls(stored["mean"], stored["whitening"])


def threshold(distances: Floats, keep_share: float, groups: ArrayLike | None = None) -> float:
    """Returns the smallest of (n,) distances that at least `keep_share` of the images do not exceed; never 0.

    With the group of each image, (n,), an image weighs 1 / the size of its group, so that each group has the
    same say, however many copies or slices it has.
    """
    weights = None if groups is None else group_weights(groups)
    return max(float(np.quantile(distances, keep_share, method="inverted_cdf", weights=weights)), 1e-6)


def _scales(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the standard deviation of each of (n, k) statistics, (k,); never 0.

    A statistic that is constant but for rounding gets the median deviation of the others, or 1.
    """
    deviations = values.std(axis=0)
    varies = deviations > ROUNDING * np.abs(values).max(axis=0)
    usual = np.median(deviations[varies]) if varies.any() else 1.0
    return np.where(varies, deviations, usual)
