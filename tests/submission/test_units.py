"""Submitting a job, without a cluster: its command line, its environment, its log over broken connections."""

import asyncio
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from ray.job_submission import JobStatus
from ray.runtime_env import RuntimeEnv
from support.messages import messages_to

from brain_ray.checks import dashboard, packages
from brain_ray.cli import UsageError
from brain_ray.cluster import tokens
from brain_ray.errors import RunError
from brain_ray.recipes import RECIPES
from brain_ray.submission import jobs_api, runtime_env, submit
from brain_ray.submission.command import Order, check_paths, read_order, read_settings
from brain_ray.submission.log_follower import Follower, Printer, cause, tell_end

ROOT = Path(__file__).parents[2]


def test_own_options_stand_anywhere_and_the_rest_is_the_jobs() -> None:
    order = read_order(
        ["--address", "http://h:8265", "train", "b0", "--id=x1", "--name", "first", "--detach", "--debug"]
    )
    assert (order.job, order.words) == ("train", ("b0", "--name", "first", "--debug"))
    assert order.own == {"--address": "http://h:8265", "--id": "x1"}
    assert order.detach
    assert order.debug


def test_after_two_dashes_all_is_the_jobs() -> None:
    assert read_order(["doctor", "--", "--address", "h:1"]).words == ("--address", "h:1")


@pytest.mark.parametrize("word", ["train", "train.py", "jobs/train.py", "./jobs/train.py", "jobs/train"])
def test_a_job_goes_by_its_name_or_its_file(word: str) -> None:
    assert read_order([word]).job == "train"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["serve"], "no job is called 'serve': expected prepare, train,"),
        (["--train.epochs", "3", "train"], "which job? expected prepare,"),
        (["--address", "http://h"], "which job?"),
        (["train", "--id"], "--id needs a value"),
        (["train", "--id", "a/b"], "--id is 'a/b': expected letters"),
        (
            ["train", "--environment", "conda"],
            "--environment cannot be 'conda': expected auto, image, pip, uv",
        ),
        (["train", "--follow", "x1"], "--follow takes up a job that runs; 'train' has no place there"),
        (
            ["train", "b0", "--train.epoch", "3"],
            "unknown setting --train.epoch; did you mean --train.epochs?",
        ),
        (
            ["prepare", "smoke", "--data.sauce", "x"],
            "unknown setting --data.sauce; did you mean --data.source?",
        ),
        (["train", "b1"], "unknown recipe 'b1'; did you mean b0?"),
        (["train", "--name", "first", "--train.epochs", "x"], "--train.epochs: expected a whole number"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "check_dashboard", lambda address: pytest.fail("must not ask"))
    assert submit.main("A test.", argv) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1


def test_a_run_that_goes_on_is_not_held_to_the_settings_of_smoke() -> None:
    words = [
        "train",
        "--name",
        "first",
        "--train.frozen-epochs",
        "3",
    ]  # which smoke, without weights, refuses
    assert read_settings(read_order(words)) is not None
    with pytest.raises(UsageError, match="teach nothing"):
        read_settings(read_order(["train", "smoke", *words[1:]]))


@settings(deadline=None)  # other tests may run beside it
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))))
def test_words_arrive_as_they_were_given(words: Sequence[str]) -> None:
    assert shlex.split(submit.entrypoint(Order("train", tuple(words)))) == ["python", "jobs/train.py", *words]


