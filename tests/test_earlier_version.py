"""What an earlier version has left is gone on with: a training, a sweep, a bundle."""

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from support.jobs import ROOT, finish, start

from brain_ray import jobs
from brain_ray.bundle.bundle import load_bundle, render_card
from brain_ray.bundle.predictor import Predictor
from brain_ray.bundle.schema import TrainingFacts
from brain_ray.config import AugmentConfig, Config, DataConfig, PhantomConfig, TrainConfig
from brain_ray.data.identity import SHOWN, source_of
from brain_ray.earlier import as_begun, as_of_now, as_prepared, as_stored
from brain_ray.fingerprints import differences, flatten
from brain_ray.runs import DATASET, HISTORY, RESULT, Run
from brain_ray.tuning.trial_store import read_trial

EARLIER = Path(__file__).parent / "support" / "earlier"
WORDS = ("--name", "earlier")
SWEEP = (
    *("--sweep.space", "train.frozen_learning_rate=grid(0.01, 0.003)"),
    *("--sweep.max-concurrent", "1", "--sweep.scheduler", "none"),
)


def unpack(folder: Path, *names: str) -> Run:
    """Unpack parts of the earlier version's run into a folder."""
    for name in names:
        with zipfile.ZipFile(EARLIER / f"{name}.zip") as archive:
            archive.extractall(folder / "earlier")
    for file in (folder / "earlier").rglob("*.json"):
        text = file.read_text()
        if "@FOLDER@" in text:
            file.write_text(
                text.replace("@FOLDER@/tiny", f"{folder}/earlier/tiny").replace("@FOLDER@", str(folder))
            )
    return Run(str(folder), "earlier")


def epochs(run: Run, *home: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(run.read_bytes(*home, *HISTORY).decode())))


