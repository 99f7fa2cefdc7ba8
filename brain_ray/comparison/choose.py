"""Stage choose: compares a sweep's trials and makes the winner's training the run's."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from brain_ray.comparison import wording
from brain_ray.comparison.averages import keep_averages, other_seeds
from brain_ray.comparison.compare import compare
from brain_ray.comparison.cost import Cost, measure
from brain_ray.comparison.learning_curve import format_curve, learning_curve
from brain_ray.comparison.report import format_table, write_sweep_report
from brain_ray.comparison.results import Comparison
from brain_ray.config import Config
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.earlier import as_stored
from brain_ray.errors import RunError
from brain_ray.evaluation.cross_validation import report_folds
from brain_ray.logs import log
from brain_ray.runs import (
    BEST,
    CHOICE,
    COSTS,
    FOLDS_PAGE,
    MEMBER_FOLDS,
    MEMBERS,
    REPORT,
    SUSPECT_FILES,
    SWEEP,
    SWEEP_PAGES,
    TRAIN,
    WINNER,
    Run,
)
from brain_ray.scoring.calibration import log_loss
from brain_ray.scoring.cross_validation import CrossValidation, format_cross_validation
from brain_ray.scoring.decisions import wrap
from brain_ray.storage_retries import copy_folder
from brain_ray.tuning.fold_records import answers_of
from brain_ray.tuning.trial_store import best_value, read_sweep, trial_run
from brain_ray.tuning.trials import SweepRecord, Trial, TrialRecord, models_of


def choose(run: Run, config: Config) -> str:
    """Fills the empty train/ of a run with the training of its sweep's winner; returns a table of the models.

    Also writes config.json there, the winner's settings; choice.json, the evidence for the bundle; the
    weights of the winner's folds, or else of its seeds, by rank; what `keep_averages` writes; and sweep.html
    and sweep.json, which go to report/ too. Reads nothing of the test split.

    Raises:
        RunError: the sweep is not complete, no trial can win, or the winner's weights are gone.
    """
    run.require(SWEEP, "tune")
    record = read_sweep(run, config)
    comparison = compare(record, _costs(run, record))
    members = record.members.get(comparison.winner, ())
    ranked = _by_answers(members, record) or _seeds_of(comparison.winner, record, run)
    for trial in ranked:
        home = trial_run(run, trial.id)
        if not home.exists(*BEST):
            raise RunError(
                f"the weights of trial {trial.id} are gone from {home.uri('train')}: sweep again under "
                "another name, with the rule of choice that you want"
            )
    winner = ranked[0]
    home = trial_run(run, winner.id)
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    copy_folder(run.fs, home.path(TRAIN), run.path(TRAIN))
    folds = {}
    for place, trial in enumerate(ranked if len(ranked) > 1 else ()):
        weights = trial_run(run, trial.id).read_bytes(*BEST)
        name = f"{place:02d}-{trial.id}.npz"
        run.write_bytes(weights, *MEMBERS, name)
        folds[name] = trial.config.train.fold
    if members:
        run.write_json(folds, *MEMBER_FOLDS)
    answers = _pool(record, members)
    validated, suspects = (
        (None, "") if answers is None else _keep_folds(run, config, record, answers, members)
    )
    offers = [wrap(each) for each in keep_averages(run, record, comparison, answers)]
    curve = learning_curve(record, comparison.rows)
    page, value = write_sweep_report(comparison, created, validated, curve)
    run.write_json(winner.config.model_dump(mode="json"), *WINNER)
    if len(comparison.rows) > 1:  # else nothing was chosen
        run.write_json(_evidence(comparison), *CHOICE)
    run.write_bytes(page.encode(), TRAIN, SWEEP_PAGES[0])
    run.write_json(value, TRAIN, SWEEP_PAGES[1])
    show_pages(run)
    if validated is None:
        text = f"{format_table(comparison)}\ntrial {winner.id} wins, and its training is now the run's"
        return "\n".join([text, *offers])
    parts = [format_table(comparison)] if len(comparison.rows) > 1 else []
    parts += [] if curve is None else [f"{format_curve(curve)}\n{wrap(curve.sentence)}"]
    exported = (
        f"trial {winner.id}, on the fold whose images were answered best, is now the run's training; "
        "temperature and thresholds are fitted on the answers to all folds (--export.members all averages "
        "their models)"
    )
    parts += [format_cross_validation(validated), wrap(suspects), wrap(exported)]
    return "\n\n".join([*parts, *offers])


def _by_answers(members: Sequence[TrialRecord], record: SweepRecord) -> list[Trial]:
    """Returns the trials of the folds by the log loss of their answers to their own, the lowest first."""
    if not members:
        return []
    assert record.folds is not None, "a sweep with members is one over folds"
    labels, held = record.folds.label, record.folds.held_out
    losses = {
        fold: log_loss(np.asarray(chances, np.float64), labels[held(fold)])
        for fold, chances in answers_of(members).items()
    }
    by_fold = {one.trial.config.train.fold: one.trial for one in members}
    return [by_fold[fold] for fold in sorted(losses, key=lambda fold: (losses[fold], fold))]


def _seeds_of(winner: str, record: SweepRecord, run: Run) -> list[Trial]:
    """Returns the winner, and the other trials of its variant whose weights are there, the best first."""
    (best,) = (one for one in record.trials if one.trial.id == winner)
    others = other_seeds(best, record)
    others.sort(key=lambda one: best_value(one.history, "val_cross_entropy"))
    return [best.trial, *(one.trial for one in others if trial_run(run, one.trial.id).exists(*BEST))]


def _pool(record: SweepRecord, members: Sequence[TrialRecord]) -> OutOfFold | None:
    """Returns the answers of the trials of the folds, if there are any."""
    if not members:
        return None
    assert record.folds is not None, "a sweep with members is one over folds"
    return OutOfFold.pool(record.folds, answers_of(members))


def _keep_folds(
    run: Run, config: Config, record: SweepRecord, answers: OutOfFold, members: Sequence[TrialRecord]
) -> tuple[CrossValidation, str]:
    """Writes the out-of-fold answers and what there is to say of them into train/; returns their scores, and
    a sentence on suspected labels."""
    answers.write(run)
    of_variant = [one for one in record.trials if one.trial.variant == members[0].trial.variant]
    seeds = [one.probabilities for one in of_variant if one.probabilities is not None]
    return report_folds(run, config, answers, seeds)


def show_pages(run: Run) -> None:
    """Copies the sweep's pages and tables into report/, if this run's training comes from a sweep."""
    for name in (*SWEEP_PAGES, FOLDS_PAGE, *SUSPECT_FILES):
        if run.exists(TRAIN, name):
            run.write_bytes(run.read_bytes(TRAIN, name), REPORT, name)


def settings_of(run: Run, config: Config) -> Config:
    """Returns the config that a run's model was trained with: the winner's, if a sweep has chosen it."""
    if not run.exists(*WINNER):
        return config
    winner = as_stored(run.read_json(*WINNER))
    return config.model_copy(update={"seed": winner.seed, "model": winner.model, "train": winner.train})


def _costs(run: Run, record: SweepRecord) -> dict[str, Cost]:
    """Returns the cost of each model; a model that was measured here before is not measured again."""
    models = models_of([each.trial for each in record.trials if each.status != "failed"])
    known = run.read_json(*COSTS) if run.exists(*COSTS) else {}
    for name, config in models.items():
        if name not in known:
            known[name] = asdict(measure(config))
            run.write_json(known, *COSTS)
            log.info(
                f"{name}: one image in {known[name]['latency_ms']:.1f} ms by ONNX Runtime on this machine"
            )
    return {name: Cost(**known[name]) for name in models}


def _evidence(comparison: Comparison) -> dict[str, Any]:
    """Returns the facts on a sweep for bundle.json and the model card."""
    rows = {row.trial: row for row in comparison.rows}
    contenders = []
    for model in comparison.models:
        if not model.contender or model.trial is None or model.cross_entropy is None:
            continue
        row = rows[model.trial]
        contenders.append(
            {
                "model": model.model,
                "trial": model.trial,
                "repeats": model.cross_entropy.repeats,
                "cross_entropy": model.cross_entropy.mean,
                "spread": model.cross_entropy.sd,
                "calibrated": model.calibrated.mean if model.calibrated else None,
                "accuracy": row.accuracy,
                "accuracy_low": row.accuracy_low,
                "accuracy_high": row.accuracy_high,
                "latency_ms": model.cost.latency_ms if model.cost else None,
                "parameters": model.cost.parameters if model.cost else None,
                "gflops": model.cost.gflops if model.cost else None,
                "within_noise": model.within_noise,
                "verdict": model.verdict,
            }
        )
    return {
        "rule": comparison.rule,
        "sentence": comparison.sentence,
        "noise": wording.noise(comparison),
        "trials": len(comparison.rows),
        "by_status": dict(sorted(Counter(row.status for row in comparison.rows).items())),
        "winner": comparison.winner,
        "contenders": contenders,
    }
