"""The jobs by name: what each does and how it is started, for `brain-ray NAME` and `python jobs/NAME.py`.

Imports nothing from outside brain_ray and the standard library until a job is started.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from brain_ray import __version__
from brain_ray.errors import nearest


@dataclass(frozen=True)
class Job:
    """One job."""

    text: str
    """What `--help` says of it; the first line says what it does. `{prog}` stands for what a person typed."""
    main: Callable[[str, str, Sequence[str]], int]
    """Takes what the person typed, such as `brain-ray train`, the text and the words after it; returns the
    exit code: 0, 1 after an error, 2 for a wrong command line."""

    @property
    def summary(self) -> str:
        """The text's first line."""
        return self.text.partition("\n")[0]


def run(name: str, prog: str, argv: Sequence[str]) -> int:
    """Do a job of `JOBS`; returns its exit code."""
    job = JOBS[name]
    return job.main(prog, job.text.replace("{prog}", prog), argv)


def main() -> int:
    """Do the job that this process's command line names first; the command `brain-ray`."""
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
    """Return the first page of help: a line for each job."""
    lines = [f"usage: {prog} JOB [WORDS ...]", "", "Jobs:"]
    lines += [f"  {name:<9} {job.summary}" for name, job in JOBS.items()]
    lines += [
        "",
        f"`{prog} JOB --help` says more about one. To see that an installation works: {prog} pipeline smoke",
    ]
    return "\n".join(lines)


def _stage(*names: str) -> Callable[[str, str, Sequence[str]], int]:
    """Return a job that runs the named stages of `brain_ray.pipeline`."""

    def start(prog: str, text: str, argv: Sequence[str]) -> int:
        from brain_ray.cli import run_job
        from brain_ray.config import Config

        def work(config: Config) -> None:
            from brain_ray.pipeline import run_stages

            run_stages(config, names)

        return run_job(prog, text, work, argv=argv)

    return start


def _pipeline(prog: str, text: str, argv: Sequence[str]) -> int:
    from brain_ray.cli import run_job
    from brain_ray.config import Config

    def train(config: Config) -> None:
        from brain_ray.pipeline import TRAINED, run_stages

        run_stages(config, TRAINED)

    def tune(config: Config) -> None:
        from brain_ray.pipeline import TUNED, run_stages

        run_stages(config, TUNED)

    return run_job(prog, text, train, {"--tune": tune}, argv=argv)


def _tune(prog: str, text: str, argv: Sequence[str]) -> int:
    from brain_ray.cli import run_job
    from brain_ray.config import Config

    def work(config: Config) -> None:
        from brain_ray.pipeline import COMPARED, run_stages

        run_stages(config, COMPARED)

    return run_job(prog, text, work, argv=argv)


def _serve(prog: str, text: str, argv: Sequence[str]) -> int:
    from brain_ray.cli import complain
    from brain_ray.errors import RunError
    from brain_ray.serving.serve import main
    from brain_ray.usage import UsageError

    try:
        main(argv, text, prog)
    except UsageError as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        complain("interrupted before it was on the air")
        return 1
    except RunError as error:
        complain(error)
        return 1
    return 0


def _predict(prog: str, text: str, argv: Sequence[str]) -> int:
    from brain_ray.serving.predict import run

    return run(text, argv, prog)


def _control(prog: str, text: str, argv: Sequence[str]) -> int:
    from brain_ray.training.control import main

    return main(text, argv, prog)


def _doctor(prog: str, text: str, argv: Sequence[str]) -> int:
    from brain_ray.checks.doctor import main

    return main(text, argv, prog)


def _submit(prog: str, text: str, argv: Sequence[str]) -> int:
    from brain_ray.submission.submit import main

    return main(text, argv)


JOBS = {
    "pipeline": Job(
        """From a folder of MR images to a scored, exported model: prepare, train, export, evaluate.

--tune puts a sweep in place of the training: many settings are trained, and the winner is exported.""",
        _pipeline,
    ),
    "prepare": Job(
        "Turn folders of MR images into an audited, split data set: dataset/ of a run.", _stage("prepare")
    ),
    "train": Job("Train a network on a prepared data set: train/ of a run.", _stage("train")),
    "tune": Job(
        """Train many settings, choose the best model and say how sure that is: sweep/ of a run.

The winner is exported to bundle/, and report/sweep.html compares the models.""",
        _tune,
    ),
    "export": Job(
        "Export the best weights as a checked bundle, Keras and ONNX: bundle/ of a run.", _stage("export")
    ),
    "evaluate": Job(
        "Score the bundle on the test split and write the report: report/ of a run.", _stage("evaluate")
    ),
    "serve": Job(
        """Serve a bundle over HTTP, with a page.

It starts a Ray of its own, and ends with Ctrl-C; on a cluster that runs already, it ends once deployed.""",
        _serve,
    ),
    "predict": Job(
        """Classify images, by an endpoint or with a bundle.

FILES are images, folders (searched for jpg, jpeg, png, bmp, tif, tiff and webp files, sorted), or - for a
list of such paths, one a line, on standard input. Rows are printed as they come, in the order of the files.

The exit code is 0 when every image got an answer, 1 when one could not be used or the job came to an early
end, 2 after a wrong command line. The key of an endpoint that wants one is read from --api-key-file, or from
BRAIN_RAY_API_KEY.""",
        _predict,
    ),
    "control": Job(
        """Say something to a training that runs.

RUN   the run's name, or its whole path or URI; on the cluster of RAY_ADDRESS, else the one on this machine
WORD  status       the last epoch, and what was said so far
      halt         end with the best weights
      extend N     N more epochs
      rate X       this learning rate from the next epoch on
      ask-every N  end after N epochs without improvement (0: never)
A word is heard at the end of the epoch and stands in history.csv; nothing waits for one.""",
        _control,
    ),
    "doctor": Job(
        """Say what is wrong before work is begun.

It looks at this machine, at the Ray cluster (of --address or RAY_ADDRESS, else one that is started for the
while) and at what the recipe and its settings need: versions, token, nodes, CPUs, GPUs, memory, disk,
storage, data and weights, from each node. One line each: ok, warning or error, with what to do about it.
--address ADDRESS  Ray's own, HEAD:6379, on a machine of the cluster; of an http(s):// address, where jobs are
                   submitted, the way there is checked (`submit doctor RECIPE --address URL` does the rest)
--json             print the findings as JSON

The exit code is 0, 1 after an error, 2 for a wrong command line.""",
        _doctor,
    ),
    "submit": Job(
        """Run a job on a Ray cluster with this checkout's code.

usage: {prog} JOB WORDS... [options]

JOB    prepare, train, tune, export, evaluate, pipeline, doctor, control or predict; WORDS are its own.
--address URL      the cluster's dashboard; else RAY_API_SERVER_ADDRESS, RAY_ADDRESS if it is http(s)://,
                   or http://127.0.0.1:8265
--environment E    where its packages come from: image (the cluster has them), pip or uv (Ray installs them
                   by constraints.txt), auto (pip where the image does not have them; the default)
--id NAME          the job's id on the cluster
--detach           print the id, and do not wait
--follow ID        take up a job that was submitted before, instead of JOB
--debug            show the trace of an error, here and in the job
Options stand anywhere; what follows -- is the job's. Ctrl-C asks whether to stop the job as well.

Standard output is the job's log, standard error the rest. The exit code is the job's own, 130 if it was
stopped or is no longer followed, 1 if it could not be run, 2 for a wrong command line.""",
        _submit,
    ),
}
"""All jobs, in the order of their use."""
