"""A search space is read, refused with words that help, and gives the same variants each time."""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.trial_records import sweep_config

from brain_ray import recipes
from brain_ray.config import BACKBONES, Config
from brain_ray.errors import RunError
from brain_ray.tuning.search_space import Range, SearchSpace, parse_range
from brain_ray.tuning.trials import Trial, models_of

RATE = "train.learning_rate"
BOTH_BACKBONES = "model.backbone=grid(EfficientNetB0, EfficientNetB3)"


def trials_of(config: Config) -> list[Trial]:
    space = SearchSpace.parse(config)
    return [
        trial
        for variant, changes in enumerate(space.variants())
        for trial in space.make_trials(variant, changes)
    ]


def variants(config: Config) -> list[dict[str, Any]]:
    return list(SearchSpace.parse(config).variants())


def count(config: Config) -> int:
    return SearchSpace.parse(config).size


# --- reading


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("a.b=grid(x, y)", Range(("a.b",), "grid", (("x",), ("y",)))),
        ("a.b=grid(x)", Range(("a.b",), "grid", (("x",),))),
        ("a.b=choice(1,2.5)", Range(("a.b",), "choice", (("1",), ("2.5",)))),
        ("a.b=uniform(-1, 2)", Range(("a.b",), "uniform", (), -1.0, 2.0)),
        ("a.b=loguniform(1e-4, 1e-2)", Range(("a.b",), "loguniform", (), 1e-4, 1e-2)),
        ("  a.b =  grid( x ,y ) ", Range(("a.b",), "grid", (("x",), ("y",)))),
        ("a.b c.d=grid(x 1, y 2)", Range(("a.b", "c.d"), "grid", (("x", "1"), ("y", "2")))),
        ("a=grid(s3://b/c_(1).h5)", Range(("a",), "grid", (("s3://b/c_(1).h5",),))),
    ],
)
def test_entries_are_read(entry: str, expected: Range) -> None:
    assert parse_range(entry) == expected


def test_the_key_of_a_range_is_its_names() -> None:
    assert parse_range("a.b   c.d=grid(x 1)").key == "a.b c.d"


@pytest.mark.parametrize("entry", ["", "a.b", "a.b=", "a.b=3", "a.b=grid", "a.b=normal(0, 1)", "=grid(1, 2)"])
def test_what_is_no_entry_is_refused_with_what_is_one(entry: str) -> None:
    with pytest.raises(RunError, match="expected NAME=RANGE") as error:
        parse_range(entry)
    assert repr(entry) in str(error.value)
    assert "loguniform(low, high)" in str(error.value)


@pytest.mark.parametrize(
    ("entry", "found", "number"),
    [
        ("a=grid(x y, z)", "'x y' for 'a'", 1),
        ("a b=grid(x 1, y)", "'y' for 'a b'", 2),
        ("a=grid()", "'' for 'a'", 1),
        ("a=choice(x,)", "'' for 'a'", 1),
    ],
)
def test_a_value_with_too_many_or_too_few_words_is_refused(entry: str, found: str, number: int) -> None:
    with pytest.raises(RunError) as error:
        parse_range(entry)
    assert found in str(error.value)
    assert f"expected {number} word(s), and a comma" in str(error.value)


@pytest.mark.parametrize("kind", ["uniform", "loguniform"])
@pytest.mark.parametrize(
    "inside",
    [*("", "1", "1, 2, 3", "2, 1", "1, 1", "a, b", "1 2, 3"), *("nan, 1", "0.1, nan", "0.1, inf")],
)
def test_a_range_that_is_none_is_refused(kind: str, inside: str) -> None:
    with pytest.raises(RunError, match="expected one name and two numbers, the lower one first") as error:
        parse_range(f"a={kind}({inside})")
    assert ("both above 0" in str(error.value)) == (kind == "loguniform")


def test_a_logarithm_needs_numbers_above_0_and_a_range_one_name() -> None:
    assert parse_range("a=uniform(0, 1)").low == 0
    for entry in ("a=loguniform(0, 1)", "a=loguniform(-1, 1)", "a b=uniform(0, 1)", "a b=loguniform(1, 2)"):
        with pytest.raises(RunError, match="expected one name"):
            parse_range(entry)