@pytest.mark.slow
def test_a_training_goes_on_from_its_checkpoint(
    tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = unpack(tmp_path, "prepared", "checkpoint")
    before = epochs(run)
    assert 2 <= len(before) < 4
    assert jobs.run("train", "train.py", [*WORDS, "--storage", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "train: goes on where it was interrupted" in said
    assert re.findall(r"epoch +(\d)/4", said) == [str(epoch) for epoch in range(len(before) + 1, 5)]
    assert epochs(run)[: len(before)] == before
    result = run.read_json(*RESULT)
    assert result["epochs"] == 4
    assert [setup["first_epoch"] for setup in result["setups"]] == [len(before) + 1], "those before: unknown"
    assert 'train.last_batch: "spread" -> "keep"' in said, "it goes on as it began"
    assert "last_batch" not in run.require("train", "train")["train"]


@pytest.mark.slow
@pytest.mark.thorough
def test_a_sweep_goes_on_from_its_trials(tmp_path: Path) -> None:
    run = unpack(tmp_path, "prepared", "sweep")
    first, second = (epochs(run, "sweep", "trials", trial) for trial in ("000", "001"))
    assert len(first) == 4
    assert len(second) < 4
    said = finish(start(tmp_path, str(ROOT / "jobs" / "tune.py"), *WORDS, *SWEEP))
    assert "sweep: goes on where it was interrupted" in said
    assert "2 trials: 2 finished" in said
    assert epochs(run, "sweep", "trials", "000") == first
    assert epochs(run, "sweep", "trials", "001")[: len(second)] == second
    assert run.finished("bundle") is not None
    assert Predictor(run.uri("bundle")).read_spec.window == (0, 100)
    trained = read_trial(run, "001").trial.config
    assert trained.data.window == (0, 100), "as the first ones were"
    assert trained.train.last_batch == "keep"
    assert not trained.train.augment.keep_black


def test_phantoms_are_not_drawn_again_for_settings_that_came_later(tmp_path: Path) -> None:
    """Another processor may draw a few of them with other bytes, and what was made of them be made anew."""
    run = unpack(tmp_path, "prepared")
    phantoms = PhantomConfig(train_per_class=6, test_per_class=2)
    config = Config(seed=123, data=DataConfig(phantoms=phantoms))
    file = Path(run.path("phantoms", "Testing", "glioma", "Te-gl_00000.jpg"))
    file.write_bytes(b"as another processor drew it")
    assert source_of(run, config) == run.uri("phantoms")
    assert file.read_bytes() == b"as another processor drew it"
    source_of(run, config.model_copy(update={"seed": 124}))
    assert file.read_bytes() != b"as another processor drew it"


def test_images_go_on_to_be_read_as_they_were(tmp_path: Path) -> None:
    run = unpack(tmp_path, "prepared")
    config = Config()
    assert as_prepared(run, config).data.window == (0, 100)
    assert as_prepared(Run(str(tmp_path), "new"), config) == config
    asked = Config(data=DataConfig(window=(1, 99)))
    assert as_prepared(run, asked) == asked


def test_settings_that_came_later_and_new_defaults_are_no_change(tmp_path: Path) -> None:
    run = unpack(tmp_path, "prepared")
    stored = run.require(DATASET, "prepare")
    now = json.loads(Config().data.model_dump_json(exclude=SHOWN))
    own = {name: value for name, value in stored["data"].items() if name not in ("leaks", "copy_similarity")}
    assert stored["data"]["copy_similarity"] != now["copy_similarity"]
    inputs = stored | {"data": now | own}
    assert differences(as_of_now(stored, inputs), flatten(inputs)) == []
    inputs["data"] |= {"copy_similarity": 0.95}
    assert differences(as_of_now(stored, inputs), flatten(inputs)) == ["data.copy_similarity: 0.99 -> 0.95"]


def test_a_training_of_an_earlier_version_is_described_as_it_was() -> None:
    config = Config(train=TrainConfig(weight_decay=0.1, augment=AugmentConfig(flip=0.5, rotation=5)))
    now = {"train": config.train.model_dump(mode="json")}
    assert as_begun(config, None) == config
    assert as_begun(config, {"sweep": "a digest"}) == config
    assert as_begun(config, now) == config
    then = json.loads(json.dumps(now))
    del then["train"]["last_batch"], then["train"]["decayed_weights"], then["train"]["augment"]["keep_black"]
    begun = as_begun(config, then).train
    assert (begun.last_batch, begun.decayed_weights, begun.augment.keep_black) == ("keep", "all", False)
    before = {"last_batch": "keep", "decayed_weights": "all"}
    asked = config.train.model_copy(
        update=before | {"augment": config.train.augment.model_copy(update={"keep_black": False})}
    )
    assert begun == asked
    for train in (config.train, asked):
        inputs = {"train": train.model_dump(mode="json")}
        assert differences(as_of_now(then, inputs), flatten(inputs)) == [], "neither trains it again"


def test_a_training_that_began_without_xla_goes_on_without_it() -> None:
    config = Config()
    assert config.train.xla == "auto"
    for begun in (False, True, "auto"):
        then = {"train": config.train.model_dump(mode="json") | {"xla": begun}}
        inputs = {"train": config.train.model_dump(mode="json")}
        told = [] if begun in (False, "auto") else ['train.xla: true -> "auto"']
        assert differences(as_of_now(then, inputs), flatten(inputs)) == told
        assert as_begun(config, then).train.xla == (False if begun is False else "auto")
    asked = Config(train=TrainConfig(xla=True))
    without = {"train": config.train.model_dump(mode="json") | {"xla": False}}
    assert as_begun(asked, without) == asked
    stored = Config(train=TrainConfig(xla=False)).model_dump(mode="json")
    assert as_stored(stored).train.xla is False


def test_balancing_copies_of_an_earlier_version_stay_as_they_were(tmp_path: Path) -> None:
    run = unpack(tmp_path, "prepared")
    assert as_prepared(run, Config()).data.balance.keep_black, "there are no copies"
    config = as_prepared(run, Config(data=DataConfig(balance_to=20)))
    assert not config.data.balance.keep_black
    assert config.train.augment.keep_black


def test_a_data_set_prepared_anew_is_read_by_its_own_window(tmp_path: Path) -> None:
    run = unpack(tmp_path, "prepared")
    stored = run.require(DATASET, "prepare")
    data = stored["data"] | {"window": list(Config().data.window)}
    run.finish(DATASET, stored | {"data": data}, 1.0)
    assert as_prepared(run, Config()) == Config()


def test_a_bundle_tells_what_it_was_trained_on_if_that_was_recorded(tmp_path: Path) -> None:
    run = unpack(tmp_path, "bundle")
    info = load_bundle(run.uri("bundle")).info
    assert "(workers, device, precision) is not recorded" in render_card(info)
    setups = [(1, 4, 8, "a GPU", "mixed_bfloat16"), (3, 1, 32, "a processor", "float32")]
    names = ("first_epoch", "num_workers", "worker_batch", "device", "precision")
    training = TrainingFacts(
        epochs=9, best_epoch=5, backbone="tiny", setups=[dict(zip(names, one, strict=True)) for one in setups]
    )
    card = render_card(info.model_copy(update={"training": training}))
    assert (
        "- Trained from epoch 1 on by 4 workers, up to 8 images of a step on each, in mixed_bfloat16; the "
        "first worker's device: a GPU.\n"
        "- Trained from epoch 3 on by 1 worker, up to 32 images of a step on each, in float32; the first "
        "worker's device: a processor.\n- Input:"
    ) in card
    assert "\n\n\n" not in card


def test_a_bundle_answers_as_it_did(tmp_path: Path) -> None:
    run = unpack(tmp_path, "bundle")
    predictor = Predictor(run.uri("bundle"))
    predictor.check_canaries()
    assert predictor.read_spec.window == (0, 100), "as it was made"
    assert json.loads(run.read_bytes("bundle", "bundle.json"))["format"] == 2
    with pytest.warns(DeprecationWarning, match="brain_ray"):
        from brain_ray.model.predictor import Predictor as Old
    assert Old is Predictor
