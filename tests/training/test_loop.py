"""The loop trains what Keras would train, keeps the best, and a resumed run is the run undisturbed."""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pyarrow import fs as pafs
from support.numpy_learner import Numpy, NumpyLearner
from support.training_problem import MakeConfig, memory_feed, quarters

from brain_ray.config import Config, TrainConfig
from brain_ray.errors import RunError
from brain_ray.loading.feed import Feed
from brain_ray.loading.loader import Batch
from brain_ray.models.network import build_network
from brain_ray.runs import RESULT, Run
from brain_ray.tracking.history import to_csv
from brain_ray.training import checkpoints
from brain_ray.training.commands import Command, ControlState
from brain_ray.training.epoch import Keeping
from brain_ray.training.framework import Framework
from brain_ray.training.loop import PollCommands, epochs
from brain_ray.training.results import summary, write_result
from brain_ray.training.schedule import FLOOR, planned_rates
from brain_ray.training.state import TrainState
from brain_ray.training.tensorflow.framework import TensorFlow
from brain_ray.training.tensorflow.learner import Learner
from brain_ray.training.tensorflow.losses import loss_function
from brain_ray.training.tensorflow.optimizer import build_optimizer

SEED_HEAD = {"head": "seed", "dropout": 0.0}
FROZEN = {"frozen_epochs": 2, "epochs": 0, "cache_features": False}


def run(
    config: Config,
    state: TrainState | None = None,
    feed: Feed | None = None,
    poll_commands: PollCommands = lambda _: (),
    framework: Framework | None = None,
    keeping: Keeping = Keeping(),
) -> tuple[list[TrainState], list[str]]:
    """Train from arrays in memory, by TensorFlow if nothing is said; returns each epoch's state and line."""
    framework = framework or TensorFlow()
    learner = framework.make_learner(config, 4, 0, 1, np.ones(4, np.float32))
    feed = feed or memory_feed(config)
    finished = list(epochs(config, learner, feed, state, poll_commands, keeping=keeping))
    return [epoch.state for epoch in finished], [epoch.line for epoch in finished]


def make_learner(config: Config) -> Learner:
    learner = TensorFlow().make_learner(config, 4, 0, 1, np.ones(4, np.float32))
    learner.start_epoch(0)
    return learner


def make_batch(num: int = 8, seed: int = 0) -> Batch:
    images, labels = quarters(num, seed)
    return Batch(images, labels, np.ones(num, np.float32), num)


def test_it_learns(make_config: MakeConfig) -> None:
    states, lines = run(make_config(epochs=6))
    history = states[-1].history
    assert history[-1].loss < 0.5 * history[0].loss
    assert history[-1].val_accuracy > 0.9
    assert [line[:9] for line in lines] == [f"epoch {i}/6" for i in range(1, 7)]
    assert len({line.index("| rate") for line in lines}) == 1


