"""The files that describe clusters: Ray accepts them, they suffice for the recipes and leave no door open."""

import json
import os
import re
import shlex
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import kubernetes_validate
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import (
    ClusterResourceConstraint,
    GangResourceRequest,
    NodeState,
    NodeStatus,
)
from ray.core.generated.common_pb2 import LabelSelectorOperator
from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent, NodeKind
from ray.scripts.scripts import drain_node, start
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from brain_ray.cli import parse
from brain_ray.cluster.autoscaling import startable_nodes
from brain_ray.cluster.capacity import LOADING_CPUS, per_worker, trials_at_a_time
from brain_ray.cluster.cpu_work import cpus_without_new_gpus
from brain_ray.cluster.node_request import MARKET, ON_DEMAND, places_on_demand
from brain_ray.cluster.worker_groups import HEAD, WORKER_GROUPS, config_of
from brain_ray.config import Config, TrainConfig
from brain_ray.recipes import RECIPES
from brain_ray.serving.app import SHUTDOWN_S
from brain_ray.serving.config import ServingConfig
from brain_ray.serving.haproxy import proxy_settings

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "docs" / "cluster"
AWS, GCP = ROOT / "cluster.yaml", CLUSTER / "cluster.gcp.yaml"
JOB, SERVICE = CLUSTER / "rayjob.yaml", CLUSTER / "rayservice.yaml"
POLICIES = sorted(CLUSTER.glob("*-policy.json"))
ALL = [AWS, *sorted(path for path in CLUSTER.iterdir() if path.is_file())]

GIB = 2**30
MACHINES = {  # vCPUs, GiB of memory, GPUs
    "m6i.2xlarge": (8, 32, 0),  # https://aws.amazon.com/ec2/instance-types/m6i/
    "c6i.4xlarge": (16, 32, 0),  # https://aws.amazon.com/ec2/instance-types/c6i/
    "g6.xlarge": (4, 16, 1),  # https://aws.amazon.com/ec2/instance-types/g6/
    "e2-standard-8": (8, 32, 0),  # https://cloud.google.com/compute/docs/general-purpose-machines
    "e2-standard-16": (16, 64, 0),
    "g2-standard-4": (4, 16, 1),  # https://cloud.google.com/compute/docs/gpus
}
FOR_RAY = 2
"""CPUs that a head keeps for Ray's own processes and the jobs' drivers."""
OLDEST_KUBERNETES = "1.30"
"""Version by whose schemas the manifests are checked."""
METRICS_PORT = 8080
"""Port of KubeRay's pods for Prometheus."""
OBJECT_STORE = 0.3
"""Share of a node's memory that Ray takes for its object store, by default."""

launchers = pytest.mark.parametrize("path", [AWS, GCP], ids=["aws", "gcp"])
clusters = pytest.mark.parametrize("path", [AWS, GCP, JOB], ids=["aws", "gcp", "rayjob"])
manifests = pytest.mark.parametrize("path", [JOB, SERVICE], ids=["rayjob", "rayservice"])
files = pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
policies = pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


