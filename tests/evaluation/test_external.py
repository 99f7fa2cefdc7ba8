"""Any bundle is scored on any labelled images, without a training."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.html_page import Page

from brain_ray.bundle.bundle import REFERENCE_FILE, load_bundle, sha256, write_info
from brain_ray.bundle.reference import QUANTITIES, Reference
from brain_ray.cli import take_value
from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.evaluation.external import EXTERNAL, as_external
from brain_ray.jobs import run as run_job
from brain_ray.pipeline import run_stages
from brain_ray.runs import CONFIG, Run
from brain_ray.usage import UsageError

EARLIER = Path(__file__).parents[1] / "support/earlier"


def unpack(storage: Path) -> Run:
    """Unpack a small run of drawn phantoms, with its data set, history and bundle."""
    for name in ("prepared", "checkpoint", "bundle"):
        with zipfile.ZipFile(EARLIER / f"{name}.zip") as archive:
            archive.extractall(storage / "earlier")
    return Run(str(storage), "earlier")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = unpack(tmp_path_factory.mktemp("runs"))
    add_reference(run)
    return run


def add_reference(run: Run) -> None:
    """Give an earlier version's bundle what it lacks: brighter images than its own, of 60 groups."""
    rng = np.random.default_rng(0)
    quantities = {name: rng.uniform(0, 1, 120) for name in QUANTITIES} | {"grey_mean": np.full(120, 250.0)}
    data = Reference.of(np.arange(120) // 2, quantities).to_bytes()
    run.write_bytes(data, "bundle", REFERENCE_FILE)
    info = load_bundle(run.uri("bundle")).info
    files = {**info.files, REFERENCE_FILE: sha256(data)}
    write_info(run.uri("bundle"), info.model_copy(update={"files": files}))


def external(run: Run, name: str, source: str, mapping: tuple[str, ...] | None = None) -> Config:
    """Settings with which a run's bundle is scored on a source."""
    tree: dict[str, Any] = {"storage": run.storage, "name": name, "data": {"source": source}}
    return as_external(Config.model_validate(tree | {"evaluate": {"mapping": mapping}}), run.uri("bundle"))


def score(run: Run, config: Config) -> tuple[Run, dict[str, Any]]:
    run_stages(config, EXTERNAL)
    made = Run(run.storage, config.name)
    return made, made.read_json("report", "metrics.json")


@pytest.fixture(scope="module")
def own(earlier: Run, ray_cluster: None) -> dict[str, Any]:
    """Scores of the run's bundle on its own test split."""
    config = Config.model_validate(earlier.read_json(*CONFIG)["config"])
    tree = config.model_dump() | {"storage": earlier.storage, "name": earlier.name}
    run_stages(Config.model_validate(tree), ["evaluate"])
    scores: dict[str, Any] = earlier.read_json("report", "metrics.json")
    return scores


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", ["phantoms", pytest.param("dataset/manifest.parquet", marks=pytest.mark.thorough)]
)
def test_a_run_s_own_test_split_gives_its_own_figures_to_the_last_digit(
    source: str, own: dict[str, Any], earlier: Run
) -> None:
    before = earlier.read_bytes("bundle", "bundle.json")
    config = external(earlier, source.partition("/")[0], earlier.uri(*source.split("/")))
    made, scores = score(earlier, config)
    theirs, ours = own["official"], scores["official"]
    for name in ("images", "accuracy", "log_loss", "calibrated", "confusion", "decisions", "auc"):
        assert ours[name] == theirs[name], name
    assert scores["leak_free"] is None
    assert scores["ledger"] == own["ledger"], "the same model on the same images is no second scoring"
    shift = scores["shift"]
    assert shift == own["shift"]
    assert (shift["images"], shift["reference_images"], shift["reference_groups"]) == (8, 120, 60)
    assert shift["quantities"]["grey_mean"]["alarms"]
    page = Page(made.read_bytes("report", "report.html").decode()).text
    assert "mean grey level of the network's input, 0..255 (median" in page
    assert f"{config.name}: external evaluation of whole" in page
    assert "Copies of the images that the model learned from were not looked for" in page
    assert "no copy of one found in training" not in page
    assert earlier.read_bytes("bundle", "bundle.json") == before, "the bundle is only read"


@pytest.mark.thorough
@pytest.mark.slow
def test_a_set_with_other_classes_is_scored_by_a_mapping(earlier: Run, own: dict[str, Any]) -> None:
    """Its classes are the mapping's, one folder is of none of them, and it has no splits."""
    images = Path(earlier.storage) / "others"
    for name, there in (("glioma", "tumour"), ("notumor", "notumor"), ("pituitary", "unsure")):
        shutil.copytree(Path(earlier.uri("phantoms", "Testing", name)), images / there)
    mapping = ("glioma=tumour", "meningioma=tumour", "pituitary=tumour", "notumor=notumor")
    made, scores = score(earlier, external(earlier, "mapped", str(images), mapping))
    assert scores["official"]["images"] == 4
    assert set(scores["official"]["per_class"]) == {"tumour", "notumor"}
    assert scores["official"]["candidates"] is None
    left_out = made.read_json("dataset", "audit.json")["left_out"]
    assert [(row["path"], row["reason"]) for row in left_out] == [("unsure", "none of data.classes")]
    page = Page(made.read_bytes("report", "report.html").decode()).text
    assert "Its classes became those of the set" in page


def test_the_bundle_says_how_images_are_read(earlier: Run) -> None:
    config = external(earlier, "new", "some/images")
    assert config.data.external
    assert config.data.window == (0.0, 100.0), "of a bundle that stored none"
    assert (config.model.backbone, config.model.height) == ("tiny", 32)
    assert config.evaluate.bundle == earlier.uri("bundle")
    assert as_external(config, earlier.uri("bundle")) == config


def test_a_run_with_a_training_is_not_replaced(earlier: Run) -> None:
    with pytest.raises(RunError, match="set --name to another"):
        external(earlier, "earlier", "some/images")


def test_an_option_s_value_is_taken_from_the_words() -> None:
    assert take_value(["--bundle", "b", "--name", "x"], "--bundle") == ("b", ["--name", "x"])
    assert take_value(["smoke", "--bundle=b"], "--bundle") == ("b", ["smoke"])
    assert take_value(["--name", "x"], "--bundle") == (None, ["--name", "x"])
    for words in (["--bundle"], ["--bundle", "--name", "x"], ["--bundle="], ["--bundle", "a", "--bundle=b"]):
        with pytest.raises(UsageError, match="--bundle"):
            take_value(words, "--bundle")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bundl", "b"], "unknown setting --bundl; did you mean --bundle?"),
        (["--bundle"], "--bundle needs a value"),
        (["--bundle", "b"], "--bundle needs --data.source"),
    ],
)
def test_a_wrong_command_line_is_answered_in_a_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_job("evaluate", "evaluate.py", [*words, "--storage", str(tmp_path)]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1


def test_a_bundle_that_is_not_there_is_answered_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--bundle", str(tmp_path / "gone"), "--data.source", str(tmp_path), "--storage", str(tmp_path)]
    assert run_job("evaluate", "evaluate.py", words) == 1
    assert "no bundle at" in capsys.readouterr().err


def test_the_help_tells_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_job("evaluate", "evaluate.py", ["--help"])
    assert "--bundle BUNDLE" in capsys.readouterr().out