def test_words_arrive_through_a_shell() -> None:
    words = ("a b", "it's", '"', "$HOME", "`id`", "*", "\\", "é\nü", "")
    show = shlex.quote(f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' \"$@\"")
    command = submit.entrypoint(Order("train", words)).replace("python ", f"sh -c {show} ", 1)
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == list(words)


def test_pip_and_uv_install_by_constraints() -> None:
    for tool in ("pip", "uv"):
        made = runtime_env.installed_by(tool, ROOT, ("optuna",))
        checked = RuntimeEnv(working_dir="gcs://x.zip", **made)
        lines = checked[tool]["packages"]
        assert lines[:-2] == packages.requirements(ROOT, ("optuna",))
        assert lines[-2] == "-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"
        assert lines[-1].startswith("# constraints.txt ")


def test_extras_follow_the_settings() -> None:
    config = RECIPES["sweep"]()
    assert runtime_env.extras_of(None) == ()
    assert runtime_env.extras_of(config) == (("gpu",) if config.train.use_gpu else ())


def write_project(folder: Path, pinned: str) -> Path:
    (folder / "pyproject.toml").write_text(
        '[project]\ndependencies = ["ray==2.60.*", "Pillow>=11", "nosuch_package>=1"]\n'
        '[project.optional-dependencies]\nmore = ["numpy>=2"]\n'
    )
    (folder / "constraints.txt").write_text(f"ray=={packages.version('ray')}\n    # via x\n{pinned}\n")
    return folder


def test_what_an_image_lacks_is_named(tmp_path: Path) -> None:
    project = write_project(
        tmp_path, "pillow==1.0 ; python_version < '4'\npillow==2.0 ; python_version >= '4'\nnumpy==1.0\n"
    )
    found = packages.differences(project)
    assert found == [f"Pillow is {packages.version('pillow')}, expected 1.0", "nosuch_package is missing"]
    assert packages.differences(project, ["more"])[-1].startswith("numpy is ")


def write_installed(site: Path, versions: dict[str, str], needs: Sequence[str] = ()) -> None:
    """Write what importlib finds of installed packages; the first has requirements."""
    for i, (name, number) in enumerate(versions.items()):
        folder = site / f"{name.replace('-', '_')}-{number}.dist-info"
        folder.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {number}"]
        lines += [f"Requires-Dist: {line}" for line in needs if i == 0]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")


def test_cuda_wheels_that_are_missing_or_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path, "")
    (project / "pyproject.toml").write_text(
        '[project]\ndependencies = ["tensorflow==2.21.*"]\n'
        "[project.optional-dependencies]\ngpu = ['tensorflow[and-cuda]==2.21.*']\n"
    )
    shutil.copy(ROOT / "constraints.txt", project)
    pinned_here = packages.pins(ROOT).items()  # those of CUDA 13 are of the endpoint's image for GPUs
    wheels = {
        name: number for name, number in pinned_here if name.startswith("nvidia-") and name.endswith("12")
    }
    assert len(wheels) == 12
    needs = [f'{name}<99,>=1; extra == "and-cuda"' for name in wheels]
    needs += ['winonly; sys_platform == "win32" and extra == "and-cuda"', 'gcs>=1; extra == "gcs"']
    found = {}
    for case, changed in {
        "whole": {},
        "one gone": {"nvidia-cusolver-cu12": None},
        "one older": {"nvidia-cudnn-cu12": "9.1.0"},
        "none": dict.fromkeys(wheels),
    }.items():
        there = {name: number for name, number in {**wheels, **changed}.items() if number}
        write_installed(tmp_path / case, {"tensorflow": packages.pins(ROOT)["tensorflow"], **there}, needs)
        monkeypatch.setattr(sys, "path", [str(tmp_path / case)])
        assert packages.differences(project) == []
        found[case] = packages.differences(project, ("gpu",))
    pinned = wheels["nvidia-cudnn-cu12"]
    assert found == {
        "whole": [],
        "one gone": ["nvidia-cusolver-cu12 is missing"],
        "one older": [f"nvidia-cudnn-cu12 is 9.1.0, expected {pinned}"],
        "none": [f"{name} is missing" for name in wheels],
    }


