"""The mean of a sweep's models: what it answers, and where the networks are that a bundle of it averages."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from brain_ray.comparison.results import Comparison
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.runs import BEST, MODELS, MODELS_OUT_OF_FOLD, TRIALS, Run
from brain_ray.scoring.calibration import log_loss
from brain_ray.tuning.trial_store import trial_run
from brain_ray.tuning.trials import SweepRecord, TrialRecord


def keep_models(run: Run, record: SweepRecord, comparison: Comparison, answers: OutOfFold | None) -> str:
    """Writes into train/ what `export.members` models needs; returns a sentence on the mean of the models.

    That is, for each fold, the best training of each compared model that is fed what the chosen one is; and
    the mean of their out-of-fold answers. Nothing is written, and nothing said, if there is one such model.

    Args:
        run: of the sweep; the weights stay where its trials have them.
        record: of its trials.
        comparison: of its models.
        answers: out of fold, of the chosen one; None: the sweep is over no folds.
    """
    averaged = _averaged(run, record, comparison)
    chances = [np.asarray(one.probabilities, np.float64) for one in averaged]
    if len(averaged) < 2:
        return ""
    networks = [
        {
            "trial": one.trial.id,
            "fold": one.trial.config.train.fold,
            "weights": [*TRIALS, one.trial.id, *BEST],
            "model": one.trial.config.model.model_dump(mode="json"),
        }
        for each in averaged
        for one in record.members.get(each.trial.id, (each,))
    ]
    run.write_json(networks, *MODELS)
    mean: NDArray[np.float64] = np.stack(chances).mean(axis=0)
    if answers is not None:
        replace(answers, probabilities=mean.astype(np.float32)).write(run, MODELS_OUT_OF_FOLD)
    labels = record.labels
    kind = "validation" if answers is None else "out of fold"
    names = " and ".join(each.trial.model for each in averaged)
    told, alone = (
        f"accuracy {_accuracy(each, labels):.4f}, log loss {log_loss(each, labels):.4f}"
        for each in (mean, chances[0])
    )
    return (
        f"--export.members models averages {names}, for the time of all of them: {told} ({kind}); "
        f"the chosen one alone: {alone}"
    )


def _accuracy(chances: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(np.mean(chances.argmax(axis=1) == labels))


def _averaged(run: Run, record: SweepRecord, comparison: Comparison) -> Sequence[TrialRecord]:
    """Returns the chosen training, and those of the other models that can be averaged with it."""
    by_id = {one.trial.id: one for one in record.trials}
    chosen = by_id[comparison.winner]
    wanted = chosen.trial.config.model.input_spec
    others = [
        by_id[model.trial] for model in comparison.models if model.contender and model.trial is not None
    ]
    others = [one for one in others if one is not chosen and one.trial.config.model.input_spec == wanted]
    return [
        one
        for one in (chosen, *others)
        if one.probabilities is not None
        and all(
            trial_run(run, each.trial.id).exists(*BEST) for each in record.members.get(one.trial.id, (one,))
        )
    ]
