"""What each job runs; imports nothing from outside brain_ray and the standard library until one is called."""

from collections.abc import Callable, Sequence

Main = Callable[[str, str, Sequence[str]], int]
"""Runs a job. Takes the command as typed, such as `brain-ray train`, the text of its `--help`, and the words
after the command; returns the exit code: 0, 1 after an error, 2 for a wrong command line."""


def stages(*names: str) -> Main:
    """Returns a job that runs the named stages of `brain_ray.pipeline`."""

    def start(prog: str, text: str, argv: Sequence[str]) -> int:
        from brain_ray.cli import run_job
        from brain_ray.config import Config

        def work(config: Config) -> None:
            from brain_ray.pipeline import run_stages

            run_stages(config, names)

        return run_job(prog, text, work, argv=argv)

    return start


def pipeline(prog: str, text: str, argv: Sequence[str]) -> int:
    """Runs all stages, or with --tune a sweep in place of the training."""
    from brain_ray.cli import run_job
    from brain_ray.config import Config

    def train(config: Config) -> None:
        from brain_ray.pipeline import as_sweep, run_stages
        from brain_ray.stages import TUNED

        sweep = as_sweep(config)
        if sweep is None:
            run_stages(config)
        else:
            run_stages(sweep, TUNED)

    def tune(config: Config) -> None:
        from brain_ray.pipeline import run_stages
        from brain_ray.stages import TUNED

        run_stages(config, TUNED)

    return run_job(prog, text, train, {"--tune": tune}, argv=argv)


def evaluate(prog: str, text: str, argv: Sequence[str]) -> int:
    """Scores a bundle: the run's own on its test split, or any on images of another source."""
    from brain_ray.external import run_evaluate

    return run_evaluate(prog, text, argv)


def serve(prog: str, text: str, argv: Sequence[str]) -> int:
    """Serves a bundle over HTTP."""
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


def predict(prog: str, text: str, argv: Sequence[str]) -> int:
    """Classifies images with an endpoint or a bundle."""
    from brain_ray.serving.predict import run

    return run(text, argv, prog)


def control(prog: str, text: str, argv: Sequence[str]) -> int:
    """Sends a command to a running training."""
    from brain_ray.training.control import main

    return main(text, argv, prog)


def doctor(prog: str, text: str, argv: Sequence[str]) -> int:
    """Checks machine, cluster, storage and data."""
    from brain_ray.checks.doctor import main

    return main(text, argv, prog)


def register(prog: str, text: str, argv: Sequence[str]) -> int:
    """Registers a bundle in MLflow, or writes it for the Hugging Face hub."""
    from brain_ray.bundle.register import main

    return main(text, argv, prog)


def review(prog: str, text: str, argv: Sequence[str]) -> int:
    """Writes what an endpoint kept for review as a manifest."""
    from brain_ray.serving.review_manifest import main

    return main(text, argv, prog)


def submit(prog: str, text: str, argv: Sequence[str]) -> int:
    """Runs a job on a cluster."""
    from brain_ray.submission.submit import main

    return main(text, argv)
