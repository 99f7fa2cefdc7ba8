"""The rule of choice: the fastest model that is shown to be worse than the best by less than a margin."""

from collections.abc import Sequence

from brain_ray.scoring.paired_tests import Difference


def last_within_margin(deficits: Sequence[Difference], margin: float) -> int | None:
    """Returns the place of the last deficit that is shown to be below the margin; None if there is none.

    Tests of non-inferiority, one-sided, in a fixed sequence that ends at the first failure: it needs no
    correction for the number of models (Westfall and Krishen 2001, doi.org/10.1016/S0378-3758(01)00077-5).
    Latency fixes the sequence, not the scores. A deficit above the margin is passed over instead of tested,
    so that a bad model ends nothing; where no true deficit is below the margin, half of the estimates are
    passed over, and the others are tested at half the level for that (conditionalization: Ellis et al. 2020,
    arxiv.org/abs/1801.00141). So with 95 % intervals, whose upper ends are 97.5 % bounds, a model that is
    worse by the margin or more is chosen in about 5 % of cases at most. That the best is the best by chance
    only adds to the deficits (Hsu 1996, Multiple Comparisons).

    Args:
        deficits: differences to the best model, from the slowest to the fastest of the models that are faster
            than it; `high` is the upper bound.
        margin: how much worse than the best a model may be.
    """
    last = None
    for place, deficit in enumerate(deficits):
        if deficit.value >= margin:
            continue
        if deficit.high >= margin:
            break
        last = place
    return last
