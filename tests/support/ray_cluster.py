"""Clusters of several nodes, in a process of their own, whose nodes can be lost; and jobs on them."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil
from support.jobs import ROOT, environment_of

LASTING = {"RAY_idle_worker_killing_time_threshold_ms": "60000"}
"""By which idle workers wait a minute, and not a second, for later tasks."""

SILENT = {"RAY_USAGE_STATS_ENABLED": "0"}
"""By which nothing is gathered for Ray's makers, as with `ray start --disable-usage-stats`."""

SOON = {"health_check_period_ms": 500, "health_check_timeout_ms": 500, "health_check_failure_threshold": 4}
"""By which Ray sees after two seconds, and not after some ten, that a node is lost."""

LAST_S = 5.0
"""In which all processes of a cluster end by themselves."""


class Nodes:
    """A head node without CPUs, on which jobs start, and nodes that can be lost and added."""

    def __init__(self, home: Path, *cpus: float, **environment: str) -> None:
        """Start a node for each number of CPUs; `environment` holds for all that the cluster runs."""
        home.mkdir(parents=True, exist_ok=True)
        self._environment = environment_of(home, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}", **SILENT)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.ray_cluster"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**self._environment, **LASTING, **environment},
            start_new_session=True,
        )
        self.names: list[str] = []
        try:
            self.address = self._answer()
            for number in cpus:
                self.add(number)
        except BaseException:
            self.end()
            raise

    def add(self, cpus: float, host: str = "") -> None:
        """Start another node, and take its id into `names`; with an address, as if on another machine."""
        self.names.append(self._ask(f"add {cpus} {host}"))

    def lose(self, name: str) -> None:
        """Kill all processes of a node, and wait until Ray has seen that it is gone."""
        self.names.remove(name)
        self._ask(f"lose {name}")

    def drain(self, name: str, seconds: int) -> None:
        """Tell Ray that a node will be taken away in some seconds, as its own command does."""
        words = f"--node-id={name}", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=a test"
        command = ["-m", "ray.scripts.scripts", "drain-node", f"--address={self.address}", *words]
        with Job((*command, f"--deadline-remaining-seconds={seconds}"), self._environment) as job:
            job.finish()

    def count(self) -> int:
        """Count the nodes that are there, the head and those that others have added too."""
        return int(self._ask("count all"))

    def start(self, *words: str) -> "Job":
        """Start a job, or another Python program, as a user of this cluster does."""
        return Job(words, {**self._environment, "RAY_ADDRESS": self.address})

    def end(self) -> None:
        """End all processes of the cluster."""
        processes = _family(self._process.pid)
        self._process.stdin.close()  # type: ignore[union-attr]
        _, left = psutil.wait_procs(processes, LAST_S)
        for process in left:
            process.kill()
        self._process.wait()

    def _ask(self, words: str) -> str:
        assert self._process.stdin is not None
        print(words, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("answer "):
                return line.split()[1]
        raise AssertionError("the cluster has ended")


class Job:
    """A program on a cluster, whose lines are read as they come."""

    def __init__(self, words: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def said(self) -> str:
        """All that it has printed so far."""
        return "\n".join(self.lines)

    def wait_for(self, sign: str, seconds: float = 300) -> None:
        """Wait until it has printed a line that contains a sign."""
        self.wait_until(lambda: any(sign in line for line in self.lines), sign, seconds)

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
        """Wait until something holds, while it runs."""
        end = time.monotonic() + seconds
        while not condition():
            assert self._process.poll() is None, f"ended before {what}:\n{self.said}"
            assert time.monotonic() < end, f"no {what} within {seconds:g} s:\n{self.said}"
            time.sleep(0.05)

    def finish(self, code: int = 0, seconds: float = 300) -> str:
        """Wait for its end, with an exit code; return all that it has printed."""
        self.wait_until(lambda: self._process.poll() is not None, "end", seconds)
        self._thread.join()
        assert self._process.returncode == code, self.said
        return self.said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # with what it has started
        self._process.wait()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.lines.append(line.rstrip("\n"))


@contextmanager
def nodes_of(home: Path, *cpus: float, **environment: str) -> Iterator[Nodes]:
    """Lend a cluster."""
    nodes = Nodes(home, *cpus, **environment)
    try:
        yield nodes
    finally:
        nodes.end()


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [*process.children(recursive=True), process]


def run_cluster() -> None:
    """Run a cluster; add and lose its nodes as standard input says, until that ends."""
    import ray
    from ray.cluster_utils import Cluster

    # Whoever starts Ray on this machine would find the address there, and join this cluster.
    ray._private.utils.write_ray_address = lambda *_: None
    logging.getLogger("ray").setLevel(logging.ERROR)
    head: dict[str, Any] = {"num_cpus": 0, "include_dashboard": False, "include_log_monitor": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": SOON})
    nodes: dict[str, Any] = {}
    print("answer", cluster.address, flush=True)
    for line in sys.stdin:
        word, value, *host = line.split()
        if word == "add":
            node = cluster.add_node(num_cpus=float(value), **({"node_ip_address": host[0]} if host else {}))
            nodes[node.node_id] = node
            print("answer", node.node_id, flush=True)
        elif word == "count":
            print("answer", sum(node["Alive"] for node in cluster.global_state.node_table()), flush=True)
        else:
            _kill(cluster, nodes.pop(value))
            cluster.wait_for_nodes()
            print("answer", "lost", flush=True)
    for node in [*cluster.worker_nodes, cluster.head_node]:
        _kill(cluster, node)


def _kill(cluster: Any, node: Any) -> None:
    """Kill a node with its workers and agents, which would outlive it by some time, as on no lost machine."""
    started = [process.process.pid for kind in node.all_processes.values() for process in kind]
    family = [process for pid in started for process in _family(pid)]
    cluster.remove_node(node, allow_graceful=False)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    run_cluster()
