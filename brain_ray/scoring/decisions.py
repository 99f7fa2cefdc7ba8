"""Decisions on test images: how many were answered, abstained from and refused, and how many rightly."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.metrics import DecisionCounts, Decisions, wilson

TEXT_WIDTH = 110
"""Largest width of the text for a terminal, in columns."""


def count_decisions(
    labels: ArrayLike,
    answers: ArrayLike,
    decisions: ArrayLike,
    clusters: ArrayLike,
    classes: Sequence[str],
    exported: Mapping[str, Any],
) -> Decisions:
    """Counts decisions by true class, and compares their error rate with the one allowed at export.

    Args:
        labels: (n,) integers, true classes as indices into `classes`.
        answers: (n,) integers, the served labels.
        decisions: (n,) of "answer", "abstain" and "not_mr".
        clusters: (n,) ids; images of one cluster are copies of one another.
        classes: k names.
        exported: `decision` of bundle.json.
    """
    truth, found = np.asarray(labels), np.asarray(decisions)
    right, groups = np.asarray(answers) == truth, np.asarray(clusters)
    total = _count(found, right, groups)
    return Decisions(
        per_class={
            name: _count(found[truth == k], right[truth == k], groups[truth == k])
            for k, name in enumerate(classes)
        },
        total=total,
        max_error=exported["max_error"],
        validation_error=exported["error"],
        exceeded=total.error_low is not None and total.error_low > exported["max_error"],
        sentence=_sentence(total, exported),
    )


def _count(
    decisions: NDArray[np.str_], right: NDArray[np.bool_], clusters: NDArray[np.integer]
) -> DecisionCounts:
    answered, abstained, refused = (decisions == name for name in ("answer", "abstain", "not_mr"))
    given, wrong = int(answered.sum()), int((answered & ~right).sum())
    low, high = wilson(wrong, given) if given else (None, None)
    return DecisionCounts(
        images=len(decisions),
        clusters=len(np.unique(clusters)),
        answered=given,
        right=given - wrong,
        wrong=wrong,
        error=wrong / given if given else None,
        error_low=low,
        error_high=high,
        abstained=int(abstained.sum()),
        abstained_right=int((abstained & right).sum()),
        refused=int(refused.sum()),
        refused_right=int((refused & right).sum()),
    )


def _sentence(total: DecisionCounts, exported: Mapping[str, Any]) -> str:
    max_error = exported["max_error"]
    validated = f"{_percent(exported['error'])} were" if exported["answered"] else "no image was answered"
    text = (
        f"The export allowed {_percent(max_error)} of the answers to be wrong (export.max_error); on the "
        f"validation images, which chose the threshold, {validated}. "
    )
    if total.error is None or total.error_low is None or total.error_high is None:
        return f"{text}No test image is answered."
    text += (
        f"On the test images {total.wrong} of {total.answered} answers are wrong, {_percent(total.error)} "
        f"(95 % interval {_percent(total.error_low)} to {_percent(total.error_high)}): "
    )
    if total.error_low > max_error:
        end = "more than was allowed, and so is the lower end of the interval."
    elif total.error_high > max_error:
        end = "the interval contains what was allowed, so that these images do not tell whether it holds."
    else:
        end = "the whole interval lies within what was allowed."
    return text + end


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def format_decisions(decisions: Decisions) -> str:
    """Returns decisions as a text table, with a sentence on the error rate that was allowed."""
    rows = {**decisions.per_class, "all": decisions.total}
    width = max(len("decisions"), *map(len, rows))
    lines = [
        f"{'decisions':{width}}  images  answered  right  wrong  error (95 % interval)      abstained  not_mr"
        "  (network right)"
    ]
    for name, row in rows.items():
        error = "-"
        if row.error is not None:
            error = f"{row.error:.4f} ({row.error_low:.4f} to {row.error_high:.4f})"
        lines.append(
            f"{name:{width}}  {row.images:6d}  {row.answered:8d}  {row.right:5d}  {row.wrong:5d}  "
            f"{error:25}  {row.abstained:9d}  {row.refused:6d}  "
            f"({row.abstained_right} and {row.refused_right})"
        )
    return "\n".join([*lines, "", *textwrap.wrap(decisions.sentence, TEXT_WIDTH)])
