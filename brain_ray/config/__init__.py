"""The tree of settings: one frozen, typed object describes a whole run."""

from brain_ray.config.augmentation import AugmentConfig
from brain_ray.config.base import Fraction, Pixels, Positive, Settings, Share
from brain_ray.config.data import (
    PHANTOMS,
    ColumnsConfig,
    CropConfig,
    DataConfig,
    PhantomConfig,
    VolumeConfig,
)
from brain_ray.config.model import BACKBONES, Backbone, BackboneSpec, ExportConfig, ModelConfig
from brain_ray.config.run import Config, EvaluateConfig
from brain_ray.config.training import TrainConfig
from brain_ray.config.tuning import SweepConfig

__all__ = [
    "BACKBONES",
    "PHANTOMS",
    "AugmentConfig",
    "Backbone",
    "BackboneSpec",
    "ColumnsConfig",
    "Config",
    "CropConfig",
    "DataConfig",
    "EvaluateConfig",
    "ExportConfig",
    "Fraction",
    "ModelConfig",
    "PhantomConfig",
    "Pixels",
    "Positive",
    "Settings",
    "Share",
    "SweepConfig",
    "TrainConfig",
    "VolumeConfig",
]
