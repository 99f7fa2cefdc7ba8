"""MLflow: logs a run's epochs, parameters and bundle from a thread, so that training never waits for it."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import time
from typing import Any

from pyarrow import fs as pafs

from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.fingerprints import flatten
from brain_ray.logs import log
from brain_ray.runs import BUNDLE, MLFLOW, Run
from brain_ray.tracking.history import EpochRecord, read_history

INSTALL = "pip install 'mlflow-skinny>=3.7,<4'"
"""Command that installs MLflow's client."""


@contextmanager
def mlflow_run(run: Run, config: Config) -> Iterator[Callable[[EpochRecord], None]]:
    """Yields a function that logs an epoch to MLflow, or does nothing if MLflow is not wanted.

    The function returns at once. A server that does not answer is reported once and never ends a training;
    what it has missed is logged after the next epoch, at the end, or with the bundle.

    Args:
        run: has the file with the MLflow run's id, so that a resumed run continues the same one.
        config: its settings become the parameters, by their dotted names.

    Raises:
        RunError: MLflow is requested but not installed.
    """
    uri = tracking_uri(run, config)
    if uri is None:
        yield lambda _: None
        return
    records = read_history(run)
    guard = _Guard()
    status = "FAILED"
    with ThreadPoolExecutor(1) as pool:
        logged: Future[None] = pool.submit(lambda: None)

        def keep(record: EpochRecord) -> None:
            nonlocal logged
            records.append(record)
            if logged.done():  # else the next one takes this epoch along
                logged = pool.submit(guard.trying, _log, run, config, uri, tuple(records), "RUNNING")

        try:
            yield keep
            status = "FINISHED"
        finally:
            pool.submit(guard.trying, _log, run, config, uri, tuple(records), status)


def log_bundle(run: Run, config: Config) -> None:
    """Logs the exported bundle to the MLflow run of this run, and the epochs that it has missed."""
    uri = tracking_uri(run, config)
    if uri is not None:
        _Guard().trying(_log, run, config, uri, read_history(run), "FINISHED", bundle=True)


def tracking_uri(run: Run, config: Config) -> str | None:
    """Returns the URI where MLflow records a run, or None if it does not.

    Raises:
        RunError: MLflow is requested but not installed.
    """
    uri = config.train.mlflow_uri
    installed = find_spec("mlflow") is not None
    if uri == "none" or (uri == "auto" and (not installed or "://" in run.storage)):
        return None
    if not installed:
        raise RunError(
            f"train.mlflow_uri is {uri}, and MLflow is not installed: {INSTALL}, or set it to none"
        )
    if uri == "auto":
        return (Path(run.storage) / "mlruns").as_uri()
    return uri if ":" in uri else Path(uri).expanduser().resolve().as_uri()


class _Guard:
    """Context manager that suppresses MLflow's errors and logs the first one in a line."""

    def __init__(self) -> None:
        self._logged = False

    def trying(self, work: Callable[..., None], *args: Any, **options: Any) -> None:
        try:
            work(*args, **options)
        except Exception as error:  # of a server, a proxy, a disk: of none of them a training may die
            if not self._logged:
                first = (str(error).strip() or "no message").splitlines()[0]
                log.info(f"mlflow: {type(error).__name__}: {first[:300]} (the run goes on without it)")
            self._logged = True


def _log(
    run: Run, config: Config, uri: str, records: Iterable[EpochRecord], status: str, *, bundle: bool = False
) -> None:
    """Brings an MLflow run up to date; what it already has is not logged again."""
    from mlflow.entities import Metric

    client = make_client(uri)
    number = _find_or_start(client, run, config, uri)
    known = {metric.step for metric in client.get_metric_history(number, "seconds")}
    for record in records:
        if record.epoch not in known:
            now = int(time() * 1000)
            metrics = [Metric(name, value, now, record.epoch) for name, value in record.metrics().items()]
            client.log_batch(number, metrics=metrics)
    if bundle:
        with tempfile.TemporaryDirectory() as folder:
            pafs.copy_files(run.path(BUNDLE), folder, run.fs, pafs.LocalFileSystem())
            client.log_artifacts(number, folder, "bundle")
    client.update_run(number, status=status) if status == "RUNNING" else client.set_terminated(number, status)


def make_client(uri: str) -> Any:
    """Returns MLflow's client of a server or folder, which waits for no server that is away."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it would tell its makers of each run
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A server that is away is asked again after the next epoch, not for half an hour.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    if uri.startswith("file:"):
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # MLflow gets nothing new for it, and keeps it
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def find_experiment(client: Any) -> str:
    """Returns the id of the experiment `brain_ray`, which is made where it is not there."""
    from mlflow.exceptions import MlflowException

    if client.get_experiment_by_name("brain_ray") is None:
        with suppress(MlflowException):  # another run was first
            client.create_experiment("brain_ray")
    return str(client.get_experiment_by_name("brain_ray").experiment_id)


def _find_or_start(client: Any, run: Run, config: Config, uri: str) -> str:
    from mlflow.entities import Param

    kept = run.read_json(*MLFLOW) if run.exists(*MLFLOW) else {}
    if kept.get("uri") == uri:
        return str(kept["run_id"])
    tags = {"recipe": config.recipe, "storage": run.uri()}
    number = str(client.create_run(find_experiment(client), run_name=run.name, tags=tags).info.run_id)
    params = [Param(name, str(value)) for name, value in flatten(config.model_dump(mode="json")).items()]
    for start in range(0, len(params), 100):  # as many as MLflow takes at once
        client.log_batch(number, params=params[start : start + 100])
    run.write_json({"uri": uri, "run_id": number}, *MLFLOW)
    return number