# --- refusing


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["train.learningrate=grid(1, 2)"], "has 'train.learningrate', which is no setting: give its dotted"),
        (["learning_rate=grid(1, 2)"], "has 'learning_rate', which is no setting"),
        (["train=grid(1, 2)"], "has 'train', which is no setting"),
        (["data.balance_to=grid(100, 200)"], "has data.balance_to: only settings under model and train"),
        (["data.crop.blur=grid(3, 5)"], "has .* all trials share one prepared data set"),
        (["seed=grid(1, 2)"], "has seed: only settings under model and train can be varied"),
        (["sweep.seeds=grid(1, 2)"], "has sweep.seeds: only"),
        (["train.num_workers=grid(1, 2)"], "has train.num_workers: only .* none that says what machine"),
        (["train.use_gpu=grid(True, False)"], "has train.use_gpu: only"),
        ([f"{RATE}=grid(0.1, 0.2)", f"{RATE}=uniform(0.1, 0.2)"], f"has {RATE} twice"),
        ([f"{RATE} {RATE}=grid(0.1 0.2)"], f"has {RATE} twice"),
        (["train.epochs=grid(3, -1)"], "sets train.epochs: input should be greater than or equal to 0"),
        (["train.epochs=grid(3, 1.5)"], "sets train.epochs: .*integer"),
        (["train.epochs=grid(3, many)"], "sets train.epochs: .*integer"),
        (["train.epochs=grid(3, none)"], "sets train.epochs"),
        (["model.backbone=choice(tiny, EfficientNetB9)"], "sets model.backbone: input should be 'Effic"),
        (["model.height model.width=grid(64 64, 96 9)"], "sets model.width: input should be greater"),
        (["train.frozen_epochs=grid(0, 2)"], "sets .*frozen_epochs is 2 and model.weights none"),
        # What may be drawn is tried as well as what is listed.
        (["model.dropout=uniform(0.1, 1.5)"], "sets model.dropout: input should be less than 1"),
        (["model.dropout=uniform(-0.1, 0.5)"], "sets model.dropout: input should be greater"),
        (["train.xla=uniform(0, 1)"], "sets train.xla: .*boolean"),
        (["train.optimizer=loguniform(1, 2)"], "sets train.optimizer: .*string"),
    ],
)
@pytest.mark.parametrize("sampler", ["grid", "random", "optuna"])
def test_a_space_that_cannot_be_is_refused_before_anything_runs(
    entries: list[str], message: str, sampler: str
) -> None:
    config = sweep_config(*entries, sampler=sampler)
    with pytest.raises(RunError, match=rf"sweep\.space {message}"):
        count(config)


def test_an_empty_space_is_refused() -> None:
    config = sweep_config()
    empty = config.model_copy(update={"sweep": config.sweep.model_copy(update={"space": ()})})
    with pytest.raises(RunError, match=r"sweep\.space is empty: give at least one NAME=RANGE"):
        SearchSpace.parse(empty)


def test_a_range_up_to_what_a_setting_cannot_have_is_taken_where_it_is_never_drawn() -> None:
    assert count(sweep_config("model.dropout=uniform(0, 1)", num_samples=3)) == 3


# --- setting


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("train.epochs", "3", 3),
        ("train.batch_size", 15.6, 16),
        ("train.batch_size", 16, 16),
        (RATE, "1e-3", 0.001),
        (RATE, ".5", 0.5),
        (RATE, 0.25, 0.25),
        (RATE, "1", 1.0),
        ("train.dwell", "False", False),
        ("train.dwell", "true", True),
        ("train.clip_norm", "None", None),
        ("train.mixup", "none", None),
        ("train.clip_norm", "1.5", 1.5),
        ("train.ask_epoch", "null", None),
        ("train.learning_blocks", "2", 2),
        ("train.schedule", "CosineDecay", "CosineDecay"),
        ("train.class_weights", "balanced", "balanced"),
        ("model.weights", "none", "none"),
        ("model.weights", "None", "None"),
        ("model.weights", "17", "17"),
        ("model.weights", "true", "true"),
    ],
)
def test_words_are_read_as_the_settings_type(name: str, word: Any, value: Any) -> None:
    section, last = name.split(".")
    found = getattr(getattr(SearchSpace.parse(sweep_config()).configure({name: word}), section), last)
    assert found == value
    assert type(found) is type(value)


