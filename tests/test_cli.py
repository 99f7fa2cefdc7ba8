"""The command line: recipes, dotted settings, and one clear line for what is wrong."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from brain_ray import cli
from brain_ray.config import Config, DataConfig, EvaluateConfig, TrainConfig
from brain_ray.errors import RunError
from brain_ray.recipes import RECIPES
from brain_ray.runs import Run
from brain_ray.usage import UsageError, setting_names


def parse(*argv: str) -> Config:
    return cli.parse("pipeline.py", "A test.", argv)


def test_settings_override_the_recipe() -> None:
    config = parse(
        "b0", "--train.epochs", "3", "--model.backbone", "EfficientNetB3", "--data.export_images", "/x"
    )
    assert (config.recipe, config.train.epochs, config.model.backbone) == ("b0", 3, "EfficientNetB3")
    assert config.data.export_images == "/x"
    assert config.train.batch_size == RECIPES["b0"]().train.batch_size


def test_smoke_is_the_default() -> None:
    assert parse() == RECIPES["smoke"]()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["b1"], "unknown recipe 'b1'; did you mean b0?"),
        (["b0", "--train.epoch", "3"], "unknown setting --train.epoch; did you mean --train.epochs?"),
        (
            ["--train.batch-size", "0"],
            "--train.batch-size: input should be greater than or equal to 1, found 0",
        ),
        (["--train.epochs", "0"], "--train: frozen_epochs and epochs are both 0: expected one epoch"),
        (["--train.frozen-epochs", "3"], "train.frozen_epochs is 3 and model.weights none: the features"),
        (["--train.epochs", "x"], "--train.epochs: expected a whole number, found 'x'"),
        (["--train.ema", "x"], "--train.ema: expected {None} or FLOAT, found 'x'"),
        (["--train.dwell-factor", "x"], "--train.dwell-factor: expected a number, found 'x'"),
        (["--train.epochs"], "--train.epochs needs a value"),
        (["--storage"], "--storage needs a value"),
        (["smoke", "b0"], "'b0' after smoke is a second recipe"),
        (["smoke", "quickly"], "'quickly' after smoke is no setting, which begins with --"),
        (["--debugg"], "unknown setting --debugg; did you mean --debug?"),
        (["--model.backbone", "EfficientNetB9"], "--model.backbone cannot be 'EfficientNetB9'; did you mean"),
        (["--data.crop.blur", "4"], "--data.crop: blur is 4: a Gaussian kernel needs an odd side"),
        (["--name", "a/b"], "name is 'a/b': expected a plain folder name"),
        (
            ["--data.source", "s3://key:hidden@bucket/mri"],
            "data.source is a URI with keys in it (s3://KEY:SECRET@...)",
        ),
        (["--train.mlflow-uri", "https://me:hidden@host"], "train.mlflow_uri is a URI with keys in it"),
        (["--train.mlflow-uri", "https://hidden@host"], "train.mlflow_uri is a URI with keys in it"),
        (["s3://key:hid/den@bucket"], "a word of the command line is a URI with keys in it"),
        (["--train.epochs", "s3://key:hidden@bucket"], "train.epochs is a URI with keys in it"),
        (["--data.sauce", "s3://bucket?secret_key=hidden"], "data.sauce is a URI with what may be a key"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pipeline.py", *argv])
    assert cli.run_job("pipeline.py", "A test.", lambda config: pytest.fail("must not run")) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1
    assert "hid" not in err


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(*words)
    assert not stop.value.code
    return capsys.readouterr().out


def test_the_first_page_of_help_is_short_and_names_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "b0", "--help")
    assert text.startswith("usage: pipeline.py [RECIPE] [--setting VALUE ...]\n")
    assert all(name in text for name in RECIPES)
    assert all(f"--help {name} " in text for name in ("data", "model", "train", "export", "all"))
    assert "--model.backbone EfficientNetB0" in text
    assert len(text.splitlines()) < 50
    assert max(map(len, text.splitlines())) <= 110


def test_a_section_s_help_has_its_settings_as_in_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "b0", "--help", "model")
    assert "--model.backbone" in text
    assert "(default: EfficientNetB0)" in text
    assert "--train" not in text


def test_all_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "--help", "all")
    assert all(f"--{name}" in text for name in setting_names(Config))


def test_the_text_of_a_setting_breaks_where_the_terminal_ends_not_where_the_source_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text = help_of(capsys, "--help", "train")
    (line,) = [line for line in text.splitlines() if "Number of worker processes" in line]
    assert "(default: 1)" in line


def test_an_unknown_section_of_the_help_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"^--help knows no section 'modle'; did you mean model\?$"):
        parse("--help", "modle")


def test_a_run_that_exists_goes_on_with_its_own_settings(tmp_path: Path) -> None:
    config = parse("b0", "--storage", str(tmp_path), "--name", "first", "--train.epochs", "2")
    Run(str(tmp_path), "first").write_json({"config": config.model_dump(mode="json")}, "config.json")
    again = parse("--storage", str(tmp_path), "--name", "first")
    assert again == config


def test_the_printed_config_is_whole() -> None:
    text = cli.describe(RECIPES["paper"](), whole=True)
    names = set(re.findall(r"(\S+?)=", text))
    assert {"data.leaks", "train.monitor", "model.crop_size", "seed"} <= names
    assert max(map(len, text.splitlines())) <= 110


def test_only_what_differs_from_the_recipe_is_said() -> None:
    config = parse("b0", "--train.epochs", "3", "--name", "first", "--data.source", "/mri")
    assert cli.describe(config) == "recipe b0, but for data.source=/mri train.epochs=3"
    assert cli.describe(RECIPES["b0"]()) == "recipe b0, unchanged"


def test_of_a_bundle_that_is_scored_no_training_is_described() -> None:
    data = DataConfig(source="/mri", external=True)
    config = Config(data=data, evaluate=EvaluateConfig(bundle="/b"), train=TrainConfig(epochs=77))
    text = cli.describe(config)
    assert text.startswith("scores a bundle with data.source=/mri")
    assert "evaluate.bundle=/b" in text
    assert "train." not in text


def test_debug_says_all_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["pipeline.py", "b0", "--debug"])
    assert cli.run_job("pipeline.py", "A test.", lambda _: None) == 0
    assert "train.dwell_factor=0.4" in capsys.readouterr().out


def test_unknown_keys_are_refused_and_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="leeks"):
        DataConfig(leeks="drop")  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_says_command_cost_and_score(recipe: object) -> None:
    text = recipe.__doc__ or ""
    assert all(word in text for word in ("Command:", "Cost:", "Score:"))


def test_paper_is_the_seed_number_for_number() -> None:
    paper = RECIPES["paper"]()
    data, model, train = paper.data, paper.model, paper.train
    assert (data.crop.blur, data.crop.threshold, data.crop.iterations) == (3, 45, 2)
    assert (data.valid_fraction, data.split_by, data.leaks, paper.seed) == (0.2, "image", "keep", 123)
    assert (data.balance_to, data.balance.rotation, data.balance.shift) == (1600, 10.0, 0.05)
    assert (data.balance.flip, train.augment.flip) == (0.5, 0.5)
    assert (model.height, model.width, model.crop_size, model.fit) == (270, 230, (256, 256), "stretch")
    assert (model.backbone, model.weights, model.head, model.dropout) == (
        "EfficientNetB3",
        "imagenet",
        "seed",
        0.4,
    )
    assert (train.optimizer, train.learning_rate, train.loss) == ("Adamax", 0.001, "categorical_crossentropy")
    assert (train.batch_size, train.epochs, train.schedule) == (30, 40, "constant")
    assert (train.monitor, train.dwell, train.dwell_factor) == ("val_loss", True, 0.4)


class FromAWorker(RuntimeError):
    """As Ray wraps what a task raised."""

    cause = RunError("x.jpg is damaged: prepare again")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RunError("no such folder"), "no such folder"),
        (FromAWorker("a long trace"), "x.jpg is damaged: prepare again"),
        (ValueError("two\nlines"), "ValueError: two (unexpected: --debug shows the trace)"),
        (KeyboardInterrupt(), "interrupted; the same command goes on from here"),
        (SystemExit(0), "interrupted; the same command goes on from here"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(
    error: BaseException, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(config: Config) -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["pipeline.py"])
    assert cli.run_job("pipeline.py", "A test.", work) == 1
    assert capsys.readouterr().err == f"error: {said}\n"


def test_a_storage_that_cannot_be_asked_for_settings_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "--name", "first", "--storage", "gopher://there"])
    assert cli.run_job("train.py", "", lambda _: None) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: cannot open gopher://there")
    assert said.count("\n") == 1


def test_debug_shows_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(config: Config) -> None:
        raise RunError("no such folder")

    monkeypatch.setattr("sys.argv", ["pipeline.py", "--debug"])
    with pytest.raises(RunError, match="no such folder"):
        cli.run_job("pipeline.py", "A test.", work)
