"""Recipes: named configurations, each a function whose docstring has its command, cost and expected score."""

from collections.abc import Callable

from brain_ray.config import (
    AugmentConfig,
    Config,
    CropConfig,
    DataConfig,
    ExportConfig,
    ModelConfig,
    PhantomConfig,
    SweepConfig,
    TrainConfig,
)


def smoke() -> Config:
    """Phantoms and a tiny network: all stages in three minutes, to check that an installation works.

    Command: python jobs/pipeline.py smoke
    Cost: 2 minutes on 2 cores, 3 GB of memory.
    Score: >= 0.95 on the 132 phantoms of its test split.
    """
    return Config(
        recipe="smoke",
        name="smoke",
        data=DataConfig(
            phantoms=PhantomConfig(
                train_per_class=180,
                test_per_class=30,
                copies=12,
                conflicts=1,
                faults=6,
                slices_per_patient=3,
                shared_patients=4,
            ),
            max_rejected=0.02,
        ),
        model=ModelConfig(backbone="tiny", weights="none", height=96, width=96, dropout=0.2, bn_momentum=0.9),
        train=TrainConfig(
            epochs=12,
            batch_size=16,
            optimizer="Adam",
            learning_rate=0.003,
            warmup_epochs=1,
            schedule="CosineDecay",
            dwell=False,
            augment=AugmentConfig(rotation=10, shift=0.05, zoom=0.1, flip=0.5),
        ),
        export=ExportConfig(max_error=0.2, sensitivity=(0.9,)),  # fifty patients in validation show no more
    )


def paper() -> Config:
    """Settings of the notebooks that this project replaces, number for number, leaks included.

    Command: python jobs/pipeline.py paper --data.source DIR --train.use-gpu True
    Cost: 214 steps of 30 an epoch, up to 40 epochs; about 115 s an epoch on one cloud GPU.
    Score: the notebooks report 0.9924 on the 1311 official test images, most of which are copies of training
    images; compare the report's score without found copies.
    """
    return Config(
        recipe="paper",
        name="paper",
        seed=123,
        data=DataConfig(
            split_by="image",
            leaks="keep",
            conflicts="keep",
            crop=CropConfig(min_share=0.0),
            balance_to=1600,
            balance=AugmentConfig(rotation=10.0, shift=0.05, flip=0.5, keep_black=False),
        ),
        model=ModelConfig(
            backbone="EfficientNetB3",
            weights="imagenet",
            height=270,
            width=230,
            fit="stretch",
            crop_size=(256, 256),
            head="seed",
            dropout=0.4,
        ),
        train=TrainConfig(
            epochs=40,
            batch_size=30,
            last_batch="keep",
            optimizer="Adamax",
            learning_rate=0.001,
            augment=AugmentConfig(flip=0.5),
            monitor="val_loss",
            dwell=True,
            dwell_factor=0.4,
            ask_epoch=None,
        ),
    )


def b0() -> Config:
    """EfficientNet-B0 at 224 px, sized for trials on a CPU; monitors cross-entropy, no penalties in the head.

    Command: python jobs/pipeline.py b0 --data.source DIR
    Cost: 7 minutes on 2 cores with 2200 training images.
    Score: 0.938 on the 3064 slices of a public set, each answered by a model that saw none of its patient,
    with weights that descend from ImageNet; docs/RESULTS.md says what this does not show.
    """
    return Config(
        recipe="b0",
        name="b0",
        model=ModelConfig(
            backbone="EfficientNetB0", height=224, width=224, head="gap", dropout=0.3, bn_momentum=0.9
        ),
        train=TrainConfig(
            epochs=6,
            batch_size=32,
            optimizer="AdamW",
            learning_rate=0.001,
            weight_decay=0.01,
            clip_norm=1.0,
            label_smoothing=0.05,
            warmup_epochs=1,
            schedule="CosineDecay",
            ema=0.995,
            dwell=False,
            augment=AugmentConfig(rotation=10, shift=0.05, zoom=0.1, brightness=0.1, contrast=0.1, flip=0.5),
        ),
        export=ExportConfig(max_error=0.1),  # the Kaggle set has 131 groups in validation, which show no less
    )