def test_nothing_else_is_changed() -> None:
    config = sweep_config()
    changed = SearchSpace.parse(config).configure({RATE: "0.5"})
    assert changed.model_copy(update={"train": config.train}) == config
    assert changed.train.model_copy(update={"learning_rate": config.train.learning_rate}) == config.train


def test_a_drawn_number_is_rounded_to_a_whole_one_where_the_setting_is_whole() -> None:
    config = sweep_config("train.batch_size=uniform(4, 12)", sampler="random", num_samples=30)
    sizes = {trial.config.train.batch_size for trial in trials_of(config)}
    assert len(sizes) > 4
    assert sizes <= set(range(4, 13))
    assert all(type(trial.changes["train.batch_size"]) is int for trial in trials_of(config))


# --- native sizes


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_each_backbone_brings_its_size(backbone: str) -> None:
    model = SearchSpace.parse(sweep_config()).configure({"model.backbone": backbone}).model
    assert model.height == model.width == BACKBONES[model.backbone].native_side


def sizes(config: Config) -> list[tuple[str, int, int]]:
    models = [trial.config.model for trial in trials_of(config)]
    return [(model.backbone, model.height, model.width) for model in models]


def test_a_size_in_the_space_is_the_one_that_is_taken() -> None:
    both = sweep_config("model.backbone model.height model.width=grid(EfficientNetB0 96 80, tiny 64 48)")
    assert sizes(both) == [("EfficientNetB0", 96, 80), ("tiny", 64, 48)]
    apart = sweep_config(BOTH_BACKBONES, "model.height=grid(96, 128)")
    assert sizes(apart) == [
        (backbone, height, 64)
        for backbone, height in itertools.product(("EfficientNetB0", "EfficientNetB3"), (96, 128))
    ]


def test_sizes_stay_where_that_is_wanted_or_the_backbone_does() -> None:
    assert sizes(sweep_config(BOTH_BACKBONES, native_size=False)) == [
        ("EfficientNetB0", 64, 64),
        ("EfficientNetB3", 64, 64),
    ]
    assert set(sizes(sweep_config("model.dropout=grid(0.1, 0.2)"))) == {("tiny", 64, 64)}


# --- sampling


def test_a_grid_is_every_combination_the_last_range_fastest() -> None:
    config = sweep_config("model.dropout=grid(0.1, 0.2)", f"{RATE} train.epochs=grid(1e-3 5, 1e-4 7, 1e-5 9)")
    found = variants(config)
    assert count(config) == len(found) == 6
    assert [tuple(changes.values()) for changes in found[:4]] == [
        ("0.1", "1e-3", "5"),
        ("0.1", "1e-4", "7"),
        ("0.1", "1e-5", "9"),
        ("0.2", "1e-3", "5"),
    ]
    assert list(found[0]) == ["model.dropout", RATE, "train.epochs"]


def test_a_grid_alone_is_not_repeated() -> None:
    assert count(sweep_config("model.dropout=grid(0.1, 0.2)", num_samples=5)) == 2


def test_each_point_of_a_grid_gets_draws_of_the_rest() -> None:
    config = sweep_config(
        f"{RATE}=loguniform(1e-4, 1e-2)", "model.dropout=grid(0.1, 0.2)", "train.ema=choice(None, 0.9)",
        num_samples=3,
    )  # fmt: skip
    found = variants(config)
    assert count(config) == len(found) == 6
    assert [changes["model.dropout"] for changes in found] == ["0.1"] * 3 + ["0.2"] * 3
    assert len({changes[RATE] for changes in found}) == 6
    assert {changes["train.ema"] for changes in found} <= {"None", "0.9"}
    assert all(list(changes) == [RATE, "model.dropout", "train.ema"] for changes in found)


