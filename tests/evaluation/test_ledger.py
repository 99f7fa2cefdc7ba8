"""The ledger of a test split counts models, whatever is cleared, repeated or scored by other runs."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brain_ray.errors import RunError
from brain_ray.evaluation.ledger import read_ledger, record_scoring
from brain_ray.runs import DATASET, REPORT, Run
from brain_ray.scoring.metrics import score
from brain_ray.scoring.scores import Scores


def make_scores() -> Scores:
    labels = np.arange(40) % 2
    chances = np.random.default_rng(1).dirichlet(np.ones(2), 40)
    return score(labels, chances, ("glioma", "notumor"))


SCORES = make_scores()


def make_bundle(model: str, abstain_below: float = 0.5) -> dict[str, Any]:
    return {"files": {"model.onnx": model}, "temperature": 1.0, "decision": {"abstain_below": abstain_below}}


def record(run: Run, model: str, split: str = "a split", abstain_below: float = 0.5) -> dict[str, Any]:
    return record_scoring(run, split, make_bundle(model, abstain_below), 15, SCORES)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path / "runs"), "one")


def test_a_line_tells_the_split_the_model_the_command_and_the_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["jobs/evaluate.py", "paper", "--storage", "my runs"])
    record(run, "model 1")
    (line,) = Path(run.path("test_ledger.jsonl")).read_text().splitlines()
    told = json.loads(line)
    assert (told["split"], told["model"], told["images"]) == ("a split", "model 1", 40)
    assert told["command"] == "evaluate.py paper --storage 'my runs'"
    assert told["time"].startswith("20")
    assert told["accuracy"] == SCORES.accuracy


def test_a_key_on_the_command_line_is_not_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate.py", "--storage", "s3://KEY:SECRET@bucket"])
    record(run, "model 1")
    assert b"SECRET" not in run.read_bytes("test_ledger.jsonl")


def test_the_same_scoring_again_is_counted_once(run: Run) -> None:
    """As after an evaluation that was killed when its scores were there."""
    first = record(run, "model 1")
    assert record(run, "model 1") == first
    assert len(read_ledger(run)) == 1


def test_a_field_that_a_later_version_adds_is_no_other_scoring(run: Run) -> None:
    first = record(run, "model 1")
    bundle = make_bundle("model 1")
    bundle["decision"] |= {"confidence": None}
    assert record_scoring(run, "a split", bundle, 15, SCORES) == first


def test_other_thresholds_are_another_scoring_of_the_same_model(run: Run) -> None:
    record(run, "model 1")
    found = record(run, "model 1", abstain_below=0.9)
    assert (found["models"], found["scorings"]) == (1, 2)


def test_another_model_makes_a_choice_possible(run: Run) -> None:
    assert record(run, "model 1")["excess"] == 0
    found = record(run, "model 2")
    assert found["models"] == 2
    assert found["excess"] > 0
    assert found["sentence"].startswith("2 models were scored on this test split")


def test_what_stages_clear_leaves_the_ledger(run: Run) -> None:
    record(run, "model 1")
    for folder in (DATASET, REPORT):
        run.clear(folder)
    assert record(run, "model 2")["models"] == 2


def test_another_split_is_counted_for_itself(run: Run) -> None:
    record(run, "model 1")
    assert record(run, "model 2", split="another split")["models"] == 1
    assert record(run, "model 3")["models"] == 2


def test_models_of_other_runs_of_the_storage_count(run: Run) -> None:
    record(run, "model 1")
    other = Run(run.storage, "two")
    assert record(other, "model 2")["models"] == 2
    Run(run.storage, "one").remove()
    assert record(Run(run.storage, "three"), "model 3")["models"] == 3, "what two had taken up of one is kept"
    assert [line["model"] for line in read_ledger(Run(run.storage, "three"))] == [
        f"model {k}" for k in (1, 2, 3)
    ]


def test_a_damaged_ledger_is_named(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.write_bytes(b'{"time": "2026"}\n', "test_ledger.jsonl")
    with pytest.raises(RunError, match=r"one/test_ledger\.jsonl is no ledger"):
        record(run, "model 1")
    with caplog.at_level(logging.WARNING, "brain_ray"):
        assert record(Run(run.storage, "two"), "model 1")["models"] == 1
    assert "its scorings are not counted" in caplog.text
