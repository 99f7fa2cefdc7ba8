"""Quick checks before the stages of a run: a wrong bucket costs seconds instead of an hour of GPUs."""

from collections.abc import Collection

from brain_ray.checks.cluster import check_cluster, check_gpus, check_scoring
from brain_ray.checks.finding import refuse_errors
from brain_ray.checks.locations import TRAINING
from brain_ray.checks.nodes import check_places, visit_nodes
from brain_ray.config import Config, DataConfig
from brain_ray.data.image_export import check_export
from brain_ray.data.sources.find import Source, given_source
from brain_ray.errors import RunError
from brain_ray.logs import log
from brain_ray.runs import Run
from brain_ray.storage import resolve


def preflight(run: Run, config: Config, stages: Collection[str], source: Source | None = None) -> None:
    """Checks what the coming stages need, on the connected cluster; logs warnings.

    Args:
        run: the run.
        config: its settings.
        stages: names of the stages.
        source: the source that the settings name, which stage prepare is going to list; None: it is looked
            at for these checks alone.

    Raises:
        RunError: a node does not answer; storage, data or weights cannot be reached from each node; there are
            not, and will not be, as many CPUs and GPUs as the stages need; TensorFlow does not see the GPUs
            of a node that trains; the folder for exported images has other files; or there would be no test
            images to score.
    """
    if not stages:
        return
    trains = bool(TRAINING & set(stages))
    places = ("storage", *["data"] * ("prepare" in stages), *["weights"] * trains)
    gpus = trains and config.train.use_gpu
    findings, visits = visit_nodes(run, config, places, gpus=gpus)
    refuse_errors(findings)
    source = source or given_source(config.data)
    findings = check_places(run, config, visits, places, source)
    if "prepare" in stages and not any(found.level == "error" for found in findings):
        scores_test = "evaluate" in stages and config.folds is None
        _check_data(run, config.data, source, scores_test=scores_test)
    if trains:
        findings += check_cluster(config)
    if gpus:
        findings += check_gpus(config, visits)
    if "evaluate" in stages:
        findings.append(check_scoring(config.evaluate))
    refuse_errors(findings)
    for found in findings:
        if found.level == "warning":
            log.info(f"{found.name}: {found.message()}")


def _check_data(run: Run, data: DataConfig, source: Source | None, *, scores_test: bool) -> None:
    """Checks that preparation can export images, if it is to, and leaves test images if they are scored."""
    if data.export_images:
        check_export(run, resolve(data.export_images))
    draws = data.test_fraction > 0 or data.external
    if scores_test and not draws and source is not None and "test" not in source.splits():
        raise RunError(
            f"data: there would be no test images to evaluate: {data.source} has none, and "
            "data.test_fraction is 0: set --data.test-fraction, or name the source's own by "
            "--data.test-folder or, in a manifest, by a column of splits"
        )