def test_a_step_is_the_step_of_keras(make_config: MakeConfig) -> None:
    import keras

    config = make_config(SEED_HEAD, optimizer="SGD", label_smoothing=0.1, clip_norm=0.5)
    learner = make_learner(config)
    twin = build_network(config.model, 4, config.seed)  # of Keras' own layers
    twin.set_weights(learner.weights())
    twin.compile(
        keras.optimizers.SGD(0.05, global_clipnorm=0.5),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        jit_compile=False,
    )
    for seed in range(3):
        batch = make_batch(seed=seed)
        sums = learner.sum(learner.train(batch, 0.05))
        loss = twin.train_on_batch(batch.inputs.astype(np.float32), np.eye(4)[batch.labels])
        assert sums[0] / sums[3] == pytest.approx(float(loss), rel=1e-4)
    for ours, theirs in zip(learner.weights(), twin.get_weights(), strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_validation_is_that_of_keras_on_every_row(make_config: MakeConfig) -> None:
    config = make_config(SEED_HEAD, label_smoothing=0.2, epochs=1)
    states, _ = run(config)
    record = states[-1].history[-1]
    learner = make_learner(config)
    learner.restore(states[-1].best, reset=False)
    learner.model.compile(
        loss="categorical_crossentropy", metrics=["categorical_crossentropy", "accuracy"], jit_compile=False
    )
    images, labels = quarters(13, 1)
    scores = learner.model.evaluate(
        images.astype(np.float32), np.eye(4)[labels], batch_size=8, verbose=0, return_dict=True
    )
    assert record.val_loss == pytest.approx(scores["loss"], rel=1e-5)
    assert record.val_cross_entropy == pytest.approx(scores["categorical_crossentropy"], rel=1e-5)
    assert record.val_accuracy == pytest.approx(scores["accuracy"])
    assert record.val_loss > record.val_cross_entropy + 1  # the head's penalties, which only one includes


def test_rows_of_weight_0_do_not_count(make_config: MakeConfig) -> None:
    learner = make_learner(make_config(SEED_HEAD))
    batch = make_batch()
    none = Batch(batch.inputs[:1], batch.labels[:1], np.zeros(1, np.float32), 8)
    assert_array_equal(learner.sum(learner.validate(none)[0]), np.zeros(4))


def test_smoothed_labels_are_for_training_alone(make_config: MakeConfig) -> None:
    # Frozen, so that training and validation compute the same.
    learner = make_learner(make_config({"dropout": 0.0}, label_smoothing=0.3, **FROZEN))
    batch = make_batch()
    probabilities = np.asarray(learner.model(batch.inputs.astype(np.float32)))
    logs = -np.log(probabilities)
    plain = logs[np.arange(8), batch.labels].sum()
    validated = learner.sum(learner.validate(batch)[0])
    trained = learner.sum(learner.train(batch, 0.0))
    assert_allclose(validated[:2], [plain, plain], rtol=1e-5)
    assert_allclose(trained[:2], [0.7 * plain + 0.3 * logs.mean(axis=1).sum(), plain], rtol=1e-5)


def backbone_of(state: TrainState, config: Config) -> list[Any]:
    model = make_learner(config).model
    inside = [
        any(weight is other for other in model.get_layer("backbone").weights) for weight in model.weights
    ]
    return [array for array, yes in zip(state.learner["weights"], inside, strict=True) if yes]


def test_a_frozen_backbone_stays_as_it_was(make_config: MakeConfig) -> None:
    config = make_config(**FROZEN)
    states, _ = run(config)
    model = make_learner(config).model
    start = [np.asarray(weight) for weight in model.get_layer("backbone").weights]
    for before, after in zip(start, backbone_of(states[-1], config), strict=True):
        assert_array_equal(before, after)
    head = np.asarray(model.weights[-2]), states[-1].learner["weights"][-2]
    assert np.abs(head[0] - head[1]).max() > 1e-3, "the head learned nothing"


def test_a_staged_run_trains_the_head_and_then_everything(make_config: MakeConfig) -> None:
    config = make_config(
        epochs=1,
        frozen_epochs=2,
        cache_features=False,
        frozen_learning_rate=3e-3,
        learning_rate=3e-4,
        dwell=False,
    )
    states, _ = run(config)
    first, second, third = (backbone_of(state, config) for state in states)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(second, third, strict=True))
    assert [record.learning_rate for record in states[-1].history] == pytest.approx([3e-3, 3e-3, 3e-4])


def test_the_moving_average_is_one_and_is_what_is_kept(make_config: MakeConfig) -> None:
    learner = make_learner(make_config(ema=0.6))
    average = learner.weights()
    for step in range(1, 9):
        learner.train(make_batch(seed=step), 0.01)
        momentum = min(0.6, (1 + step) / (10 + step))
        pairs = zip(average, learner.weights(), strict=True)
        average = [momentum * old + (1 - momentum) * new for old, new in pairs]
    raw = learner.weights()
    with learner.averaged():
        for ours, expected in zip(learner.weights(), average, strict=True):
            assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
    for now, before in zip(learner.weights(), raw, strict=True):
        assert_array_equal(now, before)
    assert any(not np.allclose(a, b) for a, b in zip(raw, average, strict=True))


