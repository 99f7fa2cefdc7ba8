"""What was trained is kept while new settings train, and gone on with when they are taken back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs
from support.messages import messages_to
from support.s3_server import s3_server

from brain_ray import kept, logs
from brain_ray.config import Config
from brain_ray.pipeline import run_stage
from brain_ray.runs import HISTORY, MARKER, STARTED, Run
from brain_ray.stages import Stage

FILES = {
    ("train", "checkpoint_1", "state.npz"): b"weights",
    ("train", "checkpoint_1", "deep", "manifest.json"): b"{}",
    ("train", "operator.json"): b"[]",
    HISTORY: b"epoch,seconds\n1,50.0\n2,50.0\n",
}
"""What a training leaves, but for its records: more than a minute's work."""


class Killed(BaseException):
    """Stands for the end of the process."""


class Mortal(fs.SubTreeFileSystem):  # type: ignore[misc]
    """A disk on which the process ends at a change of so much; folders may only be copied, as in a bucket."""

    def __init__(self, *, renames: bool, changes: int) -> None:
        super().__init__("/", fs.LocalFileSystem())
        self.renames, self.left = renames, changes

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def move(self, source: str, target: str) -> None:
        if not self.renames and Path("/", source).is_dir():
            raise OSError("only files can be renamed")
        self._count()
        super().move(source, target)

    def copy_file(self, source: str, target: str) -> None:
        self._count()
        super().copy_file(source, target)

    def create_dir(self, path: str, **options: Any) -> None:
        self._count()
        super().create_dir(path, **options)

    def delete_file(self, path: str) -> None:
        self._count()
        super().delete_file(path)

    def open_output_stream(self, path: str, **options: Any) -> Any:
        self._count()
        return super().open_output_stream(path, **options)

    def delete_dir(self, path: str) -> None:
        self._halve(path)
        super().delete_dir(path)

    def delete_dir_contents(self, path: str, **options: Any) -> None:
        self._halve(path)
        super().delete_dir_contents(path, **options)

    def _halve(self, path: str) -> None:
        """Delete some of a folder's files, which may be all that it comes to."""
        files = sorted(file for file in Path("/", path).rglob("*") if file.is_file())
        for file in files[: len(files) // 2]:
            self._count()
            file.unlink()
        self._count()


class Training:
    """A run's stage that trains, instead of by TensorFlow, by writing files; `rate` is its setting."""

    def __init__(self, run: Run) -> None:
        self.run, self.rate = run, 0.1
        self.trained: list[float] = []
        self.ends = True

    def start(self, rate: float, *, ends: bool = True) -> None:
        """Do what a job with this setting does; without `ends`, it is killed when it has trained a while."""
        self.rate, self.ends = rate, ends
        stage = Stage("train", "train", self._inputs, self._work, resumes=True)
        with logs.to_console():
            run_stage(stage, self.run, Config(), lambda: None)

    def _inputs(self, run: Run, config: Config) -> dict[str, Any]:
        return {"dataset": "d" * 64, "train": {"learning_rate": self.rate}}

    def _work(self, run: Run, config: Config) -> str:
        if not run.exists("train", "checkpoint_1", "state.npz"):
            self.trained.append(self.rate)
            for name, data in FILES.items():
                run.write_bytes(data + str(self.rate).encode() * (name[-1] == "state.npz"), *name)
        if not self.ends:
            raise Killed
        return "trained"

    def interrupt(self, rate: float) -> None:
        """Start, and be killed in the middle of the training."""
        with pytest.raises(Killed):
            self.start(rate, ends=False)

    def files(self) -> dict[str, bytes]:
        """All files of the run, by their paths in it."""
        root = Path(self.run.storage) / self.run.name
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(Run(str(tmp_path), "first"))


@pytest.mark.parametrize("finished", [True, False])
def test_a_training_is_gone_on_with_when_its_setting_is_back(
    finished: bool, training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    training.start(0.1) if finished else training.interrupt(0.1)
    before = training.files()
    training.interrupt(0.2)
    said = capsys.readouterr().out
    assert "train: again, " in said
    assert "train.learning_rate: 0.1 -> 0.2" in said
    assert "2 epochs (2 min) of train/ are kept in " in said
    assert f"{training.run.uri('kept')}/train-" in said

    training.start(0.1)
    assert "takes up what was kept in" in capsys.readouterr().out
    assert training.trained == [0.1, 0.2]
    after = training.files()
    assert after["train/checkpoint_1/state.npz"] == b"weights0.1"
    if finished:
        assert {name: data for name, data in after.items() if not name.startswith("kept/")} == before
        training.start(0.2)  # there and back again: neither is lost
        assert training.trained == [0.1, 0.2]
        assert training.files()["train/checkpoint_1/state.npz"] == b"weights0.2"


def test_what_was_kept_goes_when_the_new_training_is_finished(
    training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    training.start(0.1)
    training.interrupt(0.2)
    training.interrupt(0.3)
    assert len(training.run.list_folders("kept")) == 2, "each training of more than a minute"
    training.start(0.3)
    assert capsys.readouterr().out.count("no longer kept: ") == 2
    assert not any(name.startswith("kept/") for name in training.files())
    training.start(0.1)
    assert training.trained == [0.1, 0.2, 0.3, 0.1]


def test_less_than_a_minute_is_not_kept(training: Training) -> None:
    training.start(0.1)
    training.run.write_bytes(b"epoch,seconds\n1,30.0\n2,29.0\n", *HISTORY)
    training.interrupt(0.2)
    assert not training.run.exists("kept")


def test_a_setting_that_an_earlier_version_did_not_have_trains_nothing_again(
    training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    training.start(0.1)
    training._inputs = lambda run, config: {  # type: ignore[method-assign]
        "dataset": "d" * 64,
        "train": {"learning_rate": 0.1, "max_failures": Config().train.max_failures},
    }
    training.start(0.1)
    assert "complete and unchanged" in capsys.readouterr().out
    training._inputs = lambda run, config: {  # type: ignore[method-assign]
        "dataset": "d" * 64,
        "train": {"learning_rate": 0.1, "max_failures": 77},
    }
    training.start(0.1)
    assert "again, changed: train.max_failures: 3 -> 77" in capsys.readouterr().out


def kill_everywhere(tmp_path: Path, renames: bool, prepare: Callable[[Training], None], rate: float) -> None:
    """Kill a start with a rate at each of its changes of the disk; whatever comes then, no work is lost."""
    for back in (True, False):
        for changes in range(1000):
            training = Training(Run(str(tmp_path), f"{back}-{changes}"))
            prepare(training)
            done = list(training.trained)
            disk = Mortal(renames=renames, changes=changes)
            training.run.__dict__["_opened"] = (disk, training.run.path().lstrip("/"))
            with pytest.raises(Killed):
                training.start(rate, ends=False)
            complete = disk.left >= 0
            training.run = Run(training.run.storage, training.run.name)
            if not back:
                training.interrupt(rate)
            training.start(0.1)
            assert training.trained.count(0.1) == 1, f"trained again when killed at change {changes}"
            left = {tuple(name.split("/")) for name in training.files() if name.startswith("train/")}
            assert left - {("train", STARTED)} == {*FILES, ("train", MARKER)}
            assert training.files()["train/checkpoint_1/state.npz"] == b"weights0.1"
            assert done.count(0.1) == 1
            if complete:
                break
        else:
            pytest.fail("it never came to an end")
        assert changes >= 3


@pytest.mark.parametrize("renames", [True, False])
@pytest.mark.parametrize("finished", [True, False])
def test_killed_while_it_puts_aside_it_loses_nothing(finished: bool, renames: bool, tmp_path: Path) -> None:
    def prepare(training: Training) -> None:
        training.start(0.1) if finished else training.interrupt(0.1)

    kill_everywhere(tmp_path, renames, prepare, 0.2)


@pytest.mark.parametrize("renames", [True, False])
def test_killed_while_it_puts_back_it_loses_nothing(renames: bool, tmp_path: Path) -> None:
    def prepare(training: Training) -> None:
        training.interrupt(0.1)
        training.interrupt(0.2)

    kill_everywhere(tmp_path, renames, prepare, 0.1)


def test_the_work_of_a_sweep_is_that_of_its_trials(tmp_path: Path) -> None:
    run = Run(str(tmp_path), "first")
    run.write_json({"sweep": {}}, "sweep", STARTED)
    for trial in ("000", "001"):
        run.write_bytes(FILES[HISTORY], "sweep", "trials", trial, *HISTORY)
    assert kept.work_in(run, "sweep") == kept.Work(4, 200.0)
    lines = list[str]()
    with messages_to(lines.append):
        kept.put_aside(run, "sweep")
    (name,) = run.list_folders("kept")
    assert lines[0].startswith(f"4 epochs (3 min) of sweep/ are kept in {run.uri('kept', name)} until")
    assert run.exists("kept", name, "trials", "001", *HISTORY)
    assert kept.work_in(run, "dataset") == kept.Work()


def test_a_training_in_a_bucket_is_kept_as_well(tmp_path: Path) -> None:
    with s3_server("runs") as server:
        training = Training(Run("s3://runs/deep", "first"))
        training.start(0.1)
        before = set(server.objects("runs"))
        training.interrupt(0.2)
        training.start(0.1)
        assert training.trained == [0.1, 0.2]
        assert before == {
            key for key in server.objects("runs") if "/kept/" not in key and not key.endswith("/")
        }
