"""Settings of a training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from brain_ray.config.base import Fraction, Positive, Settings
from brain_ray.config.data import AugmentConfig

Phase = Literal["frozen_features", "frozen", "finetune"]
"""The head on cached features of the frozen backbone, the head on images, or the network."""


class TrainConfig(Settings):
    """The training run."""

    num_workers: Positive | tuple[Positive, Positive] = 1
    """Worker processes that share each batch. Two numbers, the fewest and the most: as many as there is room
    for, fewer after a node is lost, more when one comes."""
    use_gpu: bool = False
    """One GPU for each worker."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 0.5
    """CPUs reserved for each worker; leave one for loading. By default two workers share two cores."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    """What the network computes in; its weights are float32. `auto`: what suits the GPU; float32 on CPUs."""
    xla: bool = False
    """Compile the training step with XLA on GPUs; on CPUs it would be many times slower, and is not."""
    frozen_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs at the start that train the head alone, on a backbone that stays as it is."""
    frozen_learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """`learning_rate` of the frozen epochs, over which the schedule runs as well."""
    cache_features: bool = True
    """Frozen epochs train on the backbone's features of the prepared rows, computed once; if not, the
    backbone runs in each of them, on rows changed as `augment` says."""
    epochs: Annotated[int, Field(ge=0)] = 10
    """Epochs after the frozen ones, at most; 0: the head is all that learns."""
    learning_blocks: Positive | None = None
    """The backbone's last blocks that learn in these; None: all of it."""
    batch_size: Positive = 32
    """Images per step, over all workers together."""
    loss: str = "categorical_crossentropy"
    """Keras name of a loss over one-hot labels and probabilities."""
    label_smoothing: Fraction = 0.0
    """Share of each training label that is spread over all classes."""
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = "none"
    """What a training row's loss is multiplied by, for each class; `balanced`: inverse to its rows."""
    optimizer: str = "Adamax"
    """Keras name of the optimizer."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Rate at the start of the schedule, which the warm-up multiplies."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of the optimizer; 0: none."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global norm of the gradients; None: not clipped."""
    schedule: str = "constant"
    """`constant`, or the Keras name of a schedule, which runs over all steps: CosineDecay, PolynomialDecay,
    ExponentialDecay."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs over which the rate rises from 0, at the start and again after the frozen epochs."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum of a moving average of the weights, which is then validated and kept; None: no average."""
    augment: AugmentConfig = AugmentConfig(flip=0.5)
    """Ranges drawn anew for each training row in each epoch."""
    shuffle_window: Positive = 65_536
    """Rows that are shuffled among each other; a larger data set is also shuffled by whole files."""
    monitor: Literal["val_cross_entropy", "val_loss"] = "val_cross_entropy"
    """What chooses the best epoch; `val_loss` is Keras', the head's penalties included."""
    dwell: bool = True
    """After an epoch without improvement: back to the best weights, with the rate times `dwell_factor`."""
    dwell_factor: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """What `dwell` multiplies the rate by."""
    ask_epoch: Positive | None = 10
    """Epochs without improvement that end the run, unless its operator says otherwise (`jobs/control.py`);
    None: never. Frozen epochs do not count."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """How often a run goes on from its newest checkpoint after workers were lost."""
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    """Newest checkpoints that are kept; two, so that one cut short leaves one to go on from."""
    mlflow_uri: str = "auto"
    """Where MLflow (the extra `mlflow`) keeps this run: a server's URI or a folder; `none`: nowhere; `auto`:
    where MLflow is installed, in the folder `mlruns` beside the run, if that is on a disk."""

    @property
    def total_epochs(self) -> int:
        """Frozen epochs and those after them."""
        return self.frozen_epochs + self.epochs

    def phase(self, epoch: int) -> Phase:
        """What learns in an epoch, counted from 0, and on what."""
        if epoch >= self.frozen_epochs and self.epochs:
            return "finetune"
        return "frozen_features" if self.cache_features else "frozen"

    @property
    def elastic(self) -> bool:
        """Whether the number of workers follows the room that there is."""
        return isinstance(self.num_workers, tuple)

    @property
    def min_workers(self) -> int:
        """The fewest workers that train."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def max_workers(self) -> int:
        """The most workers that train."""
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers

    @model_validator(mode="after")
    def _fewest_first(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"num_workers is {self.min_workers} {self.max_workers}: expected the fewest, then the most"
            )
        return self

    @model_validator(mode="after")
    def _some_epochs(self) -> Self:
        if not self.total_epochs:
            raise ValueError("frozen_epochs and epochs are both 0: expected one epoch or more in all")
        return self
