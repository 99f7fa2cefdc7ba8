"""MLflow's model registry: a bundle goes in by the job, and is opened and served by its name there."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from brain_ray import jobs
from brain_ray.bundle.bundle import BundleError, load_bundle
from brain_ray.bundle.predictor import Predictor
from brain_ray.errors import RunError
from brain_ray.serving.serve import main as serve
from brain_ray.tracking import mlflow_registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry in a folder; it has what a server's has."""
    uri = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    return uri


def register(bundle: Path, *words: str) -> int:
    return jobs.run("register", "register.py", ["--bundle", str(bundle), "--name", "brain-mr", *words])


def test_a_registered_bundle_is_opened_by_version_and_alias(
    registry: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register(bundle) == 0
    assert register(bundle, "--alias", "champion") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "registered: models:/brain-mr/1"
    assert second == "registered: models:/brain-mr/2, models:/brain-mr@champion"
    for location in ("models:/brain-mr/1", "models:/brain-mr@champion"):
        load_bundle(location).verify()
        assert Predictor(location).id == Predictor(str(bundle)).id
    version = MlflowClient(registry).get_model_version("brain-mr", "2")
    assert "Not for clinical use" in version.description
    assert version.tags["brain_ray.id"] == Predictor(str(bundle)).id
    file = tmp_path / "serve.yaml"
    serve(["--bundle", "models:/brain-mr@champion", "--write-config", str(file)])
    assert "bundle: models:/brain-mr/2" in file.read_text(), "an alias may mean another one tomorrow"


def test_what_is_not_there_is_a_line(registry: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for location, said in (
        ("models:/brain-mr/1", r"cannot fetch models:/brain-mr/1 in MLflow's registry"),
        ("models:/brain-mr@x", r"cannot find models:/brain-mr@x in MLflow's registry"),
        ("models:/brain-mr", r"expected models:/NAME/VERSION or models:/NAME@ALIAS"),
        ("models:/brain-mr/latest", r"expected models:/NAME/VERSION"),
    ):
        with pytest.raises(RunError, match=said) as told:
            load_bundle(location)
        assert "\n" not in str(told.value)
    assert register(bundle / "nothing") == 1
    assert "no bundle at" in capsys.readouterr().err
    (bundle / "model.onnx").write_bytes(b"changed")
    assert register(bundle) == 1
    assert "was changed or is incomplete" in capsys.readouterr().err
    assert not MlflowClient(registry).search_registered_models()


def test_a_registration_that_ends_early_leaves_no_run_that_seems_to_go_on(
    registry: str, tmp_path: Path
) -> None:
    (folder := tmp_path / "unreadable").mkdir()
    (folder / "model.onnx").symlink_to(tmp_path / "nothing")
    with pytest.raises(RunError, match="cannot register brain-mr"):
        mlflow_registry.register(folder, "brain-mr", "", {})
    client = MlflowClient(registry)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert [run.info.status for run in runs] == ["FAILED"]
    assert not client.search_registered_models()


def test_a_bundle_that_was_changed_in_the_registry_is_not_opened(
    registry: str, bundle: Path, tmp_path: Path
) -> None:
    assert register(bundle) == 0
    (file,) = (tmp_path / "mlruns").rglob("bundle.json")
    info = json.loads(file.read_text())
    file.write_text(json.dumps(info | {"format": 99}))
    with pytest.raises(BundleError, match="has the format 99"):
        load_bundle("models:/brain-mr/1")


def test_a_registry_has_to_be_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RunError, match="set MLFLOW_TRACKING_URI"):
        load_bundle("models:/brain-mr/1")
    assert register(bundle) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:s3cret@host")
    with pytest.raises(RunError, match="a URI with keys in it") as told:
        load_bundle("models:/brain-mr/1")
    assert "s3cret" not in str(told.value)
