"""Keys on command lines: no job prints them, stores them or sends them on."""

from collections.abc import Callable

import pytest

from brain_ray.bundle import register
from brain_ray.checks import doctor
from brain_ray.errors import RunError
from brain_ray.serving import predict
from brain_ray.serving import serve as launch
from brain_ray.submission import jobs_api, submit

PLACE = "s3://AKIA:hid/den@bucket/runs"


def serve(argv: list[str]) -> int:
    with pytest.raises(RunError) as refused:
        launch.main(argv)
    assert "hid" not in str(refused.value)
    return 2


JOBS: dict[str, Callable[[list[str]], int]] = {
    "submit": lambda argv: submit.main("", argv),
    "doctor": lambda argv: doctor.main("", argv),
    "predict": lambda argv: exit_code(lambda: predict.run("", argv)),
    "register": lambda argv: register.main("", argv, "register.py"),
    "serve": serve,
}


def exit_code(run: Callable[[], object]) -> int:
    with pytest.raises(SystemExit) as stop:
        run()
    return int(str(stop.value.code))


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("submit", ["train", "b0", "--storage", PLACE]),
        ("submit", ["control", PLACE, "status"]),
        ("submit", ["predict", "--bundle", PLACE, "a.png"]),
        ("submit", ["predict", "--url", "https://me:hid/den@host", "a.png"]),
        ("submit", ["train", "--address", "https://me:hid@host:8265"]),
        ("submit", [PLACE]),
        ("submit", ["--follow", PLACE]),
        ("doctor", ["b0", "--data.source", PLACE]),
        ("doctor", ["b0", "--address", "https://hid@host:8265"]),
        ("predict", ["--bundle", PLACE, "a.png"]),
        ("predict", ["--bundel", PLACE, "a.png"]),
        ("predict", ["--url", "https://host", PLACE]),
        ("register", ["--bundle", PLACE, "--name", "brain-mr"]),
        ("serve", ["--bundle", PLACE, "--write-config", "/nowhere/serve.yaml"]),
        ("serve", ["--bundel", PLACE]),
    ],
)
def test_a_key_on_a_command_line_is_refused_and_not_printed(
    job: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert JOBS[job](words) == 2
    said = capsys.readouterr()
    assert "hid" not in said.out + said.err
    assert job == "serve" or said.err.startswith("error: ")
    assert said.err.count("\n") <= 1


@pytest.mark.parametrize("variable", ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"])
def test_a_key_in_a_cluster_s_address_is_refused(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://me:hidden@head:8265")
    with pytest.raises(RunError, match="the cluster's address is a URI with keys in it") as refused:
        jobs_api.find_address()
    assert "hidden" not in str(refused.value)
