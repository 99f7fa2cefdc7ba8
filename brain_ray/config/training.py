"""Settings of `train`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from brain_ray.config.augmentation import AugmentConfig
from brain_ray.config.base import Fraction, Positive, Settings, Share

Phase = Literal["frozen_features", "frozen", "finetune"]
"""What an epoch trains: the head on cached features of the frozen backbone, the head on images, or the
network."""


class TrainConfig(Settings):
    """Training of the network."""

    num_workers: Positive | tuple[Positive, Positive] = 1
    """Number of worker processes, which share each batch. Two numbers, the fewest and the most, make it
    elastic: as many as there is room for, fewer after a node is lost, more when one is added. The number
    may change the result: batch norms that learn, and dropout, see each worker's own rows."""
    use_gpu: bool = False
    """Whether each worker gets one GPU; if False, training uses CPUs."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 0.5
    """CPUs reserved for each worker; leave one for loading. With the default, 0.5, two workers run on two
    cores."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """Fold, of `folds`, whose images the training leaves out and only answers. Of the others' groups, the
    share `data.valid_fraction` chooses the epoch (see `keep_epoch`). None: it trains on the train split."""
    group_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training groups (of patients and copies) of each class that are learned from, with
    `folds`. A smaller share is part of a larger one, so that a sweep over it gives a learning curve."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    """Data type in which the network computes; its weights are float32. `auto`: chosen by the GPU's compute
    capability; float32 on CPUs."""
    xla: bool | Literal["auto"] = "auto"
    """Whether the training step is compiled with XLA. `auto`: on GPUs, where its speed was not measured, and
    not on CPUs, where it is many times slower. True means the same; False: never. It compiles one size of
    batches: an epoch's smaller ones are filled up by some of their own rows, which weigh nothing."""
    frozen_epochs: Annotated[int, Field(ge=0)] = 0
    """Number of epochs at the start that train only the head, with the backbone frozen; 0: none."""
    frozen_learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Learning rate at the start of the frozen epochs, which have a run of the schedule of their own."""
    cache_features: bool = True
    """Whether frozen epochs train on features that the backbone computes once, without augmentation. If
    False, the backbone runs in each frozen epoch, on augmented rows."""
    epochs: Annotated[int, Field(ge=0)] = 10
    """Largest number of epochs after the frozen ones; 0: only the head is trained."""
    learning_blocks: Positive | None = None
    """Number of the backbone's last blocks that are trained after the frozen epochs; None: the whole
    backbone."""
    batch_size: Positive = 32
    """Number of images per step, all workers together; but see `scale_batch`."""
    scale_batch: bool = False
    """Whether `batch_size` and the learning rates are those of one worker. With N workers, the largest number
    of an elastic group, a step has N times the images at N times the rate (Goyal et al. 2017,
    arxiv.org/abs/1706.02677, who warm up for five epochs)."""
    last_batch: Literal["spread", "keep"] = "spread"
    """What happens to the rows that are left over after an epoch's full batches: `spread` over all of its
    batches, whose sizes then differ by one row at most; `keep` a last batch of these rows alone, each of
    which counts as much more as the batch is smaller. The number of steps is the same."""
    loss: str = "categorical_crossentropy"
    """Keras name of the loss, which takes one-hot labels and probabilities and gives one loss for each
    row."""
    label_smoothing: Fraction = 0.0
    """Share of each training label that is spread over all classes; 0: no smoothing."""
    mixup: Annotated[float, Field(gt=0)] | None = None
    """Alpha of mixup (Zhang et al. 2018, arxiv.org/abs/1710.09412): each row of a step is mixed with another
    one of the same worker, labels too, by a share drawn from Beta(alpha, alpha) for the step; the row itself
    has the larger share. Training accuracy is then that of mixed images. The number of workers changes the
    result. None: not mixed."""
    cutmix: Annotated[float, Field(gt=0)] | None = None
    """Alpha of CutMix (Yun et al. 2019, arxiv.org/abs/1905.04899): each row of a step gets a box of another
    one of the same worker pasted in, drawn for the step; its label is mixed by the areas, of which the box's
    is drawn from Beta(alpha, alpha) and may be most of the image. Training accuracy is then that of mixed
    images. Cached features are not mixed. The number of workers changes the result. None: no box."""
    histogram_matching: Share = 0.0
    """Probability that an image takes the grey levels of another one of its step (histogram matching), so
    that both heads have the same quantiles: an image of one source can have the contrast of another. Of the
    same worker, so that the number of workers changes the result."""
    outlines: str | None = None
    """Path or URI of outlines of tumours, in the forms of `evaluate.outlines`, or `phantoms`. Of images that
    have one, the network then also learns, at each place of its last map, whether a tumour of the image's
    class is there. The exported network is the same as without. None: it learns the classes alone."""
    outline_weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the loss of that, a mean over places, beside the loss of the classes; 0: the outlines are not
    used."""
    rows_per_group: Positive | None = None
    """Most rows of a group (a patient, or the copies of a slice) that an epoch visits, drawn anew for each
    epoch; None: all. Patients with many slices count less, and epochs are shorter."""
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = "none"
    """Factor of the training loss for each class; `balanced`: inverse to the class's number of rows; `none`:
    1."""
    optimizer: str = "Adamax"
    """Keras name of the optimizer."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Learning rate at the start of the schedule; the warm-up multiplies it."""
    layer_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Factor of the learning rate from each block of the backbone to the one before it: the head has the
    whole rate, the last block this share of it (layer-wise rates; Clark et al. 2020,
    arxiv.org/abs/2003.10555). None: one rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of the optimizer; 0: none."""
    decayed_weights: Literal["kernels", "all"] = "kernels"
    """What `weight_decay` applies to: `kernels`, weights of two dimensions or more; `all`: biases and the
    gammas and betas of norms too."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global norm of the gradients, above which they are clipped; None: not clipped."""
    schedule: str = "constant"
    """Learning rate schedule: `constant`, or a schedule by its Keras name, which runs over all steps
    (CosineDecay, PolynomialDecay, ExponentialDecay)."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Number of epochs in which the learning rate rises from 0, at the start and again after the frozen
    epochs."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum of an exponential moving average of the weights. The average is what is validated and saved;
    None: no average."""
    augment: AugmentConfig = AugmentConfig(flip=0.5)
    """Ranges of the augmentations, drawn anew for each training row in each epoch."""
    shuffle_window: Positive = 65_536
    """Number of rows that are shuffled together; a larger data set is also shuffled by whole files."""
    shuffle_window_mb: Positive = 1_000
    """Size of these rows together, in MB: if rows are large, there are fewer of them. Every node that loads
    holds rows of up to twice this size in its object store, and reads no file again while they fit."""
    monitor: Literal["val_cross_entropy", "val_loss"] = "val_cross_entropy"
    """Metric that chooses the best epoch; `val_loss` is Keras' loss, including the head's penalties."""
    keep_epoch: Literal["best", "last"] = "best"
    """Which epoch's weights a training gives: those of the lowest `monitor`, or of the last epoch with a
    finite loss. With `last`, few validation images do (`data.valid_fraction`), and the others are learned
    from; it needs `dwell` False, and `ask_epoch` never asks."""
    dwell: bool = True
    """Whether an epoch without improvement is followed by a return to the best weights and a learning rate
    multiplied by `dwell_factor`."""
    dwell_factor: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Factor by which `dwell` multiplies the learning rate, between 0 and 1."""
    ask_epoch: Positive | None = 10
    """Number of epochs without improvement after which training ends; `jobs/control.py` can change it while
    it runs. None: never. Frozen epochs do not count."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """How many times training, or each trial of a sweep, resumes from its newest checkpoint after workers
    were lost."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] | None = 10.0
    """Minutes of training within an epoch after which a checkpoint is written there too, so that no more is
    lost with a worker; looked at every 20 steps. None: after each epoch only."""
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    """Number of newest checkpoints that are kept; at least 2, so that one is left if the newest is
    incomplete."""
    mlflow_uri: str = "auto"
    """Where MLflow (the extra `mlflow`) records this run: a server's URI or a folder. `none`: not recorded.
    `auto`: in the folder `mlruns` beside the run, if MLflow is installed and the run is on a disk."""

    @property
    def learns_outlines(self) -> bool:
        """Whether the network learns from outlines too."""
        return self.outlines is not None and self.outline_weight > 0

    @property
    def total_epochs(self) -> int:
        """Number of frozen epochs plus those after them."""
        return self.frozen_epochs + self.epochs

    @property
    def batch_factor(self) -> int:
        """What `batch_size` and the learning rates are multiplied by: see `scale_batch`."""
        return self.max_workers if self.scale_batch else 1

    @property
    def step_images(self) -> int:
        """Number of images per step, all workers together."""
        return self.batch_size * self.batch_factor

    def phase(self, epoch: int) -> Phase:
        """Returns what an epoch, counted from 0, trains."""
        if epoch >= self.frozen_epochs and self.epochs:
            return "finetune"
        return "frozen_features" if self.cache_features else "frozen"

    @property
    def elastic(self) -> bool:
        """Whether the number of workers may change during training."""
        return isinstance(self.num_workers, tuple)

    @property
    def min_workers(self) -> int:
        """Smallest number of workers."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def max_workers(self) -> int:
        """Largest number of workers."""
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers

    @model_validator(mode="after")
    def _fewest_first(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"num_workers is {self.min_workers} {self.max_workers}: expected the fewest, then the most"
            )
        return self

    @model_validator(mode="after")
    def _one_mixture(self) -> Self:
        if self.mixup and self.cutmix:
            raise ValueError(
                f"mixup is {self.mixup:g} and cutmix is {self.cutmix:g}: expected one of them, the other none"
            )
        return self

    @model_validator(mode="after")
    def _last_without_dwell(self) -> Self:
        if self.keep_epoch == "last" and self.dwell:
            raise ValueError(
                "keep_epoch is last and dwell is True, which goes back to the best: set dwell False"
            )
        return self

    @model_validator(mode="after")
    def _some_epochs(self) -> Self:
        if not self.total_epochs:
            raise ValueError("frozen_epochs and epochs are both 0: expected one epoch or more in all")
        return self
