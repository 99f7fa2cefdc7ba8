"""Scores of each validation image by a sweep's trials: what models are compared and chosen by."""

from dataclasses import dataclass

import numpy as np

from brain_ray.scoring.calibration import log_losses
from brain_ray.scoring.cross_fitting import cross_fitted_losses, draw_halves
from brain_ray.scoring.curves import Floats
from brain_ray.tuning.trials import SweepRecord


@dataclass(frozen=True)
class ImageScores:
    """Scores of each validation image, of a trial (images,) or of a variant's repeats (repeats, images)."""

    cross_entropy: Floats
    calibrated: Floats
    """Cross-entropy after cross-fitted temperature scaling."""
    right: Floats
    """1 if the image is classified correctly, else 0."""
    calibrated_decides: bool

    @property
    def loss(self) -> Floats:
        """Cross-entropy by which models are compared."""
        return self.calibrated if self.calibrated_decides else self.cross_entropy


def score_images(record: SweepRecord) -> dict[str, ImageScores]:
    """Returns the scores of each trial with finite probabilities, by its id."""
    halves = draw_halves(record.groups, record.config.seed)
    decides = record.config.sweep.criterion == "calibrated"
    found = {}
    for one in record.trials:
        if one.probabilities is None or not np.isfinite(one.probabilities).all() or not len(record.labels):
            continue
        chances = np.asarray(one.probabilities, np.float64)
        found[one.trial.id] = ImageScores(
            cross_entropy=log_losses(chances, record.labels),
            calibrated=cross_fitted_losses(chances, record.labels, halves),
            right=(chances.argmax(axis=1) == record.labels).astype(np.float64),
            calibrated_decides=decides,
        )
    return found
