"""MLflow's model registry: bundles by name, and by version or alias.

The server is that of MLFLOW_REGISTRY_URI, else of MLFLOW_TRACKING_URI.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from brain_ray.errors import RunError, first_line
from brain_ray.storage import refuse_keys
from brain_ray.tracking.mlflow import INSTALL, find_experiment, make_client

PREFIX = "models:/"

REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>[1-9][0-9]*)|@(?P<alias>[A-Za-z0-9_-]+))")


def is_registered(location: str) -> bool:
    """Returns whether a bundle's location is one in a registry rather than a path or a storage's URI."""
    return location.startswith(PREFIX)


def pin(location: str) -> str:
    """Returns a location with the version, `models:/NAME/VERSION`, that an alias stands for now.

    Raises:
        RunError: as `locate`.
    """
    found = _parse(location)
    if found["version"]:
        return location
    client = connect()
    try:
        version = client.get_model_version_by_alias(found["name"], found["alias"]).version
    except Exception as error:  # of MLflow, of a connection
        raise _failure(f"cannot find {location}", error) from error
    return f"{PREFIX}{found['name']}/{version}"


def locate(location: str) -> str:
    """Returns the folder of a registered bundle; of a server's artifacts, a copy that this process keeps.

    Args:
        location: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Raises:
        RunError: another form, no MLflow, no registry named, no such model, or its files cannot be read.
    """
    return _fetch(registry_uri(), pin(location))


@cache
def _fetch(uri: str, location: str) -> str:
    """Returns the folder of a version: what it holds does not change."""
    found, client = _parse(location), connect()
    try:
        source = client.get_model_version_download_uri(found["name"], found["version"])
        parts = urlsplit(source)
        if parts.scheme in ("", "file"):
            return url2pathname(parts.path)
        from mlflow.artifacts import download_artifacts

        folder = tempfile.mkdtemp(prefix="brain_ray-bundle-")
        return str(download_artifacts(artifact_uri=source, dst_path=folder, tracking_uri=uri))
    except Exception as error:
        raise _failure(f"cannot fetch {location}", error) from error


def register(
    folder: Path, name: str, description: str, tags: dict[str, str], alias: str | None = None
) -> str:
    """Logs a bundle's folder to MLflow, and registers it as the next version of a model; returns the version.

    If that fails or is interrupted, the run that was begun for it counts as failed.

    Raises:
        RunError: no MLflow, no registry named, or it refuses.
    """
    client = connect()
    try:
        run = client.create_run(find_experiment(client), run_name=name, tags=tags)
        with _failed_unless_done(client, run.info.run_id):
            client.log_artifacts(run.info.run_id, str(folder), "bundle")
        client.set_terminated(run.info.run_id)
        if not any(model.name == name for model in client.search_registered_models(f"name='{name}'")):
            client.create_registered_model(name)
        version = client.create_model_version(
            name,
            f"{run.info.artifact_uri}/bundle",
            run_id=run.info.run_id,
            tags=tags,
            description=description,
            await_creation_for=None,  # it is there when the server answers
        ).version
        if alias:
            client.set_registered_model_alias(name, alias, version)
    except Exception as error:
        raise _failure(f"cannot register {name}", error) from error
    return str(version)


@contextmanager
def _failed_unless_done(client: Any, run_id: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(Exception):  # the server may be gone
            client.set_terminated(run_id, "FAILED")
        raise


def registry_environment(locations: Iterable[str | None]) -> dict[str, str]:
    """Returns the variables by which a process on another machine finds the registry of some bundles; none,
    if no location is in a registry, or this process knows of none.

    Raises:
        RunError: as `registry_uri`, of a password.
    """
    if _named() and any(map(is_registered, filter(None, locations))):
        # Both: where no tracking server is named, MLflow makes a database in the current folder.
        return dict.fromkeys(("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI"), registry_uri())
    return {}


def registry_uri() -> str:
    """Returns the registry's address.

    Raises:
        RunError: none is named, or one with a password in it, which errors would show.
    """
    uri = _named()
    if not uri:
        raise RunError(
            "a model of MLflow's registry is asked for, and no registry is named: set MLFLOW_TRACKING_URI, "
            "such as http://127.0.0.1:5000"
        )
    refuse_keys(uri)
    return uri


def _named() -> str | None:
    return os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI")


def connect() -> Any:
    """Returns MLflow's client for the registry.

    Raises:
        RunError: no MLflow, or no registry named.
    """
    uri = registry_uri()
    if find_spec("mlflow") is None:
        raise RunError(f"MLflow is not installed, whose registry is asked for: {INSTALL}")
    return make_client(uri)


def _parse(location: str) -> "re.Match[str]":
    found = REGISTERED.fullmatch(location)
    if found is None:
        raise RunError(
            f"{location} is no registered model: expected models:/NAME/VERSION or models:/NAME@ALIAS"
        )
    return found


def _failure(what: str, error: Exception) -> RunError:
    return RunError(f"{what} in MLflow's registry: {type(error).__name__}: {first_line(error)[:300]}")
