"""What brain_ray uses of Ray's private parts is there, and without it less is done, and nothing fails."""

import inspect
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from ray._private import node, services
from ray._private.ray_logging import stdout_deduplicator
from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE
from ray.data import DataContext
from ray.data._internal.execution.resource_manager import ResourceManager
from ray.train.v2._internal import constants
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.controller import state
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from support.jobs import environment_of
from support.messages import messages_to

from brain_ray.checks import upload_size
from brain_ray.cluster import private, private_data
from brain_ray.cluster.autoscaling import room_for_loading
from brain_ray.cluster.connection import SLOW_START
from brain_ray.config import TrainConfig
from brain_ray.training import callbacks, trainer


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Takes the private modules away, as a later version of Ray might."""
    for name in (
        "ray._private.utils",
        "ray._private.ray_logging",
        "ray._private.authentication.http_token_authentication",
        "ray._raylet",
        "ray.train.v2._internal.execution.callback",
        "ray.train.v2._internal.callbacks.datasets",
        "ray._private.runtime_env",
        "ray._private.grpc_utils",
        "ray.autoscaler.v2.sdk",
        "ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator",
        "ray.data._internal.execution.resource_manager",
        "ray.data._internal.execution.execution_callback",
        "ray.air.execution._internal.actor_manager",
    ):
        monkeypatch.setitem(sys.modules, name, None)
    return monkeypatch


DRAINED = """
import time
import ray
from ray._raylet import GcsClient
from brain_ray.cluster import private

@ray.remote
class Trial:  # an idle node would be ended at once
    def is_told(self):
        return private.is_draining()

ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR")
context, trial = ray.get_runtime_context(), Trial.remote()
print(ray.get(trial.is_told.remote()))
deadline = int(1000 * (time.time() + 60))
GcsClient(address=context.gcs_address).drain_node(context.get_node_id(), 2, "a test", deadline)
end = time.monotonic() + 20
while not ray.get(trial.is_told.remote()) and time.monotonic() < end:
    time.sleep(0.1)
print(ray.get(trial.is_told.remote()))
"""


def test_a_process_learns_that_its_node_is_about_to_go(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRAINED],
        capture_output=True,
        text=True,
        env=environment_of(tmp_path),
        check=True,
    )
    assert done.stdout.split() == ["False", "True"], done.stderr


@pytest.mark.usefixtures("without")
def test_without_rays_client_no_node_is_about_to_go() -> None:
    assert not private.is_draining()


def test_a_ray_that_was_started_on_this_machine_is_found_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    code = "from brain_ray.cluster import private; print(private.running_address())"
    folder = tmp_path / "ray"
    folder.mkdir()
    found = []
    for text in ("", "10.0.0.1:6379"):
        (folder / "ray_current_cluster").write_text(text)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found.append(done.stdout.strip())
    assert found == ["None", "10.0.0.1:6379"]


@pytest.mark.usefixtures("ray_cluster")
def test_the_logs_of_an_own_ray_have_a_folder() -> None:
    logs = private.session_logs()
    assert logs is not None
    assert (Path(logs) / "raylet.out").exists()


def test_a_token_is_shown_over_http() -> None:
    code = (
        "import ray; from brain_ray.cluster import private; print(private.token_headers());"
        "private.show_token(); print(private.token_headers())"
    )
    environment = {**os.environ, "RAY_AUTH_TOKEN": "ab" * 16, "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    before, after = done.stdout.splitlines()
    assert before == "{}"
    assert "ab" * 16 in after


def test_lines_are_dropped_unless_the_user_has_named_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdout_deduplicator, "skip_re", None)
    private.skip_lines("first")
    private_data.look_for_room(0.1, 2.0)
    private.skip_lines("second")
    assert stdout_deduplicator.skip_re.pattern == "first"


def test_ray_train_has_the_callback_and_the_states_that_tell_of_waits() -> None:
    (callback,) = callbacks.end_vain_waits(TrainConfig(), None)
    assert isinstance(callback, ControllerCallback)
    assert hasattr(ControllerCallback, "after_controller_state_update")
    assert all(hasattr(state, name) for name in (*callbacks.WAITING, "RunningState"))


def test_ray_train_s_controller_gets_the_interval_from_the_driver() -> None:
    assert trainer.POLL_INTERVAL in constants.ENV_VARS_TO_PROPAGATE
    assert trainer.poll_interval(10_000) == constants.DEFAULT_HEALTH_CHECK_INTERVAL_S


@pytest.mark.parametrize("v2", [False, True])
def test_the_autoscaler_s_process_names_its_config(
    v2: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray starts that process; here its command line is borne by one that only sleeps."""
    config = tmp_path / "launcher.yaml"
    config.touch()
    commands: list[list[str]] = []
    monkeypatch.setattr(services, "start_ray_process", lambda command, *_, **__: commands.append(command))
    services.start_monitor("127.0.0.1:1", str(tmp_path), autoscaling_config=str(config), autoscaler_v2=v2)
    (command,) = commands
    sleep = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", *command[2:]]
    with subprocess.Popen(sleep, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert private.autoscaler_file() == config
        finally:
            process.kill()


@pytest.mark.usefixtures("ray_cluster")
def test_an_execution_of_ray_data_looks_for_room_often_at_first_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResourceManager, private_data.LOOKS, 1)
    for _ in range(2):  # the second time changes nothing
        private_data.look_for_room(0.1, 0.2)
    execution = object.__new__(ResourceManager)
    assert execution.GLOBAL_LIMITS_UPDATE_INTERVAL_S == 0.1
    time.sleep(0.3)
    assert execution.GLOBAL_LIMITS_UPDATE_INTERVAL_S == 1
    assert object.__new__(ResourceManager).GLOBAL_LIMITS_UPDATE_INTERVAL_S == 0.1


