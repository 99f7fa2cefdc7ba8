"""Config: the tree of all settings of a run, frozen and typed."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import tyro
from pydantic import Field, model_validator

from brain_ray.config.base import Positive, Settings
from brain_ray.config.data import PHANTOMS, DataConfig
from brain_ray.config.model import BackboneSpec, ExportConfig, ModelConfig
from brain_ray.config.training import TrainConfig
from brain_ray.config.tuning import SweepConfig


class EvaluateConfig(Settings):
    """Scoring of the bundle, and the report."""

    batch_size: Positive = 32
    """Largest number of images per call of the model: of large images fewer, 12 at 600x600."""
    num_actors: Positive = 1
    """Fewest copies of the model that score in parallel; more are started while the cluster has free CPUs."""
    cpus_per_actor: Positive = 1
    """Number of CPUs reserved for each copy, and of its threads."""
    gpus_per_actor: Annotated[float, Field(ge=0, le=1)] = 0
    """GPUs reserved for each copy, which then computes there: for networks that take seconds for an image on
    CPUs. Its node needs onnxruntime-gpu in place of onnxruntime. 0: none is used, whatever there is."""
    calibration_bins: Positive = 15
    """Number of equal-width bins of the reliability diagram and of the expected calibration error."""
    outlines: str | None = None
    """Outlines of the tumours, against which heat maps of the test images are held: a JSON file of polygons,
    a table or JSON file of boxes, or a folder of masks (path or URI); `phantoms`: those of the drawn
    phantoms. None: heat maps are not scored."""
    robustness: bool = False
    """Whether test images with artefacts of MR scans are scored, too: `docs/BRAINMR_C.md`."""
    robustness_images: Positive = 300
    """Largest number of test images for that, each with every artefact at five severities: whole groups of
    patients and copies, drawn with the run's seed."""
    bundle: str | None = None
    """Path or URI of a bundle to score on the images of `data.source`, with `data.external`; None: the run's
    own. `evaluate.py --bundle` sets both."""
    mapping: tuple[str, ...] | None = None
    """For images of other classes than the bundle's: the class for each of the bundle's, such as
    `glioma=tumour meningioma=tumour pituitary=tumour notumor=notumor`. Probabilities of one class are added.
    None: the classes are the bundle's."""


class Config(Settings):
    """All settings of one run."""

    recipe: Annotated[str, tyro.conf.Suppress] = "smoke"
    """Name of the recipe whose values were the defaults."""
    storage: str = "runs"
    """Folder or URI (s3://, gs://) that holds the runs."""
    name: str = "smoke"
    """Name of the run; its folder is `<storage>/<name>`. A run that is started again resumes where it
    stopped."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 123
    """Seed of all splits, shuffles, augmentations and initial weights."""
    folds: Annotated[int, Field(ge=2)] | Literal["source", "each_source"] | None = None
    """Number of folds of a cross-validation: the training and validation images are dealt to so many, by
    whole groups of patients and copies, and each is answered by a model that saw none of its group; `source`:
    the folds that the source states; `each_source`: the images of each source, so that they are answered by
    a model of the others. None: one validation split."""
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
    def _fold_of_some(self) -> Self:
        if self.train.fold is not None and self.folds is None:
            raise ValueError(
                f"train.fold is {self.train.fold}, and folds is not set: say of how many folds it is one"
            )
        if self.train.group_share < 1 and self.folds is None:
            raise ValueError(
                f"train.group_share is {self.train.group_share:g}, and folds is not set: groups are only "
                "left out in a cross-validation; set folds"
            )
        return self

    @model_validator(mode="after")
    def _sensitivities(self) -> Self:
        given, classes = len(self.export.sensitivity), len(self.data.classes)
        if given not in (1, classes):
            raise ValueError(
                f"export.sensitivity has {given} numbers for {classes} classes: expected one for all, or one "
                "for each, in the order of data.classes"
            )
        return self

    @model_validator(mode="after")
    def _mapping_alone(self) -> Self:
        if self.evaluate.mapping is not None and (self.evaluate.robustness or self.evaluate.outlines):
            raise ValueError(
                "evaluate.mapping is set, and evaluate.robustness or evaluate.outlines: leave out one, "
                "since the latter are scored by the bundle's own classes"
            )
        return self

    @model_validator(mode="after")
    def _outlines_of_phantoms(self) -> Self:
        for setting, location in (
            ("evaluate.outlines", self.evaluate.outlines),
            ("train.outlines", self.train.outlines),
        ):
            if location == PHANTOMS and self.data.source != PHANTOMS:
                raise ValueError(
                    f"{setting} is {PHANTOMS} and data.source {self.data.source}: set {setting} to a file or "
                    "folder of outlines of these images"
                )
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
        settings = {name: getattr(self.train, name) for name in ("learning_blocks", "layer_decay")}
        check_blocks(self.model.backbone, self.model.backbone_spec, settings)
        return self


def check_blocks(name: str, spec: BackboneSpec, settings: Mapping[str, Any]) -> None:
    """Refuses settings of `train` that count a backbone's blocks, for a backbone without blocks.

    Raises:
        ValueError: one of them is not None, and the backbone's row has no pattern of blocks.
    """
    for setting, value in settings.items():
        if value is not None and spec.blocks is None:
            raise ValueError(
                f"train.{setting} is {value}: the backbone {name} has no blocks to count; leave it out, for "
                "all of the backbone to learn alike"
            )