def test_a_random_search_draws_from_grids_as_well() -> None:
    config = sweep_config("model.dropout=grid(0.1, 0.2, 0.3)", sampler="random", num_samples=300)
    drawn = Counter(changes["model.dropout"] for changes in variants(config))
    assert count(config) == 300
    assert set(drawn) == {"0.1", "0.2", "0.3"}
    assert min(drawn.values()) > 70  # of 100: four standard deviations are 33


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_a_seed_gives_the_same_variants_and_another_seed_others(sampler: str) -> None:
    entries = ("model.dropout=choice(0.1, 0.2)", f"{RATE}=uniform(0.1, 0.2)")
    first, again, other = (
        variants(sweep_config(*entries, seed=seed, sampler=sampler, num_samples=5)) for seed in (1, 1, 2)
    )
    assert first == again
    assert not {changes[RATE] for changes in first} & {changes[RATE] for changes in other}


def test_more_samples_leave_those_before_as_they_are() -> None:
    few, many = (
        variants(sweep_config(f"{RATE}=uniform(0.1, 0.2)", sampler="random", num_samples=number))
        for number in (4, 9)
    )
    assert many[:4] == few


@pytest.mark.parametrize(("kind", "scale"), [("uniform", float), ("loguniform", math.log)])
def test_draws_fill_their_range_evenly(kind: str, scale: Callable[[float], float]) -> None:
    each, rng = parse_range(f"{RATE}=" + f"{kind}(1e-5, 1e-1)"), np.random.default_rng(1)
    values = [each.draw(rng)[RATE] for _ in range(4000)]
    assert all(type(value) is float and 1e-5 <= value <= 1e-1 for value in values)
    low, high = scale(1e-5), scale(1e-1)
    counts, _ = np.histogram([scale(value) for value in values], 4, (low, high))
    assert counts.min() > 1000 - 4 * math.sqrt(750)
    assert counts.max() < 1000 + 4 * math.sqrt(750)


def test_optuna_proposes_as_many_as_there_are_samples() -> None:
    config = sweep_config("model.dropout=grid(0.1, 0.2)", sampler="optuna", num_samples=5, seeds=2)
    assert count(config) == 10


# --- trials


def test_a_variant_has_a_trial_for_each_seed() -> None:
    config = sweep_config(f"{RATE} model.dropout=grid(1e-3 0.1, 1e-4 0.2)", seeds=3)
    trials = trials_of(config)
    assert count(config) == len(trials) == 6
    assert [trial.id for trial in trials] == ["000", "001", "002", "003", "004", "005"]
    assert [(trial.variant, trial.repeat) for trial in trials] == list(itertools.product((0, 1), (0, 1, 2)))
    assert [trial.config.seed for trial in trials] == [7, 8, 9] * 2
    assert [trial.config.train.learning_rate for trial in trials] == [1e-3] * 3 + [1e-4] * 3
    assert trials[-1].changes == {RATE: 1e-4, "model.dropout": 0.2}


def test_a_native_size_is_in_the_settings_and_not_among_the_changes() -> None:
    trial = SearchSpace.parse(sweep_config()).make_trials(0, {"model.backbone": "EfficientNetB3"})[0]
    assert trial.changes == {"model.backbone": "EfficientNetB3"}
    assert trial.model == "EfficientNetB3 300x300 gap"


def test_the_changes_of_a_trial_make_the_same_trial_again() -> None:
    config = sweep_config(
        BOTH_BACKBONES, "train.batch_size=uniform(4, 12)", "train.ema=choice(None, 0.9)", seeds=2
    )
    space = SearchSpace.parse(config)
    for variant, changes in enumerate(space.variants()):
        trials = space.make_trials(variant, changes)
        assert space.make_trials(variant, trials[0].changes) == trials