def gpu() -> Config:
    """EfficientNet-B3 at 300 px on GPUs, 64 images for each in a step: batch and rate follow their number.

    Command: python jobs/pipeline.py gpu --data.source DIR --train.num-workers 4
    Cost: not measured. B3 at 300 px needs 4.6 times as much arithmetic for an image as B0 at 224 px (Tan & Le
    2019, table 2: 1.8 and 0.39 G multiply-adds). For B0: --model.backbone EfficientNetB0 --model.height 224
    --model.width 224 --train.batch-size 128 --train.learning-rate 0.002.
    Score: not measured.
    """
    base = b0()
    larger = {"backbone": "EfficientNetB3", "height": 300, "width": 300}
    settings = {
        "use_gpu": True,
        "cpus_per_worker": 1.0,
        "scale_batch": True,
        "batch_size": 64,
        "learning_rate": 0.001,
        "warmup_epochs": 3,
        "epochs": 20,
    }
    return base.model_copy(
        update={
            "recipe": "gpu",
            "name": "gpu",
            "model": base.model.model_copy(update=larger),
            "train": base.train.model_copy(update=settings),
        }
    )


def sweep() -> Config:
    """EfficientNet B0, B3, B5 and B7 compared, each at its native size: the winner, and how certain it is.

    Command: python jobs/tune.py sweep --data.source DIR --train.use-gpu True
    Cost: up to 8 trials of up to 12 epochs on GPUs; ASHA compares after 4. B7 at 600 px needs about 95 times
    as much arithmetic for an image as B0 at 224 px (Tan & Le 2019, table 2: 37 and 0.39 G multiply-adds).
    Score: not measured.
    """
    base = b0()
    return base.model_copy(
        update={
            "recipe": "sweep",
            "name": "sweep",
            "train": base.train.model_copy(update={"epochs": 12}),
            "sweep": SweepConfig(
                space=(
                    # Smaller batches where images are large, with the rate that goes with them (its root).
                    "model.backbone train.batch_size train.learning_rate=grid("
                    "EfficientNetB0 32 0.0005, EfficientNetB3 32 0.0005, "
                    "EfficientNetB5 16 0.00035, EfficientNetB7 8 0.00025)",
                ),
                seeds=2,
            ),
        }
    )


def sweep_demo() -> Config:
    """EfficientNet-B0 against V2-B0 on phantoms, from random weights: a sweep in a few minutes.

    Command: python jobs/tune.py sweep-demo
    Cost: 4 trials; 5 minutes on 2 cores.
    Score: >= 0.8 for the winner, on validation phantoms.
    """
    base = smoke()
    return base.model_copy(
        update={
            "recipe": "sweep-demo",
            "name": "sweep-demo",
            "model": base.model.model_copy(update={"backbone": "EfficientNetB0", "height": 64, "width": 64}),
            "data": base.data.model_copy(
                update={"phantoms": base.data.phantoms.model_copy(update={"train_per_class": 300})}
            ),
            "train": base.train.model_copy(update={"epochs": 9, "learning_rate": 0.001}),
            "sweep": SweepConfig(
                space=("model.backbone=grid(EfficientNetB0, EfficientNetV2B0)",),
                native_size=False,
                seeds=2,
                grace_epochs=3,  # earlier scores of networks with random weights are noise
                reduction_factor=2,
            ),
        }
    )


RECIPES: dict[str, Callable[[], Config]] = {
    "smoke": smoke,
    "paper": paper,
    "b0": b0,
    "gpu": gpu,
    "sweep": sweep,
    "sweep-demo": sweep_demo,
}
