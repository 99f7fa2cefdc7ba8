"""The tree of settings: one frozen, typed object describes a whole run."""

from typing import Annotated, Self

import tyro
from pydantic import Field, model_validator

from brain_ray.config.base import Positive, Settings
from brain_ray.config.data import DataConfig
from brain_ray.config.model import BackboneSpec, ExportConfig, ModelConfig
from brain_ray.config.training import TrainConfig
from brain_ray.config.tuning import SweepConfig


class EvaluateConfig(Settings):
    """Scoring and the report."""

    batch_size: Positive = 32
    """Images per call of the model."""
    num_actors: Positive = 1
    """Copies of the model that score in parallel."""
    cpus_per_actor: Positive = 1
    """CPUs, and threads, of each copy."""
    calibration_bins: Positive = 15
    """Equal-width bins of the reliability diagram and of the expected calibration error."""


class Config(Settings):
    """One run of brain_ray."""

    recipe: Annotated[str, tyro.conf.Suppress] = "smoke"
    """Name of the recipe that these settings started from."""
    storage: str = "runs"
    """Folder or URI (s3://, gs://) that holds the runs."""
    name: str = "smoke"
    """Name of the run: its folder is `<storage>/<name>`. Started again, it goes on from what is finished."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 123
    """Seed of every split, shuffle, augmentation and initial weight."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    export: ExportConfig = ExportConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    sweep: SweepConfig = SweepConfig()

    @model_validator(mode="after")
    def _name(self) -> Self:
        if not self.name or any(c in self.name for c in "/\\ ") or self.name.startswith("."):
            raise ValueError(f"name is {self.name!r}: expected a plain folder name, without / and spaces")
        return self

    @model_validator(mode="after")
    def _features_of_something(self) -> Self:
        if self.train.frozen_epochs and self.train.cache_features and self.model.weights == "none":
            raise ValueError(
                f"train.frozen_epochs is {self.train.frozen_epochs} and model.weights none: the features of "
                "a backbone that has learnt nothing teach nothing; set model.weights, or frozen_epochs to 0"
            )
        return self

    @model_validator(mode="after")
    def _blocks_to_learn(self) -> Self:
        check_blocks(self.model.backbone, self.model.backbone_spec, self.train.learning_blocks)
        return self


def check_blocks(name: str, spec: BackboneSpec, learning_blocks: int | None) -> None:
    """Refuse to count the blocks of a backbone that has none.

    Raises:
        ValueError: `learning_blocks` is set, and the backbone's row names no blocks.
    """
    if learning_blocks is not None and spec.blocks is None:
        raise ValueError(
            f"train.learning_blocks is {learning_blocks}: the backbone {name} has no blocks to count; "
            "leave it out, for all of the backbone to learn"
        )