def test_where_nothing_starts_nodes_none_are_coming() -> None:
    assert not private.nodes_are_coming()


@pytest.mark.usefixtures("ray_cluster")
def test_cpus_are_kept_and_given_back() -> None:
    reservation = private_data.reserve("a test", [{"CPU": 0.5}], 60.0)
    assert reservation is not None
    (kept,) = ray.get(reservation.renew()).values()
    assert kept["CPU"] == 0.5
    assert ray.get(reservation.cancel()) is None


def test_a_trainer_has_all_callbacks_of_ray_but_that_for_datasets() -> None:
    ours, rays = (
        [type(one).__name__ for one in trainer(print)._create_default_callbacks()]
        for trainer in (callbacks.trainer_class(), DataParallelTrainer)
    )
    rays.remove("DatasetsCallback")
    assert ours == rays


def test_a_package_has_the_size_that_ray_takes() -> None:
    assert upload_size.LIMIT == GCS_STORAGE_MAX_SIZE


@pytest.mark.parametrize("stubs", [True, False])
def test_a_head_that_does_not_answer_is_told(stubs: bool, request: pytest.FixtureRequest) -> None:
    if not stubs:
        request.getfixturevalue("without")
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionError):
            private.ask_head(f"127.0.0.1:{unheard.getsockname()[1]}", 5.0)
        if not stubs:
            unheard.listen()
            private.ask_head(f"127.0.0.1:{unheard.getsockname()[1]}", 5.0)


@pytest.mark.usefixtures("without")
def test_without_them_less_is_done_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "")
    assert private.running_address() is None
    assert private.token_headers() == {}
    with private.memory_kills_end_trials():
        pass
    private.skip_lines("first")
    private_data.look_for_room(0.1, 2.0)
    private_data.pause_while_full(context := DataContext())
    assert not context.custom_execution_callback_classes
    private.show_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert callbacks.end_vain_waits(TrainConfig(), None) == []
    assert callbacks.trainer_class() is DataParallelTrainer
    assert private.nodes_are_coming()
    said: list[str] = []
    with messages_to(said.append), room_for_loading(TrainConfig(num_workers=(1, 2)), "a test"):
        assert said[0].startswith("this version of Ray keeps no CPUs free for loading")
    found = upload_size.check_upload(tmp_path)
    assert (found.level, "not known" in found.text) == ("ok", True)


def test_a_start_that_takes_too_long_is_known_by_ray_s_message() -> None:
    assert SLOW_START in inspect.getsource(node)
