"""Command `evaluate`: scores a run's bundle, or any bundle on any labelled images."""

from collections.abc import Sequence

from brain_ray.cli import complain, run_job, take_value
from brain_ray.config import Config
from brain_ray.runs import CONFIG, Run
from brain_ray.usage import UsageError

HELP = """

--bundle BUNDLE scores any bundle, by its path or URI, on the labelled images of --data.source: those of its
test split, or all if it has none; RUN/dataset/manifest.parquet is the test split of a prepared run. No
training is needed; the report is of the run `external`, unless --name says another. Images are read as the
bundle says. Classes may be missing, images of other classes are left out, and --evaluate.mapping names the
set's class for each of the bundle's."""


def run_evaluate(prog: str, text: str, argv: Sequence[str]) -> int:
    """Runs the job; returns the exit code: 0, 1 after an error, 2 for a wrong command line."""
    try:
        bundle, words = take_value(argv, "--bundle", "the path or URI of a bundle's folder")
        if bundle is not None and not {"-h", "--help"} & set(words):
            words = _named(words)
    except UsageError as error:
        complain(error)
        return 2

    def work(config: Config) -> None:
        from brain_ray.evaluation.external import EXTERNAL, as_external
        from brain_ray.pipeline import run_stages

        location = bundle or config.evaluate.bundle  # a run that is started again knows its bundle
        if location is None:
            run_stages(config, ["evaluate"])
        else:
            run_stages(as_external(config, location), EXTERNAL)

    return run_job(prog, text + HELP, work, argv=words, own=["--bundle"])


def _named(words: list[str]) -> list[str]:
    """Returns the words with a name for the run, and checks that a new one says where its images are."""
    given = {word.partition("=")[0] for word in words}
    if "--name" not in given:
        words = [*words, "--name", "external"]
    if "--data.source" not in given:
        storage, _ = take_value(words, "--storage")
        name, _ = take_value(words, "--name")
        if not Run(storage or Config().storage, name or "external").exists(*CONFIG):
            raise UsageError(
                "--bundle needs --data.source, the labelled images that it is scored on (a folder, a "
                "manifest, or phantoms)"
            )
    return words
