"""A sweep as a user starts it: killed, gone on with, its winner exported, and the test split opened last."""

import json
import re
import shutil
from pathlib import Path

import pytest
from support.jobs import ROOT, finish, kill_at, start

from brain_ray.bundle.predictor import Predictor
from brain_ray.runs import Run
from brain_ray.tuning.trial_store import read_trials, trial_run

SETTINGS = {
    "data.phantoms.train_per_class": "16",
    "data.phantoms.test_per_class": "5",
    "data.phantoms.copies": "0",
    "data.phantoms.conflicts": "0",
    "data.phantoms.faults": "0",
    "train.epochs": "4",
    "train.batch_size": "8",
    "sweep.space": "model.height model.width train.learning_rate=grid(32 32 0.003, 48 48 0.003)",
    "sweep.scheduler": "none",
    "sweep.max_concurrent": "1",
    "sweep.bootstrap": "200",
}


def words(job: str, *more: str) -> list[str]:
    """The words of a command line."""
    settings = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    return [str(ROOT / "jobs" / f"{job}.py"), "smoke", *more, *settings]


@pytest.mark.slow
@pytest.mark.thorough
def test_a_killed_sweep_goes_on_and_its_winner_becomes_the_bundle(tmp_path: Path) -> None:
    """FAULTS 19, and that a sweep never reads the test split."""
    told = "{} learning_rate 0.003, seed 123  epoch {}/4"
    killed = kill_at(start(tmp_path, *words("tune")), told.format("001 tiny 48x48,", "2"))
    assert told.format("000 tiny 32x32,", "4") in killed
    run = Run(str(tmp_path), "smoke")
    hidden = tmp_path / "hidden"
    shutil.move(run.path("dataset", "test"), hidden)  # from here on, opening it would fail

    said = finish(start(tmp_path, *words("tune")))
    assert "sweep: goes on where it was interrupted" in said
    assert "2 trials, 1 of them done already, 1 at a time" in said
    assert "000 tiny" not in said, "a finished trial is not trained again"
    assert not re.search(r"001 tiny .* epoch +[12]/4", said), "what is in a checkpoint is not trained again"
    records = read_trials(run)
    assert [(record.status, record.attempts) for record in records] == [
        ("finished", 1),
        ("finished", 2),
    ]
    assert all([epoch.epoch for epoch in record.history] == list(range(1, 5)) for record in records)

    # The winner is the run's training, and its bundle tells how it was chosen.
    choice = run.read_json("train", "choice.json")
    winner = next(record for record in records if record.trial.id == choice["winner"])
    assert run.read_bytes("train", "history.csv") == trial_run(run, choice["winner"]).read_bytes(
        "train", "history.csv"
    )
    info = run.read_json("bundle", "bundle.json")
    assert info["sweep"] == choice
    assert info["config"]["model"] == winner.trial.config.model.model_dump(mode="json")
    assert info["scores"]["test"] is None
    assert choice["sentence"] in run.read_bytes("bundle", "MODEL_CARD.md").decode()
    predictor = Predictor(run.uri("bundle"))
    assert predictor.info["input"]["height"] == winner.trial.config.model.height
    told = json.loads(run.read_bytes("report", "sweep.json"))
    assert [row["trial"] for row in told["trials"]] == ["000", "001"]
    for name in ("sweep", "winner"):
        assert re.search(rf"Z smoke  {name}: +{tmp_path}", said)

    # The test split is opened by the evaluation, for the winner; the sweep's page stays in the report.
    shutil.move(hidden, run.path("dataset", "test"))
    scored = finish(start(tmp_path, *words("pipeline", "--tune")))
    for stage in ("prepare", "sweep", "choose", "export"):
        assert f"{stage}: complete and unchanged" in scored
    assert run.exists("report", "sweep.html")
    assert run.exists("report", "report.html")
    assert run.read_json("bundle", "bundle.json")["scores"]["test"]["official"]["images"] == 20
