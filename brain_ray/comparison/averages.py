"""Means of a sweep's models or seeds: what they answer, and where the networks are that a bundle averages."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from brain_ray.comparison.results import Comparison
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.runs import AVERAGES, AVERAGES_OUT_OF_FOLD, BEST, TRIALS, Run
from brain_ray.scoring.calibration import log_loss
from brain_ray.tuning.trial_store import trial_run
from brain_ray.tuning.trials import SweepRecord, TrialRecord


def keep_averages(
    run: Run, record: SweepRecord, comparison: Comparison, answers: OutOfFold | None
) -> list[str]:
    """Writes into train/ what `export.members` seeds and models need; returns a sentence on each mean.

    That is, for each fold, the networks: of all seeds of the chosen settings, or of the best training of each
    compared model that is fed what the chosen one is; and the mean of their out-of-fold answers. There is no
    mean of one.

    Args:
        run: of the sweep; the weights stay where its trials have them.
        record: of its trials.
        comparison: of its models.
        answers: out of fold, of the chosen one; None: the sweep is over no folds.
    """
    by_id = {one.trial.id: one for one in record.trials}
    chosen = by_id[comparison.winner]
    kinds = {"models": _models(chosen, by_id, comparison), "seeds": other_seeds(chosen, record)}
    networks, sentences = {}, []
    for kind, others in kinds.items():
        averaged = [one for one in (chosen, *others) if _is_complete(run, record, one)]
        if len(averaged) < 2:
            continue
        networks[kind] = [
            {
                "trial": one.trial.id,
                "fold": one.trial.config.train.fold,
                "weights": [*TRIALS, one.trial.id, *BEST],
                "model": one.trial.config.model.model_dump(mode="json"),
            }
            for each in averaged
            for one in record.members.get(each.trial.id, (each,))
        ]
        chances = [np.asarray(one.probabilities, np.float64) for one in averaged]
        mean: NDArray[np.float64] = np.stack(chances).mean(axis=0)
        if answers is not None:
            pooled = replace(answers, probabilities=mean.astype(np.float32))
            pooled.write(run, AVERAGES_OUT_OF_FOLD[kind])
        told, alone = (
            f"accuracy {_accuracy(each, record.labels):.4f}, log loss {log_loss(each, record.labels):.4f}"
            for each in (mean, chances[0])
        )
        names = " and ".join(dict.fromkeys(each.trial.model for each in averaged))
        of = names if kind == "models" else f"{len(averaged)} seeds of {names}"
        answered = "validation" if answers is None else "out of fold"
        sentences.append(
            f"--export.members {kind} averages {of}, for the time of all of them: {told} ({answered}); the "
            f"chosen one alone: {alone}"
        )
    if networks:
        run.write_json(networks, *AVERAGES)
    return sentences


def _models(
    chosen: TrialRecord, by_id: Mapping[str, TrialRecord], comparison: Comparison
) -> list[TrialRecord]:
    """Returns the best trainings of the models that can be averaged with the chosen one."""
    best = [by_id[model.trial] for model in comparison.models if model.contender and model.trial is not None]
    wanted = chosen.trial.config.model.input_spec
    return [one for one in best if one is not chosen and one.trial.config.model.input_spec == wanted]


def other_seeds(chosen: TrialRecord, record: SweepRecord) -> list[TrialRecord]:
    """Returns the finished trainings of the chosen settings with other seeds."""
    return [
        one
        for one in record.trials
        if (one.trial.variant, one.status) == (chosen.trial.variant, "finished") and one is not chosen
    ]


def _is_complete(run: Run, record: SweepRecord, one: TrialRecord) -> bool:
    """Tells whether a training has answers, and its weights, of each fold, are there."""
    trials = record.members.get(one.trial.id, (one,))
    return one.probabilities is not None and all(
        trial_run(run, each.trial.id).exists(*BEST) for each in trials
    )


def _accuracy(chances: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(np.mean(chances.argmax(axis=1) == labels))