def test_models_are_those_that_cost_the_same_to_serve() -> None:
    trials = trials_of(sweep_config(BOTH_BACKBONES, "model.dropout=grid(0.1, 0.2)", seeds=2))
    found = models_of(trials)
    assert list(found) == ["EfficientNetB3 300x300 gap", "EfficientNetB0 224x224 gap"]
    assert found["EfficientNetB0 224x224 gap"] == trials[0].config


# --- recipes


def test_the_recipe_compares_four_backbones_at_their_sizes() -> None:
    config = recipes.sweep()
    trials = trials_of(config)
    assert count(config) == len(trials) == 8
    assert [trial.model for trial in trials[::2]] == [
        "EfficientNetB0 224x224 gap",
        "EfficientNetB3 300x300 gap",
        "EfficientNetB5 456x456 gap",
        "EfficientNetB7 600x600 gap",
    ]
    assert [trial.config.train.batch_size for trial in trials[::2]] == [32, 32, 16, 8]


def test_the_demo_compares_two_backbones_at_the_recipes_size() -> None:
    config = recipes.sweep_demo()
    trials = trials_of(config)
    assert count(config) == len(trials) == 4
    assert [trial.model for trial in trials[::2]] == [
        "EfficientNetB0 64x64 gap",
        "EfficientNetV2B0 64x64 gap",
    ]


def with_warmup(warmup: float, *space: str, **sweep: Any) -> Config:
    config = sweep_config(*space, **sweep)
    return config.model_copy(update={"train": config.train.model_copy(update={"warmup_epochs": warmup})})


def test_seeds_to_average_are_several() -> None:
    space = ("train.learning_rate=grid(0.1, 0.2)",)
    with pytest.raises(RunError, match=r"sweep\.seeds is 1: there would be one network"):
        SearchSpace.parse(Config(export={"members": "seeds"}, sweep={"space": space}))
    SearchSpace.parse(Config(export={"members": "seeds"}, sweep={"space": space, "seeds": 2}))


def test_models_to_average_are_varied() -> None:
    export = {"members": "models"}
    with pytest.raises(RunError, match="there would be one model"):
        SearchSpace.parse(Config(export=export, sweep={"space": ("train.learning_rate=grid(0.1, 0.2)",)}))
    SearchSpace.parse(Config(export=export, sweep={"space": ("model.head=grid(gap, seed)",)}))


@pytest.mark.parametrize(
    ("warmup", "space", "grace"),
    [
        (0.0, (), 1),
        (1.0, (), 4),
        (1.5, (), 5),
        (1.0, ("train.warmup_epochs=grid(0, 2)",), 5),
        (1.0, ("train.warmup_epochs=uniform(0, 0.5)",), 4),
    ],
)
def test_trials_are_left_alone_for_three_epochs_after_the_longest_warmup(
    warmup: float, space: tuple[str, ...], grace: int
) -> None:
    assert SearchSpace.parse(with_warmup(warmup, *space)).grace_epochs == grace
    assert SearchSpace.parse(with_warmup(warmup, *space, grace_epochs=9)).grace_epochs == 9


@pytest.mark.parametrize(("warmup", "grace", "least"), [(1.0, 1, 2), (2.5, 2, 3), (3.0, 3, 4)])
def test_grace_epochs_within_the_warmup_are_refused_with_the_number_to_set(
    warmup: float, grace: int, least: int
) -> None:
    with pytest.raises(RunError, match=rf"set --sweep.grace-epochs \d, or {least} at least"):
        SearchSpace.parse(with_warmup(warmup, grace_epochs=grace))
    assert SearchSpace.parse(with_warmup(warmup, grace_epochs=least)).grace_epochs == least
    SearchSpace.parse(with_warmup(warmup, grace_epochs=grace, scheduler="none"))  # nothing is stopped


def test_the_recipes_leave_trials_their_warmup() -> None:
    for make in recipes.RECIPES.values():
        config = make()
        assert SearchSpace.parse(config).grace_epochs > config.train.warmup_epochs
    assert SearchSpace.parse(recipes.RECIPES["sweep"]()).grace_epochs == 4
