"""Heat maps of a run's test images are held against outlines: those that count, each of them once."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from brain_ray.bundle.heat_maps import over_image
from brain_ray.bundle.predictor import Predictor
from brain_ray.checks.locations import refuse_wrong_paths
from brain_ray.config import Config, DataConfig, EvaluateConfig
from brain_ray.data.decoding import decode
from brain_ray.errors import RunError
from brain_ray.evaluation.localise import Localiser, OutlinedImages, find_outlined, sum_up
from brain_ray.records import to_json
from brain_ray.runs import Run
from brain_ray.scoring.localisation import localise

EARLIER = Path(__file__).parents[1] / "support/earlier"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a prepared data set, 8 test phantoms, and a bundle; no test may change it."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("prepared", "bundle"):
        with zipfile.ZipFile(EARLIER / f"{name}.zip") as archive:
            archive.extractall(folder / "earlier")
    (folder / "earlier/report").mkdir()
    return Run(str(folder), "earlier")


@pytest.fixture(scope="module")
def tested(run: Run) -> pd.DataFrame:
    manifest = pq.read_table(run.path("dataset/manifest.parquet")).to_pandas()
    return manifest[manifest["split"] == "test"].set_index("path")


def square(row: pd.Series, low: float = 0.3, high: float = 0.6) -> list[list[float]]:
    """Return an outline that covers a part of an image in both directions."""
    left, right = low * row["width"], high * row["width"]
    top, bottom = low * row["height"], high * row["height"]
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def with_outlines(folder: Path, entries: object) -> Config:
    (folder / "o.json").write_text(json.dumps(entries))
    evaluated = EvaluateConfig(outlines=str(folder / "o.json"))
    return Config(name="earlier", data=DataConfig(source="images"), evaluate=evaluated)


def maps_of(run: Run, outlined: OutlinedImages) -> pa.Table:
    """Return the rows of `Localiser` for all test images, in batches as Ray Data makes them."""
    rows = pq.read_table(run.path("dataset", "test"), partitioning=None)
    actor = Localiser(run.uri("bundle"), 1, outlined.outlines)
    return pa.concat_tables([actor(rows.slice(start, 3)) for start in range(0, len(rows), 3)])


def all_outlined(run: Run, tested: pd.DataFrame, folder: Path) -> tuple[Config, OutlinedImages]:
    """Give each test image with a tumour a square."""
    config = with_outlines(folder, {path: square(row) for path, row in tested.iterrows()})
    outlined = find_outlined(run, config)
    assert outlined is not None
    return config, outlined


def test_without_outlines_nothing_is_scored(run: Run) -> None:
    assert find_outlined(run, Config(name="earlier")) is None


def test_test_images_with_a_tumour_and_an_outline_are_chosen(
    run: Run, tested: pd.DataFrame, tmp_path: Path
) -> None:
    entries = {path: square(row) for path, row in tested.iterrows()}
    missing = entries.pop("Testing/glioma/Te-gl_00000.jpg")
    entries |= {"Training/glioma/Tr-gl_00000.jpg": missing, "elsewhere/1.jpg": missing}
    found = find_outlined(run, with_outlines(tmp_path, entries))
    assert found is not None
    counts = found.counts
    assert (counts.outlines, counts.scored, counts.other_splits) == (9, 5, 1)
    assert (counts.no_tumour, counts.ambiguous, counts.unknown, counts.without) == (2, 0, 1, 1)
    names = tested.reset_index().set_index("image_id")["path"]
    chosen = {names[number] for number in found.outlines}
    assert chosen == {p for p in entries if p.startswith("Testing") and "/notumor/" not in p}


def test_figures_are_of_the_answers_heat_map_in_the_images_own_pixels(
    run: Run, tested: pd.DataFrame, tmp_path: Path
) -> None:
    _, outlined = all_outlined(run, tested, tmp_path)
    found = maps_of(run, outlined).to_pandas()
    assert sorted(found["image_id"]) == sorted(outlined.outlines)
    rows = pq.read_table(run.path("dataset", "test"), partitioning=None).to_pandas().set_index("image_id")
    predictor = Predictor(run.uri("bundle"), 1)
    for row in found.to_dict("records"):
        data = rows.loc[row["image_id"], "bytes"]
        image = decode(data, predictor.max_pixels, read=predictor.read_spec)
        fitted, box, _ = predictor.prepare(data)
        prediction = predictor.predict(fitted[None])
        assert row["answer"] == prediction.probabilities.argmax()
        heat = predictor.explain(prediction.feature_maps, [row["answer"]])[0]
        mask = outlined.outlines[row["image_id"]].mask(*image.shape)
        expected = localise(over_image(heat, predictor.spec, box, image.shape, predictor.map_shift), mask)
        assert (row["heat_pointing"], row["heat_near"]) == (expected.pointing, expected.near)
        assert row["heat_energy"] == pytest.approx(expected.energy, abs=1e-6)
        assert row["heat_iou"] == pytest.approx(expected.iou, abs=1e-3)
        assert row["area"] == pytest.approx(mask[box.rows, box.columns].mean())
        assert row["blank"] == float(not heat.any())


def test_scores_are_by_class_and_by_answer_and_strict_json(
    run: Run, tested: pd.DataFrame, tmp_path: Path
) -> None:
    config, outlined = all_outlined(run, tested, tmp_path)
    found = maps_of(run, outlined).to_pandas()
    scores = sum_up(run, config, outlined, found)
    parts = {part.title: part for part in scores.parts}
    assert [parts[name].images for name in ("all", "glioma", "meningioma", "pituitary")] == [6, 2, 2, 2]
    answered = [parts[name].images for name in ("right answers", "wrong answers") if name in parts]
    assert sum(answered) == 6
    assert parts["all"].measures["energy"].centre.value == pytest.approx(found["centre_energy"].mean())
    text = json.dumps(to_json(scores), allow_nan=False)
    assert json.loads(text)["counts"]["scored"] == 6
    figures = pq.read_table(run.path("report/localisation.parquet")).to_pandas()
    assert set(figures["path"]) == {path for path in tested.index if "/notumor/" not in path}
    with pytest.raises(RunError, match="5 test images were made, 6 expected"):
        sum_up(run, config, outlined, found.head(5))


def test_a_batch_without_outlined_images_gives_a_table_without_rows(run: Run) -> None:
    rows = pq.read_table(run.path("dataset", "test"), partitioning=None)
    nothing = Localiser(run.uri("bundle"), 1, {})(rows)
    assert len(nothing) == 0
    assert {"image_id", "answer", "heat_pointing", "brightest_iou"} <= set(nothing.column_names)


def test_names_of_no_test_image_are_shown_beside_those_that_there_are(run: Run, tmp_path: Path) -> None:
    config = with_outlines(tmp_path, {"images/1.jpg": [[1, 1], [2, 1], [2, 2]]})
    with pytest.raises(RunError, match=r"no test image with a tumour .*images/1\.jpg.*Testing/glioma/Te-gl"):
        find_outlined(run, config)


def test_outlines_of_images_of_another_size_are_refused(
    run: Run, tested: pd.DataFrame, tmp_path: Path
) -> None:
    entries = {path: (np.array(square(row)) * 4).tolist() for path, row in tested.iterrows()}
    with pytest.raises(
        RunError, match=r"6 outlines of .*o\.json do not fit:\n  Testing/.*pixels of the images"
    ):
        find_outlined(run, with_outlines(tmp_path, entries))


def test_outlines_that_cannot_be_read_are_said_before_anything_is_done(tmp_path: Path) -> None:
    config = Config(evaluate=EvaluateConfig(outlines=str(tmp_path / "absent.json")))
    with pytest.raises(RunError, match=r"^outlines: there are no outlines at .*absent\.json"):
        refuse_wrong_paths(Run(str(tmp_path), "new"), config, ["evaluate"])
    refuse_wrong_paths(Run(str(tmp_path), "new"), config, ["prepare"])
    drawn = Config(evaluate=EvaluateConfig(outlines="phantoms"))
    refuse_wrong_paths(Run(str(tmp_path), "new"), drawn, ["evaluate"])


def test_phantoms_outlines_are_only_those_of_phantoms() -> None:
    with pytest.raises(ValidationError, match=r"evaluate\.outlines is phantoms and data\.source images"):
        Config(data=DataConfig(source="images"), evaluate=EvaluateConfig(outlines="phantoms"))
