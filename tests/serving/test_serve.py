"""The job that serves: whose keys it takes, and a proxy that does not start."""

import codecs
import hashlib
import os
from pathlib import Path

import pytest
import yaml

from brain_ray.errors import RunError
from brain_ray.serving import serve as launch
from brain_ray.serving.config import ServingConfig


def written(folder: Path, *words: str) -> tuple[str, ...]:
    """Return the hashes of keys that the job writes into a config file."""
    file = folder / "serve.yaml"
    launch.main(["--bundle", "b", "--write-config", str(file), *words])
    arguments = yaml.safe_load(file.read_text())["applications"][0]["args"]
    return tuple(arguments.get("api_keys_sha256", ()))


def hashes(*keys: str) -> tuple[str, ...]:
    return tuple(hashlib.sha256(key.encode()).hexdigest() for key in keys)


@pytest.mark.parametrize(
    "content",
    [
        b"first\nsecond\n",
        b"first\r\nsecond",
        b"# keys of ward 7\n\n  first \n\t\n# alice\nsecond\n",
        codecs.BOM_UTF8 + b"first\nsecond\n",
    ],
)
def test_a_file_has_one_key_a_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_bytes(content)
    assert written(tmp_path, "--api-keys-file", str(tmp_path / "keys.txt")) == hashes("first", "second")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"first\nalice: hidden\n", "line 2 of .* is no API key: expected one key, of printable ASCII"),
        (b"first\nhidden # of alice\n", "line 2 of .* is no API key"),
        ("first\n\nhidd\u00fcn\n".encode(), "line 3 of .* is no API key"),
        ("hidden\u00a0hidden\n".encode(), "line 1 of .* is no API key"),
        (b"hid\x1cden\n", "line 1 of .* is no API key"),
        (b"hid\rden\n", "line 1 of .* is no API key"),
        (b"hidden\nhid\xffden\n", "cannot read the API keys of .*: expected text in UTF-8"),
        (codecs.BOM_UTF16_LE + "hidden\n".encode("utf-16-le"), "expected text in UTF-8"),
        (b"\n # nobody\n", "holds no API key: expected one a line"),
        (b"", "holds no API key"),
    ],
)
def test_what_is_no_key_is_an_error_that_does_not_show_it(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_bytes(content)
    with pytest.raises(RunError, match=said) as refused:
        written(tmp_path, "--api-keys-file", str(tmp_path / "keys.txt"))
    assert "hid" not in str(refused.value)


def test_a_file_that_is_not_named_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot read the API keys of"):
        written(tmp_path, "--api-keys-file", "")


def test_keys_of_the_environment_are_taken_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAIN_RAY_API_KEYS", " first,second\nthird, ")
    assert written(tmp_path) == hashes("first", "second", "third")
    assert "BRAIN_RAY_API_KEYS" not in os.environ


@pytest.mark.parametrize("value", ["", " ", " , ,\n"])
def test_a_variable_without_a_key_is_no_open_endpoint(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAIN_RAY_API_KEYS", value)
    with pytest.raises(RunError, match="BRAIN_RAY_API_KEYS is set, and holds no API key"):
        written(tmp_path)


def test_an_odd_key_of_the_environment_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAIN_RAY_API_KEYS", "first,hidd\u00fcn")
    with pytest.raises(RunError, match="key 2 of BRAIN_RAY_API_KEYS is no API key") as refused:
        written(tmp_path)
    assert "hid" not in str(refused.value)


def test_keys_and_no_keys_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAIN_RAY_API_KEYS", "first")
    with pytest.raises(RunError, match="--no-api-keys is given, and API keys as well"):
        written(tmp_path, "--no-api-keys")


def test_a_config_file_without_keys_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert written(tmp_path) == ()
    assert "warning: " in capsys.readouterr().out
    (tmp_path / "keys.txt").write_text("first\n")
    written(tmp_path, "--api-keys-file", str(tmp_path / "keys.txt"))
    assert "warning" not in capsys.readouterr().out


def test_a_proxy_that_does_not_start_is_one_line() -> None:
    from ray.exceptions import ActorDiedError

    def too_slow(**_: object) -> None:
        raise ActorDiedError

    with pytest.raises(
        RunError, match=r"the endpoint's proxy did not start \(try again if .* busy\): ."
    ) as told:
        launch.put_on_air(ServingConfig(bundle="b"), start=too_slow)
    assert "\n" not in str(told.value)