def test_requirements_count_where_their_markers_say_so() -> None:
    """As packaging has it, which a machine to be looked at may not have."""
    names = ("ray", "tensorflow", "uvicorn")
    lines = [line for name in names for line in requires(name) or () if ";" in line]
    lines += [line for line in (ROOT / "constraints.txt").read_text().splitlines() if " ; " in line]
    assert len(lines) > 50
    for line in lines:
        for extra in ("", "data", "and-cuda", "standard"):
            marker = Requirement(line).marker
            assert marker is not None
            assert packages.marker_holds(line, extra) == marker.evaluate({"extra": extra}), line


@pytest.mark.parametrize("driver", [True, False])
def test_an_image_without_a_gpu_is_not_asked_for_cuda_and_says_so(
    driver: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(packages, "differences", lambda _, extras: asked.append(list(extras)) or [])
    if driver:
        (tmp_path / "version").touch()
    assert packages.main(["optuna", "gpu"], tmp_path / "version") == 0
    assert asked == [["optuna", "gpu"] if driver else ["optuna"]]
    line = capsys.readouterr().out.strip()
    assert line == ("all there" if driver else f"all there{packages.UNASKED}")
    said: list[str] = []
    with messages_to(said.append):
        decided = runtime_env.decide(Probed(line), {}, ROOT, "auto", ("optuna", "gpu"), "x")
    assert decided == {}
    assert said == [f"job x: the image has what is needed{'' if driver else packages.UNASKED}"]


class Probed:
    """A client whose job has printed a line, and ended well."""

    def __init__(self, line: str) -> None:
        self._line = line

    def submit_job(self, **_: Any) -> str:
        return "probe"

    def get_job_info(self, _: str) -> Any:
        return SimpleNamespace(status=JobStatus.SUCCEEDED, driver_exit_code=0)

    def get_job_logs(self, _: str) -> str:
        return f"{self._line}\n"

    def delete_job(self, _: str) -> None:
        pass


def test_the_comparison_needs_nothing_but_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "brain_ray.checks.packages"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("lacks: ray is missing")
    assert done.stdout.count("\n") == 1


def test_paths_are_said_to_be_the_clusters() -> None:
    config = RECIPES["b0"]()
    config = config.model_copy(
        update={
            "storage": "runs",
            "data": config.data.model_copy(update={"source": "/data/mri"}),
            "model": config.model.model_copy(update={"weights": "s3://bucket/x.h5"}),
        }
    )
    storage, source = check_paths(config)
    assert storage.text.endswith("in the job's folder, which Ray deletes")
    assert source.name == "data.source"
    assert source.text == "/data/mri is a path on the cluster's machines, not on this one"
    assert (
        check_paths(config.model_copy(update={"storage": "gs://b/runs", "data": RECIPES["smoke"]().data}))
        == []
    )


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ("http://a:1/", {"RAY_API_SERVER_ADDRESS": "http://b:1"}, "http://a:1"),
        (None, {"RAY_API_SERVER_ADDRESS": "http://b:1", "RAY_ADDRESS": "https://c"}, "http://b:1"),
        (None, {"RAY_ADDRESS": "https://c"}, "https://c"),
        (None, {"RAY_ADDRESS": "10.0.0.1:6379"}, "http://127.0.0.1:8265"),
        ("a:8265", {}, "http://a:8265"),
    ],
)
def test_where_jobs_are_submitted(
    given: str | None, environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert jobs_api.find_address(given) == expected


def test_not_to_a_ray_client() -> None:
    with pytest.raises(RunError, match="expected http"):
        jobs_api.find_address("ray://head:10001")


def test_a_server_of_another_kind_and_another_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(status: int, text: str) -> None:
        response = requests.Response()
        response.status_code, response._content = status, text.encode()
        monkeypatch.setattr(dashboard, "_get_version", lambda address, headers: response)

    answer(200, "<html>")
    assert dashboard.check_dashboard("http://h")[-1].text == "what answers at http://h is not Ray's dashboard"
    answer(404, "{}")
    assert dashboard.check_dashboard("http://h")[-1].level == "error"
    answer(200, '{"ray_version": "2.59.1"}')
    names = {found.name: found for found in dashboard.check_dashboard("http://h")}
    assert names["ray version"].level == "error"
    assert "rayproject/ray:" in names["ray version"].cure
    answer(200, '{"ray_version": "2.60.99"}')
    assert dashboard.check_dashboard("http://h")[-1].level == "ok"


def test_a_servers_trace_is_one_line() -> None:
    error = RuntimeError(
        "Request failed with status code 500: Traceback (most recent call last):\n  File x\n"
        "ValueError: Job with submission_id x1 already exists. Please use a different submission_id.\n."
    )
    assert (
        jobs_api.explain(error)
        == "Job with submission_id x1 already exists. Please use a different submission_id"
    )
    assert jobs_api.explain(RuntimeError("Request failed with status code 404: Job x does not exist.")) == (
        "Job x does not exist"
    )


@pytest.mark.parametrize(
    ("status", "code", "line", "expected"),
    [
        ("SUCCEEDED", 0, "job x: succeeded after 12 s", 0),
        ("FAILED", 2, "job x: failed with exit code 2 after 12 s", 2),
        ("FAILED", -9, "job x: failed with exit code 137 after 12 s", 137),
        ("FAILED", None, "job x: failed after 12 s: ERROR: No matching distribution found for nosuch", 1),
        ("STOPPED", None, "job x: stopped after 12 s", 130),
    ],
)
def test_the_end_and_its_exit_code(status: str, code: int | None, line: str, expected: int) -> None:
    info = SimpleNamespace(
        status=JobStatus(status),
        driver_exit_code=code,
        start_time=1000,
        end_time=13400,
        message="runtime_env setup failed: x\nERROR: No matching distribution found for nosuch\n  File y",
    )
    assert tell_end("x", info) == (line, expected)


def test_a_message_without_a_telling_line_ends_with_its_last() -> None:
    assert cause("a\n b \n\n") == "b"
    assert cause("") == "Ray does not say why"


LINES = "".join(f"line {number} é\n" for number in range(50))


class BreakingClient:
    """A cluster whose job has a log, and whose connections end after so many characters each."""

    def __init__(self, ends: Sequence[tuple[int, BaseException | None]], outages: Sequence[int] = ()) -> None:
        self._ends, self._outages = list(ends), list(outages)
        self._down = 0
        self.done = False

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        length, error = self._ends.pop(0) if self._ends else (len(LINES), None)
        for start in range(0, length, 7):
            yield LINES[start : min(start + 7, length)]
        self._down = self._outages.pop(0) if self._outages else 0
        if error is not None:
            raise error
        self.done = length == len(LINES)

    def get_job_info(self, job: str) -> Any:
        if self._down:
            self._down -= 1
            raise requests.ConnectionError("[Errno 111] Connection refused")
        return SimpleNamespace(status=JobStatus.SUCCEEDED if self.done else JobStatus.RUNNING)

    def get_job_logs(self, job: str) -> str:
        return LINES if self.done else ""


def follow_all(fake: Any, **options: float) -> tuple[str, list[str], list[float]]:
    out, said, slept = io.StringIO(), [], []
    with messages_to(said.append):
        Follower(fake, "x", "submit --follow x", out, slept.append, **options).follow()
    return out.getvalue(), said, slept


@settings(deadline=None)  # other tests may run beside it
@given(
    st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.booleans()), max_size=6),
    st.lists(st.integers(0, 3), max_size=6),
)
def test_no_line_is_lost_or_doubled_wherever_the_stream_breaks(
    cuts: list[tuple[int, bool]], outages: list[int]
) -> None:
    broken = RuntimeError("WebSocket connection closed unexpectedly with close code 1006")
    fake = BreakingClient([(length, broken if hard else None) for length, hard in cuts], outages)
    assert follow_all(fake)[0] == LINES


