"""The console script, the package's own names, and the scripts in jobs/: one definition for all."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from brain_ray import jobs
from brain_ray.submission.command import JOBS as SUBMITTED

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "jobs").glob("[a-z]*.py"))


def python(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


def test_every_job_has_a_script_and_a_name() -> None:
    assert sorted(jobs.JOBS) == SCRIPTS
    assert set(SUBMITTED) <= set(jobs.JOBS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_the_job_is_for(name: str) -> None:
    tree = ast.parse((ROOT / "jobs" / f"{name}.py").read_text())
    assert ast.get_docstring(tree) == jobs.JOBS[name].summary
    (call,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert ast.unparse(call) == f"start('{name}')"


def test_the_overview_has_a_line_for_each_job_and_imports_next_to_nothing() -> None:
    code = (
        "import sys; sys.argv = ['brain-ray', '--help']\n"
        "from brain_ray.jobs import main\n"
        "assert main() == 0\n"
        "heavy = {'pydantic', 'tyro', 'numpy', 'pyarrow', 'ray', 'httpx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "usage: brain-ray JOB [WORDS ...]"
    assert all(sum(line.startswith(f"  {name} ") for line in lines) == 1 for name in jobs.JOBS)
    assert max(map(len, lines)) <= 110


def test_the_help_of_a_job_imports_neither_ray_nor_tensorflow() -> None:
    code = (
        "import sys\n"
        "from brain_ray.jobs import run\n"
        "try: run('pipeline', 'brain-ray pipeline', ['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'ray', 'tensorflow', 'pandas', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: brain-ray pipeline [RECIPE]")


def test_the_package_has_its_names_without_importing_what_is_behind_them() -> None:
    code = (
        "import sys, brain_ray\n"
        "heavy = {'numpy', 'httpx', 'onnxruntime', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert set(brain_ray.__all__) <= set(dir(brain_ray))\n"
        "from brain_ray import AsyncClient, Client, Predictor, load_bundle\n"
        "import brain_ray.bundle.bundle, brain_ray.bundle.predictor, brain_ray.serving.client as client\n"
        "assert load_bundle is brain_ray.bundle.bundle.load_bundle\n"
        "assert Predictor is brain_ray.bundle.predictor.Predictor\n"
        "assert (Client, AsyncClient) == (client.Client, client.AsyncClient)\n"
        "assert 'Predictor' in vars(brain_ray)\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_name_that_the_package_has_not() -> None:
    with pytest.raises(ImportError, match="Predicter"):
        from brain_ray import Predicter  # type: ignore[attr-defined]  # noqa: F401


WRONG = [
    (["trian"], "no job is called 'trian'; did you mean train?"),
    (["serve"], "--bundle is missing; --help says more"),
    (["serve", "--bundel", "x"], "unknown setting --bundel; did you mean --bundle?"),
    (["serve", "--bundle", "x", "--no-api-key"], "unknown setting --no-api-key; did you mean --no-api-keys?"),
    (["serve", "--bundle", "x", "--port", "ten"], "--port: expected a whole number, found 'ten'"),
    (
        ["serve", "--bundle", "x", "--canary-mode", "splt"],
        "--canary-mode cannot be 'splt'; did you mean split?",
    ),
    (["serve", "--bundle", "x", "--api-keys-file"], "argument --api-keys-file: expected one argument"),
    (["predict", "--bundel", "x", "y.png"], "unknown option --bundel; did you mean --bundle?"),
    (["predict", "y.png"], "one of the arguments --url --bundle is required"),
    (["control", "first", "statsu"], "'statsu' says nothing to a run: expected status | halt | extend N"),
    (["control", "first"], "the following arguments are required: WORD"),
    (["doctor", "b00"], "unknown recipe 'b00'; did you mean b0?"),
    (["doctor", "--adress", "x"], "unknown setting --adress; did you mean --address?"),
    (["doctor", "--address"], "argument --address: expected one argument"),
    (["submit", "trian"], "no job is called 'trian': expected prepare, train, tune"),
    (["submit", "train", "b0", "--train.epoch", "3"], "unknown setting --train.epoch; did you mean"),
    (["pipeline", "--tunes"], "unknown setting --tunes; did you mean --tune?"),
    (
        ["evaluate", "b0", "--name", "a/b"],
        "name is 'a/b': expected a plain folder name, without / and spaces",
    ),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_every_job_answers_a_typo_in_one_line(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/brain-ray", *words])
    try:
        code: object = jobs.main()
    except SystemExit as stop:
        code = stop.code
    heard = capsys.readouterr()
    assert (code, heard.out) == (2, "")
    assert heard.err.startswith(f"error: {said}")
    assert heard.err.count("\n") == 1


def test_the_module_and_the_scripts_say_what_was_typed() -> None:
    for words, usage in (
        (["-m", "brain_ray", "train", "--help"], "usage: python -m brain_ray train [RECIPE]"),
        ([str(ROOT / "jobs" / "train.py"), "--help"], "usage: train.py [RECIPE]"),
        (["-m", "brain_ray", "control", "--help"], "usage: python -m brain_ray control [-h] RUN WORD"),
    ):
        done = python(*words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(usage)


def test_no_colours_where_none_are_wanted() -> None:
    for job in ("serve", "train"):
        done = python("-m", "brain_ray", job, "--help", "all"[: 3 * (job == "train")] or "-h", NO_COLOR="1")
        assert done.returncode == 0, done.stderr
        assert "\x1b[" not in done.stdout


def test_a_python_without_the_packages_is_told_which_one_has_them() -> None:
    # -S: no packages, not even brain_ray; as a system's own Python
    done = python("-S", str(ROOT / "jobs" / "train.py"), "--name", "a b", PYTHONPATH="")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(
        f"error: {sys.executable} cannot run this job (No module named 'brain_ray'): "
    )
    assert done.stderr.endswith(f"/.venv/bin/python {ROOT}/jobs/train.py --name 'a b'\n")
    assert done.stderr.count("\n") == 1
    assert ("`make install` in" in done.stderr) != (ROOT / ".venv").exists()


def test_a_python_with_some_of_the_packages_is_told_what_it_lacks() -> None:
    done = python("-S", str(ROOT / "jobs" / "train.py"))
    assert done.returncode == 1
    assert "(No module named 'pydantic')" in done.stderr or "(No module named 'tyro')" in done.stderr
    assert done.stderr.count("\n") == 1
