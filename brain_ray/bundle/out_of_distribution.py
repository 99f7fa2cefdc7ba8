"""Out-of-distribution detector: Mahalanobis distance of an image from the training images.

After Lee et al. 2018 (arxiv.org/abs/1807.03888), but on statistics from early in the network, see `convert`:
after fine-tuning, little in the last feature map distinguishes a photograph from a head. One Gaussian stands
for all classes, whose means hardly differ so early.
"""

import io
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class OutOfDistributionDetector:
    """Gaussian of the training images' statistics."""

    mean: Floats
    """(k,), mean of the statistics."""
    whitening: Floats
    """(k, k), a factor of the inverse covariance."""

    @classmethod
    def fit(cls, statistics: NDArray[np.floating]) -> Self:
        """Fits the Gaussian to (n, k) statistics; the covariance is shrunk (Ledoit and Wolf 2004)."""
        from sklearn.covariance import LedoitWolf  # at export only: its import takes seconds

        found = LedoitWolf().fit(statistics.astype(np.float64))
        whitening = np.linalg.cholesky(found.precision_)
        return cls(found.location_.astype(np.float32), whitening.astype(np.float32))

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


def threshold(distances: Floats, keep_share: float) -> float:
    """Returns the smallest of (n,) distances that at least `keep_share` of them do not exceed; never 0."""
    return max(float(np.quantile(distances, keep_share, method="inverted_cdf")), 1e-6)