def launcher(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def documents(path: Path) -> dict[str, dict[str, Any]]:
    return {document["kind"]: document for document in yaml.safe_load_all(path.read_text())}


def ray_cluster(path: Path) -> dict[str, Any]:
    """Return the RayCluster's spec of a manifest."""
    found = documents(path)
    spec: dict[str, Any] = (
        found["RayJob"]["spec"]["rayClusterSpec"]
        if "RayJob" in found
        else found["RayService"]["spec"]["rayClusterConfig"]
    )
    return spec


def autoscaling(path: Path) -> AutoscalingConfig:
    """Read a file as Ray does: defaults filled in, and checked by Ray's schema and its code."""
    if path in {AWS, GCP}:
        return AutoscalingConfig(launcher(path), skip_content_hash=True)
    cluster = {"metadata": {"name": "brain-ray", "namespace": "default"}, "spec": ray_cluster(path)}
    return AutoscalingConfig(_derive_autoscaling_config_from_ray_cr(cluster), skip_content_hash=True)


def pods(path: Path) -> dict[str, dict[str, Any]]:
    """Return the templates of all pods of a manifest, by what they are."""
    spec = ray_cluster(path)
    found = {"head": spec["headGroupSpec"]["template"]}
    found |= {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
    job = documents(path).get("RayJob")
    return found | ({"submitter": job["spec"]["submitterPodTemplate"]} if job else {})


def starts(
    config: AutoscalingConfig,
    tasks: Sequence[Mapping[str, float]] = (),
    group: Sequence[Mapping[str, float]] = (),
    wished: Sequence[Mapping[str, float]] = (),
    labels: Mapping[str, str] = {},
    refused: Sequence[str] = (),
) -> tuple[Counter[str], bool]:
    """Ask Ray's autoscaler what it starts when only the head runs.

    Args:
        config: the cluster.
        tasks: what waiting tasks and actors ask for.
        group: what a placement group asks for.
        wished: what is asked for by `request_resources`.
        labels: what the nodes of all that is wished are labelled with.
        refused: node types whose launch the cloud has just refused.

    Returns the nodes that it starts, by type, and whether all that is asked for has room then.
    """
    monitor = CloudResourceMonitor()
    monitor.notify(
        [
            InstanceUpdateEvent(
                instance_id=name, instance_type=name, new_instance_status=Instance.ALLOCATION_FAILED
            )
            for name in refused
        ]
    )
    head = config.get_head_node_type()
    types = config.get_node_type_configs()
    offered = {name: float(amount) for name, amount in types[head].resources.items()}
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=types,
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(
            [ResourceRequestUtil.make(dict(task)) for task in tasks]
        ),
        gang_resource_requests=[
            GangResourceRequest(requests=[ResourceRequestUtil.make(dict(bundle)) for bundle in group])
        ]
        if group
        else [],
        cluster_resource_constraints=[
            ClusterResourceConstraint(
                resource_requests=ResourceRequestUtil.group_by_count(
                    [
                        ResourceRequestUtil.make(
                            dict(bundle),
                            label_selectors=[
                                [
                                    (key, LabelSelectorOperator.LABEL_OPERATOR_IN, [value])
                                    for key, value in labels.items()
                                ]
                            ],
                        )
                        for bundle in wished
                    ]
                )
            )
        ]
        if wished
        else [],
        current_instances=[
            AutoscalerInstance(
                cloud_instance_id="i-head",
                im_instance=Instance(
                    instance_id="head",
                    instance_type=head,
                    status=Instance.RAY_RUNNING,
                    node_kind=NodeKind.HEAD,
                ),
                ray_node=NodeState(
                    node_id=b"head",
                    ray_node_type_name=head,
                    total_resources=offered,
                    available_resources=offered,
                    status=NodeStatus.RUNNING,
                ),
            )
        ],
        cloud_resource_availabilities=monitor.get_resource_availabilities(),
        recoverable_resource_availabilities=monitor.get_recoverable_resource_availabilities(),
    )
    reply = ResourceDemandScheduler().schedule(request)
    assert not reply.to_terminate
    unmet = (
        reply.infeasible_resource_requests,
        reply.infeasible_gang_resource_requests,
        reply.infeasible_cluster_resource_constraints,
    )
    return Counter({launch.instance_type: launch.count for launch in reply.to_launch}), not any(unmet)


def on_gpus(recipe: str, num_workers: int) -> TrainConfig:
    """Return a recipe's settings with `--train.use-gpu True --train.num-workers N`."""
    return RECIPES[recipe]().train.model_copy(update={"use_gpu": True, "num_workers": num_workers})


def workers(settings: TrainConfig) -> list[dict[str, float]]:
    """Return what Ray Train asks for."""
    return [per_worker(settings) | ({"GPU": 1.0} if settings.use_gpu else {})] * settings.max_workers


LOADING = [{"CPU": LOADING_CPUS}]


def first_gpus(path: Path) -> str:
    return "gpu" if path == JOB else "gpu-spot"


@pytest.mark.parametrize("path", [AWS, GCP, JOB, SERVICE], ids=["aws", "gcp", "rayjob", "rayservice"])
def test_ray_accepts_the_file(path: Path) -> None:
    types = autoscaling(path).get_node_type_configs()
    assert len(types) >= 2
    assert all(node.resources for node in types.values())


@launchers
def test_nothing_is_left_to_rays_defaults_that_would_matter(path: Path) -> None:
    content, filled = launcher(path), autoscaling(path).get_raw_config_mutable()
    assert content["provider"].items() <= filled["provider"].items()
    assert filled["docker"] == {}
    for name in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        assert filled[name] == content[name]
    assert filled["worker_setup_commands"] == content["setup_commands"] + content["worker_setup_commands"]


@launchers
def test_node_types_offer_what_their_machines_have(path: Path) -> None:
    content = launcher(path)
    for name, node in content["available_node_types"].items():
        kind = node["node_config"].get("InstanceType") or node["node_config"]["machineType"]
        cpus, memory, gpus = MACHINES[kind]
        own = FOR_RAY if name == content["head_node_type"] else 0
        assert node["resources"]["CPU"] == cpus - own
        assert node["resources"].get("GPU", 0) == gpus
        assert 0.5 * memory * GIB < node["resources"]["memory"] <= (1 - OBJECT_STORE) * memory * GIB


@clusters
def test_nothing_is_started_when_nothing_is_asked_for(path: Path) -> None:
    assert starts(autoscaling(path)) == (Counter(), True)


@clusters
def test_smoke_runs_on_the_head_alone(path: Path) -> None:
    smoke = RECIPES["smoke"]()
    room = int(
        autoscaling(path).get_node_type_configs()[autoscaling(path).get_head_node_type()].resources["CPU"]
    )
    scoring = [{"CPU": float(smoke.evaluate.cpus_per_actor)}] * smoke.evaluate.num_actors
    for stage in ([{"CPU": 1.0}] * room, [*workers(smoke.train), *LOADING], [*scoring, {"CPU": 1.0}]):
        assert starts(autoscaling(path), tasks=stage) == (Counter(), True)


@clusters
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_paper_on_gpus_starts_one_node_for_each_worker(path: Path, num_workers: int) -> None:
    asked = workers(on_gpus("paper", num_workers))
    expected = (Counter({first_gpus(path): num_workers}), True)
    assert starts(autoscaling(path), group=asked, tasks=LOADING) == expected
    assert starts(autoscaling(path), wished=asked + LOADING) == expected
    assert starts(autoscaling(path), wished=asked + LOADING, group=asked, tasks=LOADING) == expected


@clusters
def test_sweep_on_gpus_starts_one_node_for_each_trial(path: Path) -> None:
    sweep, settings = RECIPES["sweep"](), on_gpus("sweep", 1)
    trial = per_worker(settings) | {"GPU": 1.0 / sweep.sweep.trials_per_gpu}
    for trials in (1, 4):
        expected = (Counter({first_gpus(path): trials}), True)
        assert starts(autoscaling(path), tasks=[trial] * trials + LOADING) == expected


@clusters
def test_a_sweep_larger_than_the_cluster_may_become_waits_for_its_turn(path: Path) -> None:
    config, trial = autoscaling(path), per_worker(on_gpus("sweep", 1)) | {"GPU": 1.0}
    started, _ = starts(config, tasks=[trial] * 40 + LOADING)
    assert started.total() == min(
        config.get_max_num_worker_nodes(),
        sum(
            node.max_worker_nodes
            for node in config.get_node_type_configs().values()
            if "GPU" in node.resources
        ),
    )


@launchers
def test_on_demand_is_taken_where_there_is_no_spot_instance(path: Path) -> None:
    config, asked = autoscaling(path), workers(on_gpus("paper", 4))
    refused = starts(config, wished=asked, refused=["gpu-spot"])
    # The day on which this fails, Ray lowers the rank of what was refused, and `NodeRequest` need not.
    assert refused == (Counter({"gpu-spot": 4}), True)
    assert places_on_demand(launcher(path), asked[0]) >= 4
    labelled = starts(config, wished=asked, labels={MARKET: ON_DEMAND}, refused=["gpu-spot"])
    assert labelled == (Counter({"gpu-on-demand": 4}), True)


@launchers
def test_trials_that_wait_get_nodes_on_demand_and_no_more_of_them(path: Path) -> None:
    """What waits for a trial's node and what `NodesOnDemand` asks for are the same nodes."""
    config, trial = autoscaling(path), per_worker(on_gpus("sweep", 1)) | {"GPU": 1.0}
    waiting = [trial] * 3
    assert starts(config, tasks=waiting, refused=["gpu-spot"]) == (Counter({"gpu-spot": 3}), True)
    asked = starts(config, tasks=waiting, wished=waiting, labels={MARKET: ON_DEMAND}, refused=["gpu-spot"])
    assert asked == (Counter({"gpu-on-demand": 3}), True)


@launchers
def test_work_on_cpus_asks_for_no_more_than_nodes_without_gpus_give(path: Path) -> None:
    config = launcher(path)
    kinds = {name: node["resources"] for name, node in config["available_node_types"].items()}
    head = {**kinds[config["head_node_type"]], HEAD: 1.0}
    most = int(cpus_without_new_gpus(config, [head]))
    assert starts(autoscaling(path), tasks=[{"CPU": 1.0}] * 10) == (Counter({"cpu-spot": 1}), True)
    assert starts(autoscaling(path), tasks=[{"CPU": 1.0}] * most) == (Counter({"cpu-spot": 2}), True)
    started, _ = starts(autoscaling(path), tasks=[{"CPU": 1.0}] * (most + 1))
    assert started["gpu-spot"] == 1
    running = [head, kinds["cpu-spot"]]
    assert cpus_without_new_gpus(config, running) == most
    assert cpus_without_new_gpus(config, [*running, kinds["cpu-spot"]]) == most
    with_gpu = [*running, kinds["gpu-spot"]]  # its CPUs are there, and may be used
    assert cpus_without_new_gpus(config, with_gpu) == most + kinds["gpu-spot"]["CPU"]
    full = {**config, "max_workers": 2}
    assert cpus_without_new_gpus(full, with_gpu) == most - kinds["cpu-spot"]["CPU"] + kinds["gpu-spot"]["CPU"]


@launchers
def test_spot_and_on_demand_differ_in_nothing_but_that(path: Path) -> None:
    types = launcher(path)["available_node_types"]
    spot, demand = types["gpu-spot"], types["gpu-on-demand"]
    assert spot["priority"] > demand["priority"]
    assert spot["resources"] == demand["resources"]
    assert (spot["labels"], demand["labels"]) == ({MARKET: "spot"}, {MARKET: ON_DEMAND})
    for key in {"InstanceMarketOptions", "scheduling"} & {*spot["node_config"], *demand["node_config"]}:
        assert spot["node_config"].pop(key) != demand["node_config"].pop(key, None)
    assert spot["node_config"] == demand["node_config"]


@launchers
def test_every_ray_wants_the_token_and_shows_its_dashboard_to_its_own_machine(path: Path) -> None:
    content = launcher(path)
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = content[name]
        assert commands[0] == "ray stop"
        starting = [command for command in commands if "ray start" in command]
        assert len(starting) == 1
        assert starting[0].startswith("export RAY_AUTH_MODE=token; ulimit -n 65536; ray start ")
    head = " ".join(content["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    assert content["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in command for command in content["setup_commands"])
    assert content["idle_timeout_minutes"] > 0


class Metadata(BaseHTTPRequestHandler):
    """The metadata service of a machine that is taken back: as AWS tells it, and as Google does."""

    asked = 0
    """Times that it was asked whether the machine is taken back; the second time, it is."""

    def do_PUT(self) -> None:
        self._answer(self.path == "/latest/api/token", b"the token")

    def do_GET(self) -> None:
        Metadata.asked += 1
        if self.path == "/computeMetadata/v1/instance/preempted":
            told = b"TRUE" if Metadata.asked > 1 else b"FALSE"
            self._answer(self.headers["Metadata-Flavor"] == "Google", told)
        else:
            known = self.headers["X-aws-ec2-metadata-token"] == "the token"
            taken = self.path == "/latest/meta-data/spot/instance-action" and Metadata.asked > 1
            self._answer(known and taken, b"{}")

    def _answer(self, found: bool, text: bytes) -> None:
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(text if found else b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@launchers
def test_ray_is_told_when_the_cloud_takes_a_machine_back(path: Path, tmp_path: Path) -> None:
    """The script of the unit `drain-at-notice`, with a metadata service and a `ray` of the test's own."""
    (command,) = [each for each in launcher(path)["worker_start_ray_commands"] if "drain-at-notice" in each]
    words = shlex.split(command)
    assert words[:3] == ["sudo", "systemd-run", "--quiet"]
    script = words[words.index("-c") + 1]
    assert "${" not in script, "which systemd would fill in"
    ray = tmp_path / "brain_ray/venv/bin/ray"
    ray.parent.mkdir(parents=True)
    ray.write_text('#!/bin/sh\necho "$@" > $HOME/told\n')
    ray.chmod(0o755)
    Metadata.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"127.0.0.1:{server.server_port}"
    for host in ("169.254.169.254", "metadata.google.internal"):
        script = script.replace(host, place)
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "HEAD": "10.0.0.1:6379"}
    subprocess.run(
        ["bash", "-c", script.replace("sleep 5", "sleep 1")], env=environment, check=True, timeout=60
    )
    server.shutdown()
    assert Metadata.asked == 2
    program, *options = (tmp_path / "told").read_text().split()
    assert program == "drain-node"
    drain_node.make_context("ray drain-node", list(options))  # raises for an option that it does not know
    assert "--address=10.0.0.1:6379" in options
    assert int(options[-1].removeprefix("--deadline-remaining-seconds=")) < (120 if path == AWS else 30)


@pytest.mark.parametrize("accepts", [True, False], ids=["taken back", "ended by Ray"])
def test_ray_is_told_when_kubernetes_ends_a_pod_that_trains(tmp_path: Path, accepts: bool) -> None:
    """The command of the pod, with a `ray` and a `sleep` of the test's own."""
    pod = pods(JOB)["gpu"]["spec"]
    shell, option, script = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    for name, ends in (("ray", 0 if accepts else 1), ("sleep", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/{name}.told\nexit {ends}\n')
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FQ_RAY_IP": "head.default.svc"}
    subprocess.run([shell, option, script], env=environment, check=accepts, timeout=60)
    program, *options = (tmp_path / "ray.told").read_text().split()
    assert program == "drain-node"
    drain_node.make_context("ray drain-node", list(options))  # raises for an option that it does not know
    assert "--address=head.default.svc:6379" in options
    assert (tmp_path / "sleep.told").exists() == accepts, "nobody waits for a node that Ray itself ended"
    if accepts:
        waited = int((tmp_path / "sleep.told").read_text())
        deadline = int(options[-1].removeprefix("--deadline-remaining-seconds="))
        assert 30 <= waited < deadline < pod["terminationGracePeriodSeconds"]


@launchers
def test_the_shell_and_ray_understand_the_commands(path: Path) -> None:
    content = launcher(path)
    commands = [command for name, part in content.items() if name.endswith("_commands") for command in part]
    for command in commands:
        subprocess.run(["bash", "-nc", command], check=True)
        if "ray start" in command:
            options = shlex.split(command.partition("ray start ")[2])
            start.make_context("ray start", options)  # raises for an option that it does not know


@files
def test_no_file_holds_a_secret_or_an_open_address(path: Path) -> None:
    text = path.read_text()
    assert "0.0.0.0" not in text
    for secret in (
        r"AKIA[0-9A-Z]{16}",
        r"-----BEGIN",
        r"\b[0-9a-f]{32,}\b",
        r"RAY_AUTH_TOKEN\s*[=:]",
        r"\d{12}",
    ):
        assert not re.search(secret, text), secret


def test_aws_encrypts_disks_guards_the_metadata_and_opens_no_port_by_itself() -> None:
    content = launcher(AWS)
    assert "security_group" not in content["provider"]  # Ray would open ssh to all addresses
    assert content["provider"]["cache_stopped_nodes"] is False
    for name, node in content["available_node_types"].items():
        config = node["node_config"]
        assert config["MetadataOptions"]["HttpTokens"] == "required"
        assert config["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        assert config["SecurityGroupIds"] == ["SECURITY_GROUP"]
        assert config["InstanceInitiatedShutdownBehavior"] == "terminate"
        role = "brain-ray-head" if name == content["head_node_type"] else "brain-ray-worker"
        assert config["IamInstanceProfile"] == {"Name": role}
        disks = [mapping["Ebs"] for mapping in config["BlockDeviceMappings"]]
        assert disks
        assert all(disk["Encrypted"] and disk["DeleteOnTermination"] for disk in disks)


def test_ray_up_starts_every_machine_in_an_account_prepared_as_documented(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray puts the key that it makes
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "simulated")
    with mock_aws():
        ec2, iam = boto3.client("ec2", "us-east-1"), boto3.client("iam")
        group = ec2.create_security_group(GroupName="brain-ray", Description="brain_ray")["GroupId"]
        image = ec2.describe_images()["Images"][0]["ImageId"]
        for role in ("brain-ray-head", "brain-ray-worker"):
            iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
            iam.create_instance_profile(InstanceProfileName=role)
            iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
        text = re.sub("AMI_[CG]PU", image, AWS.read_text()).replace("SECURITY_GROUP", group)
        config = bootstrap_aws(prepare_config(yaml.safe_load(text)))
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for name, node in config["available_node_types"].items():
            provider.create_node(node["node_config"], {"ray-user-node-type": name}, 1)
        found = {
            next(tag["Value"] for tag in instance["Tags"] if tag["Key"] == "ray-user-node-type"): instance
            for reservation in ec2.describe_instances()["Reservations"]
            for instance in reservation["Instances"]
        }
    assert set(found) == set(launcher(AWS)["available_node_types"])
    for name, instance in found.items():
        expected = launcher(AWS)["available_node_types"][name]["node_config"]
        assert instance["InstanceType"] == expected["InstanceType"]
        assert instance["IamInstanceProfile"]["Arn"].endswith(f"/{expected['IamInstanceProfile']['Name']}")
        assert [each["GroupId"] for each in instance["SecurityGroups"]] == [group]
        assert instance["State"]["Name"] == "running"


def test_gcp_has_a_network_and_accounts_of_its_own() -> None:
    content = launcher(GCP)
    for name, node in content["available_node_types"].items():
        config = node["node_config"]
        assert [each["subnetwork"].rsplit("/", 1)[-1] for each in config["networkInterfaces"]] == [
            "brain-ray"
        ]
        account = config["serviceAccounts"][0]
        if name == content["head_node_type"]:
            assert account["email"].startswith("brain-ray-head@")
        else:
            assert account["email"].startswith("brain-ray-worker@")
            assert account["scopes"] == ["https://www.googleapis.com/auth/devstorage.read_write"]
        assert all(disk["autoDelete"] for disk in config["disks"])


@files
def test_ray_is_the_one_of_the_constraints_wherever_it_is_named(path: Path) -> None:
    named = re.findall(r"\bray(?:Version)?[=:\s-]+(\d+\.\d+\.\d+)\b", path.read_text())
    assert set(named) <= {pinned("ray")}


@launchers
def test_nodes_install_what_the_constraints_say(path: Path) -> None:
    content = launcher(path)
    commands = "\n".join(content["setup_commands"] + content["head_setup_commands"])
    assert f"astral.sh/uv/{pinned('uv')}/install.sh" in commands
    assert commands.count("uv pip install") == commands.count("-c ~/brain_ray/constraints.txt") == 2
    assert "--python 3.11" in commands
    for name in ("pyproject.toml", "constraints.txt"):
        assert (ROOT / content["file_mounts"][f"~/brain_ray/{name}"]).is_file()


def test_the_image_installs_what_the_constraints_say() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    assert "FROM python:3.11-" in text
    commands = re.findall(r"^RUN (?:uv )?pip install .*$", text, re.MULTILINE)
    assert [("-c constraints.txt" in line, "--no-deps ." in line) for line in commands] == [
        (True, False),  # uv
        (True, False),
        (False, True),
        (True, False),
        (False, True),
    ]
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["1000:1000"] * 2
    for source in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())


def statements(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["Statement"]
    return found


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@policies
def test_policies_name_what_they_allow_and_on_what(path: Path) -> None:
    for statement in statements(path):
        actions = as_list(statement["Action"])
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in actions)
        for resource in as_list(statement["Resource"]):
            if resource == "*":
                # All or none, docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
                assert all(action.startswith("ec2:Describe") for action in actions)
            else:
                assert resource.startswith("arn:aws:")


def test_the_head_may_start_the_workers_of_the_cluster_and_no_other_machines() -> None:
    content = launcher(AWS)
    by_name = {statement["Sid"]: statement for statement in statements(CLUSTER / "head-policy.json")}
    condition = by_name["StartInstancesOfThisCluster"]["Condition"]
    starting = condition["StringEquals"]
    nodes = {
        name: node["node_config"]
        for name, node in content["available_node_types"].items()
        if name != content["head_node_type"]
    }
    assert set(starting["ec2:InstanceType"]) == {node["InstanceType"] for node in nodes.values()}
    assert starting["aws:RequestTag/ray-cluster-name"] == content["cluster_name"]
    (profile,) = {node["IamInstanceProfile"]["Name"] for node in nodes.values()}
    assert condition["ArnEquals"]["ec2:InstanceProfile"].endswith(f"instance-profile/{profile}")
    assert by_name["HandWorkersTheirRole"]["Resource"].endswith(f"role/{profile}")
    parts = by_name["FromTheseParts"]["Resource"]
    for image in {node["ImageId"] for node in nodes.values()}:
        assert any(part.endswith(f"image/{image}") for part in parts)
    ending = by_name["TagAndEndInstancesOfThisCluster"]["Condition"]["StringEquals"]
    assert ending == {"aws:ResourceTag/ray-cluster-name": content["cluster_name"]}


@manifests
def test_clusters_on_kubernetes_want_a_token_and_grow_by_themselves(path: Path) -> None:
    spec = ray_cluster(path)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["rayVersion"] == pinned("ray")
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["autoscalerOptions"]["resources"]["limits"]


@manifests
def test_kubernetes_knows_every_field(path: Path) -> None:
    """Ray's kinds are not among its schemas, but their pods are."""
    parts = [part for part in documents(path).values() if not part["apiVersion"].startswith("ray.io/")]
    parts += [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {**pod.get("metadata", {}), "name": name}}
        | {"spec": pod["spec"]}
        for name, pod in pods(path).items()
    ]
    assert len(parts) >= 5
    for part in parts:
        kubernetes_validate.validate(part, OLDEST_KUBERNETES, strict=True)
    unknown = {**parts[-1], "spec": {**parts[-1]["spec"], "terminationGracePeriodSecond": 60}}
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriodSecond"):
        kubernetes_validate.validate(unknown, OLDEST_KUBERNETES, strict=True)


@manifests
def test_pods_are_bounded_and_have_no_rights_on_their_node(path: Path) -> None:
    for name, template in pods(path).items():
        pod = template["spec"]
        assert pod["restartPolicy"] == "Never"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        (container,) = pod["containers"]
        image = "brain-ray" if path == JOB else "brain-ray-serving"
        assert container["image"].endswith(f"/{image}:ray-{pinned('ray')}")
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        limits = container["resources"]["limits"]
        assert limits == container["resources"]["requests"]
        assert {"cpu", "memory"} <= limits.keys()
        assert limits.get("nvidia.com/gpu", 0) == (1 if name == "gpu" else 0)
        if name == "submitter":
            continue
        volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
        named = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        mounts = {place: volumes[name] for place, name in named.items()}
        # By that name, KubeRay shares Ray's folder with the autoscaler's container, else each has its own.
        assert named["/tmp/ray"] == "ray-logs"
        assert mounts["/dev/shm"]["medium"] == "Memory"
        store = float(mounts["/dev/shm"]["sizeLimit"].removesuffix("Gi"))
        memory = float(limits["memory"].removesuffix("Gi"))
        assert OBJECT_STORE * memory <= store <= 0.5 * memory


@manifests
def test_only_the_cluster_itself_and_its_operator_reach_its_ports(path: Path) -> None:
    found = documents(path)
    policy, account = found["NetworkPolicy"]["spec"], found["ServiceAccount"]["metadata"]["name"]
    members = policy["podSelector"]["matchLabels"]
    for name, template in pods(path).items():
        assert members.items() <= template["metadata"]["labels"].items()
        assert (template["spec"]["serviceAccountName"] == account) == (name != "submitter")
    within, *others = policy["ingress"]
    assert {"podSelector": {"matchLabels": members}} in within["from"]
    ports = {rule["ports"][0]["port"]: rule["from"] for rule in others}
    assert len(others) == len(ports) == (1 if path == JOB else 2)
    assert ports.keys() <= {8000, METRICS_PORT}
    assert all(len(rule["ports"]) == 1 for rule in others)
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert ports[METRICS_PORT] == [monitoring]
    assert "`monitoring`" in (ROOT / "docs" / "WATCHING.md").read_text()


def test_the_job_runs_a_pipeline_that_its_cluster_has_room_for() -> None:
    job = documents(JOB)["RayJob"]["spec"]
    python, script, *arguments = shlex.split(job["entrypoint"])
    assert python == "python"
    assert (ROOT / Path(script).relative_to("/app")).is_file()
    config = parse("pipeline.py", "", arguments)
    assert config.recipe == "paper"
    assert config.train.use_gpu
    expected = (Counter({"gpu": config.train.max_workers}), True)
    assert starts(autoscaling(JOB), group=workers(config.train), tasks=LOADING) == expected
    assert job["shutdownAfterJobFinishes"] is True


def test_the_pods_that_may_come_are_told_as_they_are() -> None:
    stated = config_of(environment(pods(JOB)["head"])[WORKER_GROUPS])["available_node_types"]
    types = autoscaling(JOB).get_node_type_configs()
    workers = {name: kind for name, kind in types.items() if name != autoscaling(JOB).get_head_node_type()}
    assert stated.keys() == workers.keys()
    for name, kind in workers.items():
        assert stated[name]["max_workers"] == kind.max_worker_nodes
        found = {resource: kind.resources.get(resource, 0) for resource in stated[name]["resources"]}
        assert stated[name]["resources"] == found
        assert ("GPU" in found) == bool(kind.resources.get("GPU"))


def test_cpu_tasks_start_no_pod_with_a_gpu() -> None:
    head = autoscaling(JOB).get_node_type_configs()[autoscaling(JOB).get_head_node_type()].resources
    stated = config_of(environment(pods(JOB)["head"])[WORKER_GROUPS])
    most = cpus_without_new_gpus(stated, [{**head, HEAD: 1.0}])
    assert most == 6 + 2 * 14
    for tasks in (24, int(most)):
        started, room = starts(autoscaling(JOB), tasks=[{"CPU": 1.0}] * tasks)
        assert room
        assert started.keys() == {"cpu"}
    more, _ = starts(autoscaling(JOB), tasks=[{"CPU": 1.0}] * (int(most) + 1))
    assert "gpu" in more, "that is what the bound is for"


def test_a_sweep_on_kubernetes_uses_all_pods_with_a_gpu() -> None:
    stated = config_of(environment(pods(JOB)["head"])[WORKER_GROUPS])
    train = TrainConfig(use_gpu=True, cpus_per_worker=1)
    config = Config(train=train)
    head, gpu = {"CPU": 6.0}, {"CPU": 3.0, "GPU": 1.0}
    assert trials_at_a_time(config, [head, gpu], startable_nodes(stated, [gpu])) == (1, 4)
    assert trials_at_a_time(config, [head, gpu], None) == (1, 1)


def test_the_service_survives_a_lost_head_a_lost_node_and_a_drained_one() -> None:
    found = documents(SERVICE)
    cluster = ray_cluster(SERVICE)
    service, store = found["Service"], found["StatefulSet"]["spec"]
    (port,) = service["spec"]["ports"]
    address = cluster["gcsFaultToleranceOptions"]["redisAddress"]
    assert address == f"{service['metadata']['name']}:{port['port']}"
    labels = store["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == store["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert store["volumeClaimTemplates"]
    replicas = pods(SERVICE)["replicas"]
    own = replicas["metadata"]["labels"]
    budget = found["PodDisruptionBudget"]["spec"]
    assert budget["selector"]["matchLabels"] == own != labels
    (group,) = cluster["workerGroupSpecs"]
    settings = service_settings()
    assert group["minReplicas"] - budget["maxUnavailable"] >= 1
    assert settings.min_replicas == group["minReplicas"] >= 2
    (spread,) = replicas["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"]["matchLabels"] == own
    drain = float(environment(replicas)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert settings.timeout_s + SHUTDOWN_S < drain < replicas["spec"]["terminationGracePeriodSeconds"]


def test_the_service_has_the_proxy_of_the_endpoint_on_one_machine(tmp_path: Path) -> None:
    ours = proxy_settings(tmp_path)
    for name in ("head", "replicas"):
        there = environment(pods(SERVICE)[name])
        own = {key: value for key, value in there.items() if key.startswith("RAY_SERVE_")}
        assert own.items() <= ours.items()
        assert own["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def environment(template: Mapping[str, Any]) -> dict[str, str]:
    (container,) = template["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def service_application() -> ServeApplicationSchema:
    text = documents(SERVICE)["RayService"]["spec"]["serveConfigV2"]
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    return application


def service_settings() -> ServingConfig:
    return ServingConfig.model_validate(service_application().args)


def test_the_service_serves_a_bundle_with_room_for_all_its_replicas_and_nobody_is_let_in_without_a_key() -> (
    None
):
    assert service_application().import_path == "brain_ray.serving.app:build"
    settings = service_settings()
    assert settings.api_keys_sha256
    replica = {"CPU": settings.cpus_per_replica} | (
        {"GPU": settings.gpus_per_replica} if settings.gpus_per_replica else {}
    )
    config = autoscaling(SERVICE)
    started, room = starts(
        config, tasks=[replica] * (settings.max_replicas + 1)
    )  # one more: a new version's first
    assert room
    assert started == Counter({"replicas": settings.max_replicas + 1})
    assert config.get_node_type_configs()["headgroup"].resources["CPU"] == 0