def test_the_last_epoch_is_kept_if_it_is_to_be(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(epochs=3, dwell=False, keep_epoch="last", ask_epoch=1)
    feed = memory_feed(config)
    contrary = replace(make_batch(), labels=(make_batch().labels + 1) % 4)
    states, _ = run(config, feed=replace(feed, valid=lambda _: iter([contrary])))
    assert len(states) == 3, "ask_epoch never asks"
    losses = [record.val_cross_entropy for record in states[-1].history]
    assert losses[-1] > min(losses), "else the best epoch would be kept as well"
    for kept, reached in zip(states[-1].best, states[-1].learner["weights"], strict=True):
        assert_array_equal(kept, reached)
    target = Run(str(tmp_path), "last")
    write_result(target, config, states[-1])
    assert target.read_json(*RESULT)["value"] == losses[-1]
    assert summary(target).startswith("last epoch 3 of 3: val_cross_entropy")


def test_the_last_epoch_cannot_be_kept_where_training_goes_back(make_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match="keep_epoch is last and dwell is True"):
        make_config(keep_epoch="last")


@pytest.mark.parametrize("cut", [1, 2])
def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(
    cut: int, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        {"head": "seed", "dropout": 0.4},
        epochs=3,
        frozen_epochs=1,
        cache_features=False,
        ema=0.9,
        schedule="CosineDecay",
        warmup_epochs=1.5,
        label_smoothing=0.1,
    )
    undisturbed, _ = run(config)
    checkpoints.write(tmp_path, undisturbed[cut - 1])
    state = checkpoints.read(pafs.LocalFileSystem(), str(tmp_path))
    resumed, _ = run(config, state)
    assert len(resumed) == 4 - cut
    for a, b in zip(undisturbed[-1].history, resumed[-1].history, strict=True):
        assert (a.epoch, a.best, a.rolled_back) == (b.epoch, b.best, b.rolled_back)
        assert_allclose([a.loss, a.val_loss], [b.loss, b.val_loss], rtol=1e-5)
    assert undisturbed[-1].dwell.best_epoch == resumed[-1].dwell.best_epoch
    ours = [*undisturbed[-1].best, *undisturbed[-1].learner["weights"], *undisturbed[-1].learner["optimizer"]]
    theirs = [*resumed[-1].best, *resumed[-1].learner["weights"], *resumed[-1].learner["optimizer"]]
    for a, b in zip(ours, theirs, strict=True):
        assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("framework", [Numpy(), TensorFlow()], ids=["numpy", "tensorflow"])
def test_a_run_goes_on_within_an_epoch_as_if_it_had_never_stopped(
    framework: Framework, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        {"head": "seed", "dropout": 0.4},
        epochs=2,
        batch_size=2,  # 22 steps of 44 rows
        frozen_epochs=1,
        cache_features=False,
        ema=0.9,
        mixup=0.4,
        schedule="CosineDecay",
        checkpoint_minutes=1e-9,
    )
    kept: list[TrainState] = []
    undisturbed, _ = run(config, framework=framework, keeping=Keeping(kept.append))
    assert [(one.epoch, one.begun.steps) for one in kept if one.begun] == [(0, 20), (1, 20), (2, 20)]
    for state in kept:
        checkpoints.write(tmp_path, state)
        read = checkpoints.read(pafs.LocalFileSystem(), str(tmp_path))
        assert read.begun == state.begun
        resumed, _ = run(config, read, framework=framework)
        assert len(resumed) == 3 - state.epoch
        for a, b in zip(undisturbed[-1].history, resumed[-1].history, strict=True):
            now, then = (replace(one, seconds=0, images_per_second=0, input_wait=0) for one in (a, b))
            assert now == then
        assert undisturbed[-1].learner.keys() == resumed[-1].learner.keys()
        for name, arrays in undisturbed[-1].learner.items():
            for a, b in zip(arrays, resumed[-1].learner[name], strict=True):
                assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("minutes", [None, 10.0])
def test_short_epochs_are_kept_at_their_ends_alone(minutes: float | None, make_config: MakeConfig) -> None:
    kept: list[TrainState] = []
    config = make_config(epochs=2, batch_size=1, checkpoint_minutes=minutes)
    run(config, framework=Numpy(), keeping=Keeping(kept.append))
    assert not kept


def test_the_state_is_kept_when_a_machine_is_about_to_go(make_config: MakeConfig) -> None:
    """Asked for after 5 s, at the next of the steps at which workers agree; of some slow steps."""
    kept: list[TrainState] = []
    framework = Numpy(lambda _, epoch, step: time.sleep(5.2 if (epoch, step) == (1, 25) else 0))
    config = make_config(epochs=3, batch_size=1, checkpoint_minutes=None)
    run(config, framework=framework, keeping=Keeping(kept.append, lambda: True))
    assert [(one.epoch, one.begun.steps) for one in kept if one.begun] == [(1, 40)]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_rolling_back_restores_the_best_weights_and_lowers_the_rate(
    ema: float | None, make_config: MakeConfig
) -> None:
    config = make_config(epochs=5, learning_rate=0.01, ema=ema)
    feed = memory_feed(config)

    def mislabelled(epoch: int, first: int) -> Iterable[Batch]:
        for batch in feed.train(epoch, first):
            yield replace(batch, labels=(batch.labels + 1) % 4) if epoch > 1 else batch

    states, lines = run(config, feed=replace(feed, train=mislabelled))
    assert [state.history[-1].rolled_back for state in states] == [False, False, True, True, True]
    assert all("back to epoch 2" in line for line in lines[2:])
    for state in states[2:]:
        assert all(map(np.array_equal, state.best, states[1].best))
        assert all(map(np.array_equal, state.learner["weights"], state.best))
    assert states[-1].dwell.rate_scale == pytest.approx(0.4**3)
    assert [record.learning_rate for record in states[-1].history] == pytest.approx(
        [0.01, 0.01, 0.01, 0.004, 0.0016]
    )
    if ema is None:
        impatient = config.model_copy(update={"train": config.train.model_copy(update={"ask_epoch": 2})})
        states, lines = run(impatient, feed=replace(feed, train=mislabelled))
        assert len(states) == 4
        assert lines[-1].endswith("back to epoch 2, ends: no improvement since epoch 2")


def test_an_operator_extends_slows_and_halts_a_run_that_can_be_cut_anywhere(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(epochs=2, schedule="CosineDecay", dwell=False)
    words = [Command("1", "extend", 3), Command("3", "rate", 0.001), Command("4", "halt")]

    def poll_commands(control: ControlState) -> list[Command]:
        """Say each word at the end of the epoch that it is named by; those that come too late, never."""
        nonlocal ended
        ended += 1
        return [word for word in words if control.heard < word.at <= str(ended)]

    ended = 0
    undisturbed, lines = run(config, poll_commands=poll_commands, framework=Numpy())
    rates = [record.learning_rate for record in undisturbed[-1].history]
    # The plan's last step is above one per cent of the rate here; the word is heard after the third epoch.
    assert rates[2:] == [rates[1], 0.001]
    assert undisturbed[0].history[0].operator == "extend 3 (1)"
    assert "epoch 1/5" in lines[0]
    assert lines[-1].endswith("operator: halt")
    assert len(undisturbed) == 4
    checkpoints.write(tmp_path, undisturbed[1])
    ended = 2
    resumed, _ = run(
        config,
        checkpoints.read(pafs.LocalFileSystem(), str(tmp_path)),
        poll_commands=poll_commands,
        framework=Numpy(),
    )
    assert resumed[-1].control == undisturbed[-1].control
    assert [record.learning_rate for record in resumed[-1].history] == rates
    assert (
        run(config, resumed[-1], framework=Numpy())[0] == []
    )  # halted, it does not go on when started again


def test_waiting_for_batches_is_measured(make_config: MakeConfig) -> None:
    config = make_config(epochs=1)
    feed = memory_feed(config)

    def slow(epoch: int, first: int) -> Iterable[Batch]:
        for batch in feed.train(epoch, first):
            time.sleep(0.05)
            yield batch

    states, _ = run(config, feed=replace(feed, train=slow), framework=Numpy())
    record = states[-1].history[-1]
    assert 6 * 0.05 <= record.input_wait < record.seconds


def test_a_run_that_diverges_ends_with_the_weights_it_started_with(make_config: MakeConfig) -> None:
    config = make_config(epochs=9, learning_rate=1e38, dwell_factor=0.9, dwell=False)
    states, lines = run(config)
    assert len(states) == 3
    assert "ends" in lines[-1]
    assert states[-1].dwell.best_epoch == 0
    assert all(np.isfinite(array).all() for group in states[-1].learner.values() for array in group)
    for now, start in zip(states[-1].best, make_learner(config).weights(), strict=True):
        assert_array_equal(now, start)
    assert all(np.isfinite(list(state.history[-1].metrics().values())).all() for state in states)
    assert run(config, states[-1])[0] == []  # nor does it go on when started again


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1, 1, 1, 1, 1, 1, 1, 1]),
        ({"warmup_epochs": 1.5}, [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "CosineDecay"}, [(1 + np.cos(np.pi * i / 8)) / 2 for i in range(8)]),
        ({"schedule": "PolynomialDecay"}, [1 - 0.99 * i / 8 for i in range(8)]),
        ({"schedule": "ExponentialDecay"}, [0.01 ** (i / 8) for i in range(8)]),
    ],
)
def test_rates_are_planned_step_by_step(settings: dict[str, Any], expected: list[float]) -> None:
    config = TrainConfig(epochs=4, learning_rate=0.5, **settings)
    assert_allclose(planned_rates(config, 2), 0.5 * np.array(expected), rtol=1e-5)
    staged = TrainConfig(frozen_epochs=4, frozen_learning_rate=2.0, epochs=4, learning_rate=0.5, **settings)
    assert_allclose(
        planned_rates(staged, 2), [*(2.0 * np.array(expected)), *(0.5 * np.array(expected))], rtol=1e-5
    )


