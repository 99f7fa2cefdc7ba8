"""The images that the report shows are those that the network got."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.html_page import Page

from brain_ray.config import Config, ModelConfig, TrainConfig
from brain_ray.data.rows import ROW_SCHEMA, changes_of, read_input
from brain_ray.evaluation import report_data
from brain_ray.evaluation.report import write_report
from brain_ray.input_spec import InputSpec, ReadSpec
from brain_ray.runs import BUNDLE_INFO, CONFIG, Run
from brain_ray.scoring.decisions import count_decisions
from brain_ray.scoring.metrics import score

EARLIER = Path(__file__).parents[1] / "support/earlier"


def make_rows(run: Run, count: int = 4) -> list[dict]:
    rng = np.random.default_rng(3)
    rows = []
    for i in range(count):
        data = cv2.imencode(".png", rng.integers(0, 256, (40, 40), dtype=np.uint8))[1].tobytes()
        facts = {"row_id": i, "image_id": i, "path": f"{i}.png", "label": i % 4, "bytes": data, "cluster": i}
        facts |= {"top": 0, "bottom": 40, "left": 0, "right": 40, "augment_seed": -1}
        rows.append(facts | {"file_sha256": "", "pixel_sha256": ""})
    Path(run.path("dataset", "train")).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, ROW_SCHEMA), run.path("dataset", "train", "0.parquet"))
    return rows


@pytest.mark.parametrize(
    ("train", "epoch"),
    [({}, 0), ({"frozen_epochs": 2}, 2), ({"frozen_epochs": 2, "epochs": 0}, None)],
)
def test_samples_are_as_the_network_first_got_them(tmp_path: Path, train: dict, epoch: int | None) -> None:
    config = Config(model=ModelConfig(height=32, width=32), train=TrainConfig(**train))
    run = Run(str(tmp_path), "run")
    rows = make_rows(run)
    spec = InputSpec(32, 32)

    def inputs(number: int | None) -> list[bytes]:
        return [
            read_input(row, spec, 10_000, ReadSpec(), changes_of(row, config, number)).tobytes()
            for row in rows
        ]

    found = [sample.image.tobytes() for sample in report_data.training_samples(run, config)]
    assert sorted(found) == sorted(inputs(epoch))
    assert sorted(inputs(epoch)) != sorted(inputs(1)), "the flips of the second epoch are others"


def test_a_run_of_an_earlier_version_is_reported(tmp_path: Path) -> None:
    """Its audit knows no views, chains, patients or known sets."""
    for name in ("prepared", "bundle", "checkpoint"):
        with zipfile.ZipFile(EARLIER / f"{name}.zip") as archive:
            archive.extractall(tmp_path / "earlier")
    run = Run(str(tmp_path), "earlier")
    config = Config.model_validate(run.read_json(*CONFIG)["config"])
    classes, numbers = config.data.classes, np.arange(8)
    labels, chances = numbers % 4, np.random.default_rng(1).dirichlet(np.ones(4), 8)
    decisions = count_decisions(
        labels, chances.argmax(axis=1), np.array(["answer"] * 8), numbers, classes,
        run.read_json(*BUNDLE_INFO)["decision"],
    )  # fmt: skip
    scores = score(labels, chances, classes, chances).model_copy(update={"decisions": decisions})
    told = {"row_id": numbers, "label": labels, "predicted": chances.argmax(axis=1), "leak_free": True}
    told |= {f"{kind}_{name}": chances[:, k] for k, name in enumerate(classes)
             for kind in ("probability", "calibrated")}  # fmt: skip
    data = report_data.gather(run, config, pd.DataFrame(told), scores, scores, "2026-01-02")
    text = Page(write_report(data)[0]).text
    assert "No copies were found" in text
    assert "Copies under different labels None." in text
    assert "published set" not in text
