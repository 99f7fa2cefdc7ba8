"""What choosing among models by a test split does to the score of the chosen one."""

import math
from typing import Any

LEDGER_FILE = "test_ledger.jsonl"
"""File of a run that lists how often its test split was scored."""

REACH = 1.959964
"""Standard errors from a score to the end of its 95 % interval, if it is normal."""


def expected_maximum(count: int) -> float:
    """Returns the mean of the largest of `count` independent standard normal numbers.

    For example, 0 of one, 0.56 of two, 1.54 of ten (Harter 1961, doi.org/10.2307/2333139).
    """
    from scipy.integrate import quad
    from scipy.special import log_ndtr, ndtr

    if count < 2:
        return 0.0
    # E[max] = integral over x > 0 of P(max > x) - P(max < -x).
    found, _ = quad(lambda x: -math.expm1(count * log_ndtr(x)) - ndtr(-x) ** count, 0, math.inf)
    return float(found)


def sum_up_choice(models: int, scorings: int, low: float, high: float) -> dict[str, Any]:
    """Returns how often a test split was scored, and what a choice by it does, as strict JSON.

    The best of k equally good models scores higher on a split than they do on average: by as many standard
    errors as `expected_maximum` says if their scores there vary independently, and by less if they err on
    the same images (Cawley and Talbot 2010, jmlr.org/papers/v11/cawley10a.html).

    Args:
        models: number of models that were scored on the split, k.
        scorings: number of scorings; a model is scored again with other thresholds, for example.
        low: lower end of the 95 % interval of the accuracy, 0..1.
        high: its upper end.

    Returns:
        models, scorings, excess (of the accuracy, 0..1) and sentence.
    """
    errors = expected_maximum(models)
    excess = errors * (high - low) / (2 * REACH)
    where = f"counting the runs in this storage ({LEDGER_FILE})"
    if models < 2:
        times = "" if scorings < 2 else f", {scorings} times, with other thresholds or settings"
        sentence = (
            f"One model was scored on this test split{times}, {where}. Scorings elsewhere, and what was "
            "decided in view of them, are not recorded."
        )
    else:
        sentence = (
            f"{models} models were scored on this test split, {where}. If one of them is chosen by these "
            f"scores, its score is too high, and the intervals do not hold for it: the best of {models} "
            f"equally good models exceeds their mean by {errors:.2f} standard errors on average, here by "
            f"{100 * excess:.1f} points of accuracy, if their scores vary independently, and by less if they "
            "err on the same images (Cawley and Talbot 2010, jmlr.org/papers/v11/cawley10a.html). Choose by "
            "validation, or score the chosen model on images on which none was scored before."
        )
    return {"models": models, "scorings": scorings, "excess": excess, "sentence": sentence}
