"""Several machines: storage that only some of them see is refused before anything is done."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.jobs import ROOT, environment_of, wait_for
from support.ray_cluster import Nodes, nodes_of

CURRENT = Path("/tmp/ray/ray_current_cluster")
"""Where `ray start` writes to which cluster this machine belongs: whoever starts Ray then would join it."""

SMALL = ["--data.phantoms.train-per-class", "6", "--data.phantoms.test-per-class", "3"]


@contextmanager
def node_with_a_disk_of_its_own(nodes: Nodes, folder: Path) -> Iterator[None]:
    """Add a node that sees an empty folder in the place of this one, as another machine does."""
    ray = Path(sys.executable).with_name("ray")
    words = f"{ray} start --address={nodes.address} --num-cpus=1 --block --disable-usage-stats"
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none {folder} && exec {words}"],
        env=environment_of(Path.home()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if CURRENT.exists() and CURRENT.read_text() == nodes.address:
            CURRENT.unlink()


@pytest.mark.cluster
def test_a_folder_of_one_machine_is_no_storage_for_two(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a process a disk of its own")
    storage = tmp_path / "runs"
    storage.mkdir()
    with nodes_of(tmp_path / "home", 1) as nodes, node_with_a_disk_of_its_own(nodes, storage):
        wait_for(lambda: nodes.count() == 3, 60)
        started = time.monotonic()
        job = nodes.start(str(ROOT / "jobs/pipeline.py"), "smoke", *SMALL, "--storage", str(storage))
        said = job.finish(code=1)
        assert time.monotonic() - started < 60
        assert f"error: storage: {storage}: it is not the same folder there (on " in said
        assert "of 3 nodes): set --storage to an s3:// or gs:// URI, or to a folder that all" in said
        assert "prepare" not in said
        found = nodes.start(str(ROOT / "jobs/doctor.py"), "smoke", "--storage", str(storage)).finish(code=1)
        assert "error    storage" in found
        assert list(storage.rglob("*.*")) == [], "nothing is left behind"
