"""Old path of `brain_ray.bundle.predictor`: cards of bundles of format 2 name it. Goes with format 3."""

import warnings

from brain_ray.bundle.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]

warnings.warn("import from brain_ray.bundle.predictor instead", DeprecationWarning, stacklevel=2)