def test_batch_and_rates_follow_the_largest_number_of_workers() -> None:
    alone = TrainConfig(epochs=4, frozen_epochs=2, warmup_epochs=1, schedule="CosineDecay", batch_size=7)
    shared = alone.model_copy(update={"num_workers": (2, 5), "scale_batch": True})
    assert (alone.step_images, shared.step_images) == (7, 35)
    assert_allclose(planned_rates(shared, 3), 5 * planned_rates(alone, 3))


@pytest.mark.parametrize("name", ["CosineDecay", "PolynomialDecay", "ExponentialDecay"])
def test_schedules_are_those_of_keras(name: str) -> None:
    from keras.optimizers import schedules

    ends = {
        "CosineDecay": {},
        "PolynomialDecay": {"end_learning_rate": FLOOR},
        "ExponentialDecay": {"decay_rate": FLOOR},
    }
    schedule = getattr(schedules, name)(1.0, 12, **ends[name])
    expected = schedule(np.arange(12, dtype=np.float32))
    assert_allclose(
        planned_rates(TrainConfig(epochs=4, learning_rate=1.0, schedule=name), 3), expected, rtol=1e-5
    )


def test_names_that_keras_does_not_know_are_refused() -> None:
    with pytest.raises(RunError, match=r"train\.loss is 'croos'"):
        loss_function("croos")
    with pytest.raises(RunError, match=r"train\.optimizer is 'Adamaz'"):
        build_optimizer(TrainConfig(optimizer="Adamaz"))
    with pytest.raises(RunError, match=r"train\.schedule is 'Cosine'"):
        planned_rates(TrainConfig(schedule="Cosine"), 1)