def test_a_break_is_a_line_and_waits_grow() -> None:
    broken = OSError("cut")
    out, said, slept = follow_all(BreakingClient([(0, broken)] * 7))
    assert out == LINES
    assert said == ["the connection to the log broke (cut); trying again"]
    assert slept == [1, 2, 4, 8, 10, 10, 10]


def test_a_cluster_that_stays_away_is_given_up() -> None:
    with pytest.raises(RunError, match=r"not answered for 3\d\d s \(connection refused\).*submit --follow x"):
        follow_all(BreakingClient([(10, OSError("cut"))], [10**6]))


def test_a_cluster_started_anew_does_not_know_the_job() -> None:
    class Anew(BreakingClient):
        def get_job_info(self, job: str) -> Any:
            raise RuntimeError("Request failed with status code 404: Job x does not exist.")

    with pytest.raises(RunError, match="no longer knows job x"):
        follow_all(Anew([(10, OSError("cut"))]))


def test_a_silent_stream_is_taken_up_anew() -> None:
    class Silent(BreakingClient):
        calls = 0

        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            Silent.calls += 1
            if Silent.calls == 1:
                yield LINES[:20]
                await asyncio.sleep(60)
            async for text in super().tail_job_logs(job):
                yield text

    out, said, _ = follow_all(Silent([]), silence_s=0.05)
    assert (out, said) == (LINES, [])


