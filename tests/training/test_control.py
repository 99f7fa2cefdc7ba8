"""An operator's words reach a training on Ray, all its workers, and history.csv."""

import csv
import io
from pathlib import Path

import pytest
from support.messages import messages_to
from support.numpy_learner import Numpy
from support.training_problem import MakeConfig, write_dataset

from brain_ray.errors import RunError
from brain_ray.runs import Run
from brain_ray.training import control, train
from brain_ray.training.run_actor import RunActor, run_actor

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.slow
def test_words_are_heard_by_all_workers_and_written_down(tmp_path: Path, make_config: MakeConfig) -> None:
    run = Run(str(tmp_path), "trial")
    write_dataset(run)
    before = RunActor(run)  # of a driver that was killed: what it was told is not lost
    before.say(["extend", "2"])
    before.say(["rate", "0.0005"])
    answers: list[str] = []

    def interfere(line: str) -> None:
        if not line.startswith("epoch"):
            return
        answers.append(control.send_command("trial", ["halt"] if line.startswith("epoch 2") else ["status"]))

    with messages_to(interfere):
        train.train(run, make_config(epochs=1, batch_size=20, num_workers=2), Numpy())
    text = run.read_bytes("train", "history.csv").decode()
    first, second, *rest = csv.DictReader(io.StringIO(text))
    assert [word[: word.index("(")] for word in first["operator"].split("; ")] == [
        "extend 2 ",
        "rate 0.0005 ",
    ]
    assert [float(row["learning_rate"]) for row in (first, second)] == pytest.approx([0.003, 0.0005])
    assert len(rest) <= 1  # halted as soon as it was heard, at the latest when the epochs were over
    assert answers[0].splitlines()[0].startswith("epoch 1/3")
    assert answers[0].splitlines()[1].endswith("Z  extend 2")
    assert answers[1] == "halt: said, and heard at the end of this epoch"
    with pytest.raises(
        RunError, match="no run named trial is training on this cluster; those that are: none"
    ):
        control.send_command("trial", ["status"])


def test_a_run_is_named_without_the_query_of_its_uri(tmp_path: Path) -> None:
    run = Run(f"file://{tmp_path}?region=somewhere", "trial")
    with run_actor(run, print):
        for name in ("trial", run.uri()):
            assert control.send_command(name, ["status"]) == "no epoch has ended yet"


def test_one_of_several_runs_is_named_by_its_path(tmp_path: Path) -> None:
    here, there = Run(str(tmp_path / "a"), "trial"), Run(str(tmp_path / "b"), "trial")
    with run_actor(here, print), run_actor(there, print):
        with pytest.raises(RunError, match="2 runs named trial are training"):
            control.send_command("trial", ["halt"])
        with pytest.raises(RunError, match="'hold' says nothing to a run"):
            control.send_command(here.uri(), ["hold"])
        assert control.send_command(here.uri(), ["extend", "1"]).startswith("extend 1: said")
        assert "extend 1" in control.send_command(here.uri(), ["status"])
        assert control.send_command(there.uri(), ["status"]) == "no epoch has ended yet"