def test_a_loss_may_be_named_as_a_class_or_as_a_function() -> None:
    targets, probabilities = np.eye(4, dtype=np.float32)[:2], np.full((2, 4), 0.25, np.float32)
    for name in ("categorical_crossentropy", "CategoricalCrossentropy"):
        assert_allclose(loss_function(name)(targets, probabilities), [np.log(4)] * 2, rtol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adamax", "Nadam", "RMSprop", "Lion"])
def test_optimizers_take_the_settings(name: str) -> None:
    plain = build_optimizer(TrainConfig(optimizer=name))
    assert not plain.weight_decay
    decayed = build_optimizer(TrainConfig(optimizer=name, weight_decay=0.05, clip_norm=2.0))
    assert (decayed.weight_decay, decayed.global_clipnorm) == (0.05, 2.0)


def test_history_csv_has_a_row_for_each_epoch(make_config: MakeConfig) -> None:
    states, _ = run(make_config(epochs=2), framework=Numpy())
    header, *rows = to_csv(states[-1].history).decode().splitlines()
    assert header.startswith("epoch,loss,accuracy,val_loss,val_cross_entropy,val_accuracy,learning_rate,best")
    assert [row.split(",")[0] for row in rows] == ["1", "2"]
    assert rows[0].split(",")[7] == "1"


def test_every_step_takes_the_rate_of_warm_up_and_cosine_together(make_config: MakeConfig) -> None:
    rates: list[float] = []

    class Noting(NumpyLearner):
        def train(self, batch: Batch, rate: float) -> Any:
            rates.append(rate)
            return super().train(batch, rate)

    config = make_config(
        epochs=3, learning_rate=0.01, warmup_epochs=1.5, schedule="CosineDecay", dwell=False, ask_epoch=None
    )
    list(epochs(config, Noting(config, 4), memory_feed(config)))
    steps = np.arange(18)
    cosine = (1 + np.cos(np.pi * steps / 18)) / 2
    assert_allclose(rates, 0.01 * np.minimum(1, (steps + 1) / 9) * cosine, rtol=1e-5)
