"""Table of the jobs: what each does and how `brain-ray NAME` and `python jobs/NAME.py` start it.

Imports nothing from outside brain_ray and the standard library until a job is started.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brain_ray import __version__, job_mains
from brain_ray.errors import nearest


@dataclass(frozen=True)
class Job:
    """One job."""

    text: str
    """Text of `--help`; its first line says what the job does. `{prog}` becomes the command as typed."""
    main: job_mains.Main

    @property
    def summary(self) -> str:
        """The text's first line."""
        return self.text.partition("\n")[0]


def run(name: str, prog: str, argv: Sequence[str]) -> int:
    """Runs a job of `JOBS` and returns its exit code."""
    job = JOBS[name]
    return job.main(prog, job.text.replace("{prog}", prog), argv)


def main() -> int:
    """Runs the command `brain-ray`: the job that is the first word of this process's command line."""
    called = Path(sys.argv[0]).name
    prog = "python -m brain_ray" if called == "__main__.py" else called
    name, *words = sys.argv[1:] or [""]
    if name in ("", "-h", "--help", "help"):
        print(overview(prog))
        return 0 if name else 2
    if name == "--version":
        print(f"brain_ray {__version__}")
        return 0
    if name not in JOBS:
        print(f"error: no job is called {name!r}{nearest(name, JOBS)}", file=sys.stderr)
        return 2
    return run(name, f"{prog} {name}", words)


def overview(prog: str) -> str:
    """Returns the first page of help: a line for each job."""
    lines = [f"usage: {prog} JOB [WORDS ...]", "", "Jobs:"]
    lines += [f"  {name:<9} {job.summary}" for name, job in JOBS.items()]
    lines += [
        "",
        f"`{prog} JOB --help` explains one job. To check that an installation works: {prog} pipeline smoke",
    ]
    return "\n".join(lines)


JOBS = {
    "pipeline": Job(
        """Make a scored, exported model from a folder of MR images: prepare, train, export, evaluate.

--tune replaces the training by a sweep: it trains many settings and exports the winner. --folds N trains a
model on each N - 1 of N folds and scores it on the one that it did not see: docs/CROSS_VALIDATION.md.
Without folds, --export.members N trains N seeds and exports the mean of their models.""",
        job_mains.pipeline,
    ),
    "prepare": Job(
        "Make an audited, split data set from folders of MR images; writes dataset/ of a run.",
        job_mains.stages("prepare"),
    ),
    "train": Job(
        "Train a network on a prepared data set; writes train/ of a run.", job_mains.stages("train")
    ),
    "tune": Job(
        """Train many settings, choose the best model, show how certain that is; writes sweep/ of a run.

It exports the winner to bundle/ and compares the models in report/sweep.html.""",
        job_mains.stages("prepare", "sweep", "choose", "export"),
    ),
    "export": Job(
        "Export the best weights as a checked Keras and ONNX bundle; writes bundle/ of a run.",
        job_mains.stages("export"),
    ),
    "evaluate": Job("Score the bundle on the test split; writes report/ of a run.", job_mains.evaluate),
    "serve": Job(
        """Serve a bundle over HTTP, with a web page.

It starts Ray and runs until Ctrl-C. On a cluster that is running already, it ends after the deployment.""",
        job_mains.serve,
    ),
    "predict": Job(
        """Classify images with an endpoint or a bundle.

FILES are images, folders (searched for jpg, jpeg, png, bmp, tif, tiff and webp files, sorted), or - to read
such paths from standard input, one per line. Each result is printed when it arrives, in the order of the
files. If the endpoint needs an API key, give --api-key-file or set BRAIN_RAY_API_KEY.

The exit code is 0 if every image was classified, 1 if one could not be used or the job ended early, 2 for a
wrong command line.""",
        job_mains.predict,
    ),
    "register": Job(
        """Register a bundle in MLflow's model registry, or write it for the Hugging Face hub.

With --name it becomes the next version of the model NAME on the server of MLFLOW_TRACKING_URI (or
MLFLOW_REGISTRY_URI), with its model card. Where a bundle's path is asked for, models:/NAME/VERSION and
models:/NAME@ALIAS then stand for it. With --hub-folder it is copied into a new folder, with a README.md whose
metadata the hub shows; nothing is sent.

The exit code is 0 if it was registered or written, 1 if not, 2 for a wrong command line.""",
        job_mains.register,
    ),
    "review": Job(
        """Write what an endpoint kept for review as a manifest for labelling.

FOLDER is that of the endpoint's setting --review. The manifest has a row for each file, the least sure first;
labels that are in it already stay.

The exit code is 0 if it was written, 1 if not, 2 for a wrong command line.""",
        job_mains.review,
    ),
    "control": Job(
        """Send a command to a running training.

RUN   the run's name, or its whole path or URI; on the cluster of RAY_ADDRESS, else the one on this machine
WORD  status       print the last epoch, and the commands so far
      halt         end, and keep the best weights
      extend N     train N more epochs
      rate X       use the learning rate X from the next epoch on
      ask-every N  end after N epochs without improvement (0: never)
A command takes effect at the end of the epoch and is recorded in history.csv. Training never waits.""",
        job_mains.control,
    ),
    "doctor": Job(
        """Check machine, cluster, storage and data before a job runs.

It checks this machine, the Ray cluster (of --address or RAY_ADDRESS, else one started for the check) and what
the recipe and its settings need: versions, token, nodes, CPUs, GPUs, memory, disk, storage, data and weights,
from each node. It prints a line for each: ok, warning or error, with what to do about it.
--address ADDRESS  Ray's address HEAD:6379, on a machine of the cluster. For an http(s):// address, to which
                   jobs are submitted, only the connection is checked; `submit doctor RECIPE --address URL`
                   checks the rest
--json             print the findings as JSON

The exit code is 0 without errors, 1 after an error, 2 for a wrong command line.""",
        job_mains.doctor,
    ),
    "submit": Job(
        """Run a job on a Ray cluster with this checkout's code.

usage: {prog} JOB WORDS... [options]

JOB    prepare, train, tune, export, evaluate, pipeline, doctor, control or predict, with its own WORDS
--address URL      the cluster's dashboard (default: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS if it is
                   http(s)://, else http://127.0.0.1:8265)
--environment E    where the job's packages come from: image (the cluster has them), pip or uv (Ray installs
                   them in the versions of constraints.txt), auto (pip if the image lacks any; the default)
--id NAME          id for the job on the cluster
--detach           print the id and return, without following the log
--follow ID        follow the log of a job that was submitted before (instead of JOB)
--debug            show the trace of an error, here and in the job
Options may stand anywhere; words after -- go to the job. Ctrl-C asks whether to stop the job too.

Standard output is the job's log; everything else goes to standard error. The exit code is the job's own, 130
if the job was stopped or is no longer followed, 1 if it could not be run, 2 for a wrong command line.""",
        job_mains.submit,
    ),
}
"""All jobs by name, in the order of the overview."""