def test_without_a_stream_the_log_still_comes() -> None:
    class NoStream(BreakingClient):
        asked = 0

        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            raise RuntimeError("no websockets here")
            yield ""

        def get_job_logs(self, job: str) -> str:
            self.asked += 1
            self.done = self.asked == 5
            return LINES[: 60 * self.asked] if not self.done else LINES

    out, said, _ = follow_all(NoStream([]))
    assert out == LINES
    assert len(said) == 1


def test_an_output_that_nobody_reads_ends_it() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out, pytest.raises(RunError, match="nobody reads the log"):
        Printer(out).take("x")


@pytest.fixture
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a token, and nothing said about one."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_where_a_token_is_found_in_rays_order(no_token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tokens.find_token() is None
    (no_token / ".ray").mkdir()
    (no_token / ".ray" / "auth_token").write_text("one\n")
    assert tokens.find_token() == "~/.ray/auth_token"
    other = no_token / "other"
    other.write_text("two\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(other))
    assert tokens.find_token() == str(other)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "three")
    assert tokens.find_token() == "RAY_AUTH_TOKEN"


def test_a_path_without_a_token_is_an_error(no_token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(no_token / "none"))
    assert tokens.find_token() is None
    with pytest.raises(RunError, match=r"RAY_AUTH_TOKEN_PATH is .*none, where there is no token"):
        tokens.use_token()


@pytest.mark.parametrize(
    ("said", "mode", "shown"),
    [
        ({}, None, False),
        ({"RAY_AUTH_TOKEN": "hush"}, "token", True),
        ({"RAY_AUTH_TOKEN": "hush", "RAY_AUTH_MODE": "disabled"}, "disabled", False),
    ],
)
def test_a_token_that_is_found_is_shown_unless_the_mode_says_otherwise(
    no_token: Path, said: dict[str, str], mode: str | None, shown: bool
) -> None:
    code = (
        "import os, ray\n"
        "from ray._private.authentication import http_token_authentication as http\n"
        "from brain_ray.cluster import tokens\n"
        "tokens.use_token()\n"
        "print([os.environ.get('RAY_AUTH_MODE'), bool(http.get_auth_headers_if_auth_enabled({}))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **said},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (f"{[mode, shown]}\n", "")


def test_the_bundle_to_score_is_no_setting_and_goes_to_the_job() -> None:
    order = read_order(["evaluate", "--bundle", "s3://b/bundle", "--data.source", "s3://b/images"])
    config = read_settings(order)
    assert config is not None
    assert config.data.source == "s3://b/images"
    assert order.words[:2] == ("--bundle", "s3://b/bundle")
