"""What the groups of `gpu.py` share: a check, a timed step, its batch, a run's settings."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from brain_ray.config import Config, DataConfig, ModelConfig, PhantomConfig, TrainConfig


@dataclass(frozen=True)
class Check:
    """What a check found."""

    name: str
    value: float
    unit: str = ""
    expected: str = ""
    holds: bool = True
    why: str = ""


@dataclass(frozen=True)
class Step:
    """A training step that is timed: images per second that are expected, on a GPU."""

    backbone: str
    side: int
    batch: int
    xla: bool
    speed: float
    precision: str = "auto"

    @property
    def name(self) -> str:
        """Name of its check."""
        how = f"{'xla' if self.xla else 'plain'}{'' if self.precision == 'auto' else f' {self.precision}'}"
        return f"step {self.backbone} {self.side} px, {self.batch} images, {how}"


GPU_STEPS = (
    Step("EfficientNetB0", 224, 32, False, 600),
    Step("EfficientNetB0", 224, 256, False, 1500),
    Step("EfficientNetB0", 224, 256, True, 4000),
    Step("EfficientNetB0", 224, 256, True, 1000, "float32"),
    Step("EfficientNetB3", 300, 128, True, 1000),
    Step("EfficientNetB7", 600, 16, True, 60),
    Step("EfficientNetB0", 224, 512, True, 4000),
)
CPU_STEPS = (Step("tiny", 32, 8, False, 0),)


def config_of(step: Step, gpu: float, folder: str = "runs", weights: str = "none", **train: Any) -> Config:
    """Return the settings of a training; `gpu` is the GPU's speed as a share of an H100's, 0 without one."""
    return Config(
        storage=folder,
        name="gpu",
        data=DataConfig(phantoms=PhantomConfig(train_per_class=1000 if gpu else 40, test_per_class=20)),
        model=ModelConfig(backbone=step.backbone, weights=weights, height=step.side, width=step.side),
        train=TrainConfig(
            batch_size=step.batch,
            use_gpu=gpu > 0,
            xla=step.xla,
            precision=step.precision,
            dwell=False,
            **train,
        ),
    )


def learner_of(config: Config) -> Any:
    """Return what trains by these settings, in this process alone."""
    from brain_ray.training.tensorflow import devices
    from brain_ray.training.tensorflow.learner import Learner

    devices.set_up(config.train, 1)
    return Learner(config, 4, devices.make_strategy(1, use_gpu=config.train.use_gpu))


def operations_outside(learner: Any) -> int:
    """Count the operations of a training step that no program of XLA holds; each program counts as one.

    Call it after `start_epoch`. The arguments, which include the variables, are not operations.
    """
    graph = learner.train_step.get_concrete_function().graph.as_graph_def()
    functions = {each.signature.name: each.node_def for each in graph.library.function}

    def count(nodes: Any) -> int:
        found = 0
        for node in nodes:
            called = [value.func.name for value in node.attr.values() if value.func.name in functions]
            inside = not called or node.attr["_XlaMustCompile"].b
            found += node.op != "Placeholder" if inside else sum(count(functions[name]) for name in called)
        return found

    return count(graph.node)


def batch_of(step: Step) -> Any:
    """Return a batch of noise."""
    from brain_ray.loading.loader import Batch

    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (step.batch, step.side, step.side, 1), np.uint8)
    labels = rng.integers(0, 4, step.batch)
    return Batch(images, labels, np.ones(step.batch, np.float32), step.batch, step.batch)
