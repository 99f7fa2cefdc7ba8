"""The whole road on phantoms: done once, and not done again; tests/test_storage.py kills it on its way."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support import small_road
from support.small_road import LEFT

from brain_ray import logs
from brain_ray.bundle.predictor import Predictor
from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.pipeline import run_stages
from brain_ray.runs import Run


def small(storage: Path, **changes: object) -> Config:
    """Shrink `smoke`, and let its heat maps be scored."""
    return small_road.small(storage, **{"evaluate.outlines": "phantoms", **changes})


@pytest.fixture(autouse=True)
def console() -> Iterator[None]:
    """Show messages as a job does."""
    with logs.to_console():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Run:
    storage = tmp_path_factory.mktemp("runs")
    run_stages(small(storage))
    return Run(str(storage), "smoke")


@pytest.mark.slow
def test_a_run_leaves_everything_that_the_design_names(finished: Run) -> None:
    for name in LEFT:
        assert finished.exists(*name.split("/")), name
    stored = finished.read_json("config.json")
    assert Config.model_validate(stored["config"]).train.epochs == 3
    assert stored["versions"]["ray"]


@pytest.mark.slow
def test_every_test_image_is_scored_once_as_the_predictor_scores_it(finished: Run) -> None:
    predictions = pq.read_table(finished.path("report", "predictions.parquet")).to_pandas()
    test = pq.read_table(finished.path("dataset", "test")).to_pandas().set_index("row_id")
    assert sorted(predictions["row_id"]) == sorted(test.index)
    predictor = Predictor(finished.uri("bundle"))
    for row in predictions.head(8).to_dict("records"):
        image, box, _ = predictor.prepare(test.loc[row["row_id"], "bytes"])
        (chances,) = predictor.predict(image[None]).probabilities
        for k, name in enumerate(predictor.classes):
            assert row[f"probability_{name}"] == pytest.approx(chances[k], abs=1e-5)
        assert (row["top"], row["right"]) == (box.top, box.right)


@pytest.mark.slow
def test_scores_reach_the_report_the_bundle_and_the_card(finished: Run) -> None:
    metrics = finished.read_json("report", "metrics.json")
    assert metrics["official"] == metrics["leak_free"], "with leaks=drop the two are the same"
    bundle = finished.read_json("bundle", "bundle.json")
    assert bundle["scores"]["test"]["official"]["accuracy"] == metrics["official"]["accuracy"]
    card = finished.read_bytes("bundle", "MODEL_CARD.md").decode()
    assert f"accuracy {metrics['official']['accuracy'] * 100:.2f} %" in card
    assert metrics["ledger"]["models"] == 1
    assert bundle["scores"]["test"]["ledger"] == metrics["ledger"]
    page = finished.read_bytes("report", "report.html").decode()
    assert 'src="http' not in page
    assert "One model was scored on this test split" in page


@pytest.mark.slow
def test_heat_maps_are_held_against_the_phantoms_outlines(finished: Run) -> None:
    found = finished.read_json("report", "metrics.json")["localisation"]
    parts = {part["title"]: part for part in found["parts"]}
    counts, tumours = found["counts"], ("glioma", "meningioma", "pituitary")
    assert parts["all"]["images"] == counts["scored"] == sum(parts[name]["images"] for name in tumours)
    rows = pq.read_table(finished.path("report", "predictions.parquet"), columns=["class_name"]).to_pandas()
    assert counts["scored"] + counts["without"] == rows["class_name"].isin(tumours).sum()
    assert counts["scored"] > 10
    assert counts["other_splits"] > 0
    for row in parts["all"]["measures"].values():
        assert 0 <= row["heat"]["low"] <= row["heat"]["value"] <= row["heat"]["high"] <= 1
    assert len(pq.read_table(finished.path("report", "localisation.parquet"))) == counts["scored"]
    assert 'id="localisation"' in finished.read_bytes("report", "report.html").decode()


@pytest.mark.slow
def test_a_second_start_does_nothing_again(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run_stages(small(Path(finished.storage)))
    text = capsys.readouterr().out
    for stage in ("prepare", "train", "export", "evaluate"):
        assert f"{stage}: complete and unchanged, not done again" in text


@pytest.mark.slow
def test_only_what_changed_is_done_again_and_named(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run_stages(small(Path(finished.storage), **{"evaluate.calibration_bins": 12}))
    text = capsys.readouterr().out
    assert "export: complete and unchanged" in text
    assert "evaluate: again, changed: evaluate.calibration_bins: 15 -> 12" in text


@pytest.mark.slow
@pytest.mark.thorough
def test_artefacts_are_scored_where_they_are_asked_for(
    finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages(
        small(Path(finished.storage), **{"evaluate.robustness": True, "evaluate.robustness_images": 8})
    )
    text = capsys.readouterr().out
    found = finished.read_json("report", "metrics.json")["robustness"]
    assert found["mean"]["images"] == 85 * found["images"]
    assert 4 <= found["images"] <= 8
    assert f"robustness: {found['images']} test images" in text
    assert 'id="robustness"' in finished.read_bytes("report", "report.html").decode()
    assert finished.exists("report", "robustness.png")


@pytest.mark.slow
@pytest.mark.thorough
def test_the_same_files_with_new_times_do_nothing_again(
    finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in Path(finished.path("phantoms")).rglob("*"):
        os.utime(path)
    written = Path(finished.path("train/result.json")).stat().st_mtime_ns
    run_stages(small(Path(finished.storage)))
    text = capsys.readouterr().out
    assert "have new times and the same contents" in text
    for stage in ("prepare", "train", "export"):
        assert f"{stage}: complete and unchanged, not done again" in text
    assert Path(finished.path("train/result.json")).stat().st_mtime_ns == written
    run_stages(small(Path(finished.storage)))
    assert "contents" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"train.epochs": 4}, {"data.valid_fraction": 0.3}])
def test_a_finished_stage_is_checked_before_it_is_done_again(
    change: dict[str, object], finished: Run
) -> None:
    with pytest.raises(RunError, match=r"^room: the cluster has 4 CPUs"):
        run_stages(small(Path(finished.storage), **change, **{"train.num_workers": 64}))
    assert finished.finished("dataset") is not None, "nothing was deleted"
    assert finished.finished("train") is not None


@pytest.mark.thorough
@pytest.mark.slow
def test_preparing_the_same_rows_trains_nothing_again(
    finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages(small(Path(finished.storage), **{"data.max_rejected": 0.2}))
    text = capsys.readouterr().out
    assert "prepare: again, changed: data.max_rejected: 0.1 -> 0.2" in text
    assert "train: complete and unchanged, not done again" in text
    assert "export: complete and unchanged, not done again" in text


def test_a_stage_before_its_input_says_which_job_to_run(tmp_path: Path, ray_cluster: None) -> None:
    with pytest.raises(RunError, match=r"train is not complete: run jobs/train\.py"):
        run_stages(small(tmp_path), ["export"])
