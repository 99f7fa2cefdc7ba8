"""`pipeline --folds`: from phantoms to a bundle whose temperature and thresholds other folds vouch for."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
import pytest
from support.jobs import ROOT
from support.small_road import words

from brain_ray import jobs
from brain_ray.bundle.mirrored_answers import mirrored_answers
from brain_ray.bundle.session import open_session
from brain_ray.bundle.thresholds import run_all
from brain_ray.comparison.choose import settings_of
from brain_ray.config import Config
from brain_ray.data.dataset import add_source_columns, read_input_facts, read_inputs
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.data.phantoms.files import OUTLINES
from brain_ray.errors import RunError
from brain_ray.evaluation.cross_validation import report_folds
from brain_ray.runs import AVERAGES, AVERAGES_OUT_OF_FOLD, PHANTOM_IMAGES, Run
from brain_ray.scoring.calibration import fit_temperature
from brain_ray.scoring.cross_validation import CrossValidation, format_cross_validation
from brain_ray.tuning.trial_store import read_trials

SETTINGS = {"data__phantoms__train_per_class": 16, "train__epochs": 4}


def command(storage: Path, *more: str) -> Sequence[str]:
    return [*words(**SETTINGS)[1:], "--storage", str(storage), "--folds", "2", *more]


def session_of(run: Run) -> onnxruntime.InferenceSession:
    return open_session(run.read_bytes("bundle", "model.onnx"), gpu=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Run:
    """A run over two folds, without a test split to speak of."""
    storage = tmp_path_factory.mktemp("runs")
    assert jobs.run("pipeline", "pipeline.py", command(storage)) == 0
    return Run(str(storage), "smoke")


@pytest.mark.slow
def test_every_development_image_is_answered_once_by_a_fold_without_its_group(finished: Run) -> None:
    answers = OutOfFold.read(finished)
    assert answers is not None
    manifest = pq.read_table(finished.path("dataset", "manifest.parquet")).to_pandas()
    learned = manifest[manifest["split"].isin(["train", "valid"])].set_index("image_id")
    assert sorted(answers.image_id) == sorted(learned.index)
    assert set(answers.fold) == {1, 2}
    assert (answers.group == learned.loc[answers.image_id, "group"]).all()
    assert (answers.label == learned.loc[answers.image_id, "label"]).all()
    by_group = {group: set(answers.fold[answers.group == group]) for group in answers.group}
    assert all(len(folds) == 1 for folds in by_group.values())


@pytest.mark.slow
def test_temperature_and_scores_of_the_bundle_are_of_all_folds(finished: Run) -> None:
    answers = OutOfFold.read(finished)
    assert answers is not None
    bundle = finished.read_json("bundle", "bundle.json")
    assert bundle["temperature"] == pytest.approx(fit_temperature(answers.probabilities, answers.label))
    found, decision = bundle["scores"]["validation"], bundle["decision"]
    assert (found["images"], found["folds"]) == (len(answers.label), 2)
    right = answers.probabilities.argmax(axis=1) == answers.label
    assert found["accuracy"] == pytest.approx(right.mean())
    assert (decision["folds"], decision["models"]) == (2, 1), "these images chose neither epoch nor model"
    folds = finished.read_json("train", "folds.json")
    assert folds["pooled"]["correct"] == right.sum()
    assert [one["right"] for one in folds["folds"]] == [int(right[answers.fold == k].sum()) for k in (1, 2)]
    # What unlikeness refuses is told by images that the exported model itself did not see.
    with np.load(finished.path("bundle", "reference.npz")) as stored:
        fold = Run(finished.storage, finished.name).read_json("train", "config.json")["train"]["fold"]
        assert len(stored["groups"]) == (answers.fold == fold).sum()


@pytest.mark.slow
def test_page_and_card_show_the_folds(finished: Run) -> None:
    page = finished.read_bytes("report", "sweep.html").decode()
    assert 'id="folds"' in page
    assert "answered by the model that was trained without its fold" in page
    assert 'href="cross_validation.html"' in page
    card = finished.read_bytes("bundle", "MODEL_CARD.md").decode()
    assert "**Out of fold** (" in card
    assert "How it was chosen" not in card
    assert finished.exists("report", "report.html")


@pytest.mark.slow
def test_a_page_of_the_answers_has_their_scores_figures_and_errors(finished: Run) -> None:
    page = finished.read_bytes("report", "cross_validation.html").decode()
    answers = OutOfFold.read(finished)
    assert answers is not None
    wrong = int((answers.probabilities.argmax(axis=1) != answers.label).sum())
    assert f"{len(answers.label):,} images of" in page
    assert page.count("<figure><img") == min(120, wrong)
    assert page.count("data:image/png") == 4
    accuracy = finished.read_json("train", "folds.json")["pooled"]["accuracy"]
    assert f"<td>{accuracy:.4f}</td>" in page


@pytest.mark.slow
def test_the_mean_of_several_seeds_is_scored_beside_the_best_one(finished: Run, tmp_path: Path) -> None:
    shutil.copytree(finished.path(), tmp_path / "smoke")
    run, answers = Run(str(tmp_path), "smoke"), OutOfFold.read(finished)
    assert answers is not None
    config = Config.model_validate(run.read_json("config.json")["config"])
    certain = np.eye(4, dtype=np.float32)[answers.label]
    found, _ = report_folds(run, config, answers, [answers.probabilities, certain, certain])
    assert found.pooled == CrossValidation.model_validate(finished.read_json("train", "folds.json")).pooled
    assert found.averaged is not None
    assert (found.averaged.seeds, found.averaged.pooled.accuracy) == (3, 1.0)
    page = run.read_bytes("train", "cross_validation.html").decode()
    assert "The mean of the answers of 3 seeds to each fold is right for 1.0000 of the images" in page
    assert "of one seed" not in finished.read_bytes("train", "cross_validation.html").decode()


@pytest.mark.slow
def test_names_of_sources_stand_beside_their_scores_where_each_is_a_fold(
    finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(finished.path(), tmp_path / "smoke")
    run, answers = Run(str(tmp_path), "smoke"), OutOfFold.read(finished)
    assert answers is not None
    stated = add_source_columns(pd.DataFrame({"image_id": answers.image_id}), run)["source"]
    known = (stated != "").to_numpy()
    answers = OutOfFold(*(values[known] for values in vars(answers).values()))
    stated = stated[known]
    answers = replace(answers, fold=1 + pd.factorize(stated, sort=True)[0])
    config = Config.model_validate(run.read_json("config.json")["config"])
    found, _ = report_folds(run, config.model_copy(update={"folds": "each_source"}), answers)
    assert [(one.source, one.images) for one in found.folds] == sorted(stated.value_counts().items())
    assert len(found.folds) > 1
    for one in found.folds:
        assert f"{one.fold} ({one.source})</th>" in run.read_bytes("train", "cross_validation.html").decode()
        assert format_cross_validation(found).count(f"  {one.source}\n") == 1


@pytest.mark.slow
def test_page_and_scores_say_what_is_told_without_the_head(finished: Run) -> None:
    folds = CrossValidation.model_validate(finished.read_json("train", "folds.json"))
    assert folds.shortcuts is not None
    assert folds.shortcuts["images"] == folds.pooled.images, "so few that all were drawn"
    share = folds.shortcuts["decided"]["value"]
    assert f"of what they got right, {share:.2f} is told by a linear model" in format_cross_validation(folds)
    page = finished.read_bytes("report", "cross_validation.html").decode()
    assert f"of what the networks got right</th><td>{share:.2f}</td>" in page


@pytest.mark.slow
def test_what_the_answers_rest_on_is_told_of_each_outlined_image(finished: Run) -> None:
    outlines = finished.path(PHANTOM_IMAGES, OUTLINES)
    script = [sys.executable, str(ROOT / "benchmarks" / "evidence.py"), "--outlines", outlines]
    done = subprocess.run([*script, finished.path()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest = pq.read_table(finished.path("dataset", "manifest.parquet")).to_pandas()
    learned = manifest[manifest["split"].isin(["train", "valid"])]
    tumours = learned["path"].isin(json.loads(Path(outlines).read_text()))
    assert f"\n{tumours.sum()} outlined images of {learned[tumours]['group'].nunique()} groups" in done.stdout
    values = json.loads(done.stdout.splitlines()[-1])
    assert set(values["heat maps"]) == {"centre of the head", "smoke", "smoke - centre"}
    painted = values["painted"]["smoke"]
    assert painted["lost"]["value"] == pytest.approx(
        painted["elsewhere"]["value"] - painted["without"]["value"]
    )
    folds = finished.read_json("train", "folds.json")
    assert values["without the head"] == {"smoke": folds["shortcuts"]}


@pytest.mark.slow
def test_suspects_are_listed_and_corrected_labels_are_a_source(finished: Run) -> None:
    text = finished.read_bytes("report", "suspects.html").decode()
    suspects = pd.read_csv(finished.path("report", "suspects.csv"))
    assert len(suspects) > 0, "a network that has learned for four epochs contradicts some labels"
    assert (suspects["label"] != suspects["suggested"]).all()
    margins = suspects["probability_label"] - suspects["probability_suggested"]
    assert (margins.diff().dropna() >= -0.0002).all()  # rounded
    assert text.count("<figure>") == min(60, len(suspects))
    labels = pd.read_csv(finished.path("report", "labels.csv"))
    assert labels["path"][: suspects["path"].nunique()].tolist() == suspects["path"].unique().tolist()
    manifest = pq.read_table(finished.path("dataset", "manifest.parquet")).to_pandas()
    assert sorted(labels["path"]) == sorted(manifest.loc[manifest["split"] != "rejected", "path"])

    labels.loc[0, "label"] = suspects["suggested"][0]
    corrected = Path(finished.storage) / "corrected.csv"
    labels.to_csv(corrected, index=False)
    root = finished.path("phantoms")
    source = ["--data.source", str(corrected), "--data.root", root, "--data.leaks", "keep"]
    words = [*command(Path(finished.storage)), "--name", "corrected", *source]
    assert jobs.run("prepare", "prepare.py", words) == 0
    prepared = Run(finished.storage, "corrected").path("dataset", "manifest.parquet")
    again = pq.read_table(prepared).to_pandas().set_index("path")["class_name"]
    before = manifest.set_index("path")["class_name"].loc[again.index]
    assert again[again != before].to_dict() == {suspects["path"][0]: suspects["suggested"][0]}


@pytest.mark.thorough
@pytest.mark.slow
def test_the_models_of_all_folds_can_be_averaged(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(Path(finished.storage), tmp_path / "runs")
    words = command(tmp_path / "runs")
    assert jobs.run("pipeline", "pipeline.py", [*words, "--export.members", "all"]) == 0
    text = capsys.readouterr().out
    assert "choose: complete and unchanged" in text
    assert 'export: again, changed: export.members: "best" -> "all"' in text
    run = Run(str(tmp_path / "runs"), "smoke")
    before, after = (one.read_json("bundle", "bundle.json") for one in (finished, run))
    assert (before["training"]["members"], after["training"]["members"]) == (1, 2)
    assert after["temperature"] == before["temperature"], "of the answers to all folds, in both"
    assert "This bundle averages 2 of these models" in run.read_bytes("bundle", "MODEL_CARD.md").decode()
    assert jobs.run("pipeline", "pipeline.py", [*words, "--export.members", "3"]) == 1
    assert "export.members is 3, and " in "".join(capsys.readouterr())


@pytest.mark.slow
def test_the_mean_of_a_sweeps_models_is_calibrated_by_its_own_answers(
    tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--tune", "--sweep.scheduler", "none", "--sweep.space", "model.head=grid(gap, seed)"]
    words = command(tmp_path, *more, "--export.members", "models")
    assert jobs.run("pipeline", "pipeline.py", words) == 0
    assert "--export.members models averages tiny" in capsys.readouterr().out
    run = Run(str(tmp_path), "smoke")
    trained = {one.trial.id: one for one in read_trials(run)}
    mean = OutOfFold.read(run, AVERAGES_OUT_OF_FOLD["models"])
    assert mean is not None
    networks = run.read_json(*AVERAGES)["models"]
    for fold in (1, 2):
        pair = [trained[one["trial"]] for one in networks if one["fold"] == fold]
        assert sorted(one.trial.config.model.head for one in pair) == ["gap", "seed"]
        assert {one.trial.config.train.fold for one in pair} == {fold}
        answers = np.mean([one.probabilities for one in pair], axis=0)
        np.testing.assert_allclose(mean.probabilities[mean.fold == fold], answers, atol=1e-6)
    info = run.read_json("bundle", "bundle.json")
    assert info["temperature"] == pytest.approx(fit_temperature(mean.probabilities, mean.label))
    right = mean.probabilities.argmax(axis=1) == mean.label
    assert info["scores"]["validation"]["accuracy"] == pytest.approx(right.mean())
    assert info["training"]["members"] == 2
    assert sorted(info["training"]["models"]) == ["tiny (gap)", "tiny (seed)"]
    # The bundle answers as the mean of the networks that left out the fold of the run's training.
    fold = run.read_json("train", "config.json")["train"]["fold"]
    config = Config.model_validate(run.read_json("config.json")["config"])
    own = mean.image_id[mean.fold == fold]
    inputs, _ = read_inputs(run, config, ["train", "valid"], 1000, own)
    ids = read_input_facts(run, config, ["train", "valid"], 1000, own).index.to_numpy()
    np.testing.assert_allclose(run_all(session_of(run), inputs, "probabilities"), mean.of(ids), atol=1e-4)
    assert (
        "each answered by the mean of networks like these that"
        in run.read_bytes("bundle", "MODEL_CARD.md").decode()
    )
    # Mirrored, each fold is answered by the two networks that left it out.
    turned = mirrored_answers(run, settings_of(run, config), mean, 1000)
    views = [run_all(session_of(run), view, "probabilities") for view in (inputs, inputs[:, :, ::-1])]
    np.testing.assert_allclose(turned.of(ids), np.mean(views, axis=0), atol=1e-4)


@pytest.mark.slow
def test_a_mirrored_bundle_is_calibrated_by_mirrored_answers_of_each_folds_own_network(
    finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(Path(finished.storage), tmp_path / "runs")
    words = command(tmp_path / "runs")
    assert jobs.run("pipeline", "pipeline.py", [*words, "--export.mirrored", "True"]) == 0
    run = Run(str(tmp_path / "runs"), "smoke")
    config = Config.model_validate(run.read_json("config.json")["config"])
    plain = OutOfFold.read(run)
    assert plain is not None
    mirrored = mirrored_answers(run, config, plain, 1000)
    assert (mirrored.image_id == plain.image_id).all()
    found = run.read_json("bundle", "bundle.json")
    assert found["temperature"] == pytest.approx(fit_temperature(mirrored.probabilities, mirrored.label))
    assert found["temperature"] != finished.read_json("bundle", "bundle.json")["temperature"]
    right = mirrored.probabilities.argmax(axis=1) == mirrored.label
    assert found["scores"]["validation"]["accuracy"] == pytest.approx(right.mean())
    # The exported network's own fold, asked of both bundles.
    fold = run.read_json("train", "config.json")["train"]["fold"]
    own = plain.image_id[plain.fold == fold]
    inputs, _ = read_inputs(run, config, ["train", "valid"], 1000, own)
    ids = read_input_facts(run, config, ["train", "valid"], 1000, own).index.to_numpy()
    alone, both = (session_of(one) for one in (finished, run))
    views = [run_all(alone, view, "probabilities") for view in (inputs, inputs[:, :, ::-1])]
    for answers in (np.mean(views, axis=0), run_all(both, inputs, "probabilities")):
        np.testing.assert_allclose(mirrored.of(ids), answers, atol=1e-4)
    # And each fold's answers are of the network that was trained without it.
    for name, of_fold in run.read_json("train", "members", "folds.json").items():
        trial = Run(run.path("sweep", "trials"), Path(name).stem.partition("-")[2])
        assert trial.read_bytes("train", "best.npz") == run.read_bytes("train", "members", name)
        (record,) = [one for one in read_trials(run) if one.trial.id == trial.name]
        assert record.trial.config.train.fold == of_fold
    card = run.read_bytes("bundle", "MODEL_CARD.md").decode()
    assert "on it; each image as it is and mirrored): accuracy" in card
    assert "are those of single" not in card
    few = mirrored_answers(run, config, plain, 5)
    assert np.unique(few.fold, return_counts=True)[1].tolist() == [5, 5]
    np.testing.assert_allclose(few.probabilities, mirrored.of(few.image_id), atol=1e-5)


@pytest.mark.slow
def test_networks_of_an_earlier_version_are_not_asked_for_mirrored_answers(
    finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(finished.path("train"), tmp_path / "smoke" / "train")
    (tmp_path / "smoke" / "train" / "members" / "folds.json").unlink()
    run = Run(str(tmp_path), "smoke")
    plain = OutOfFold.read(run)
    assert plain is not None
    with pytest.raises(
        RunError, match=r"folds\.json is not there, .* an earlier version .*--export.mirrored False"
    ):
        mirrored_answers(run, Config(), plain, 1000)


@pytest.mark.slow
def test_a_second_start_does_nothing_again(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs.run("pipeline", "pipeline.py", command(Path(finished.storage))) == 0
    text = capsys.readouterr().out
    for stage in ("prepare", "sweep", "choose", "export", "evaluate"):
        assert f"{stage}: complete and unchanged, not done again" in text


@pytest.mark.slow
def test_other_folds_are_trained_again_on_the_same_rows(
    finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word if word != "2" else "3" for word in command(Path(finished.storage))]
    assert jobs.run("pipeline", "pipeline.py", [*words, "--train.num-workers", "64"]) == 1
    text = "".join(capsys.readouterr())
    assert "prepare: complete and unchanged, not done again" in text
    assert "sweep: again, changed: folds: 2 -> 3" in text
