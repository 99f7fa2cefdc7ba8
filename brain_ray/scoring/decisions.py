"""Decisions on test images: how many were answered, abstained from and refused, and how many rightly."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.scores import DecisionCounts, Decisions

TEXT_WIDTH = 110
"""Largest width of the text for a terminal, in columns."""


def count_decisions(
    labels: ArrayLike,
    answers: ArrayLike,
    decisions: ArrayLike,
    clusters: ArrayLike,
    classes: Sequence[str],
    exported: Mapping[str, Any],
    bootstrap: GroupBootstrap | None = None,
) -> Decisions:
    """Counts decisions by true class, and compares their error rate with the one allowed at export.

    Args:
        labels: (n,) integers, true classes as indices into `classes`.
        answers: (n,) integers, the served labels.
        decisions: (n,) of "answer", "abstain" and "not_mr".
        clusters: (n,) ids; images of one cluster are copies of one another.
        classes: k names.
        exported: `decision` of bundle.json.
        bootstrap: resamples of the groups of the n images; None: the clusters are the groups.
    """
    truth, found = np.asarray(labels), np.asarray(decisions)
    right, copies = np.asarray(answers) == truth, np.asarray(clusters)
    resamples = GroupBootstrap(copies) if bootstrap is None else bootstrap
    total = _count(found, right, copies, np.ones(len(truth), bool), resamples)
    return Decisions(
        per_class={
            name: _count(found, right, copies, truth == k, resamples) for k, name in enumerate(classes)
        },
        total=total,
        max_error=exported["max_error"],
        validation_error=exported["error"],
        exceeded=total.error_low is not None and total.error_low > exported["max_error"],
        sentence=_sentence(total, exported),
    )


def _count(
    decisions: NDArray[np.str_],
    right: NDArray[np.bool_],
    clusters: NDArray[np.integer],
    of: NDArray[np.bool_],
    bootstrap: GroupBootstrap,
) -> DecisionCounts:
    """Counts the decisions for the images that `of`, (n,), names."""
    kinds = {"answered": "answer", "abstained": "abstain", "refused": "not_mr"}
    masks = {name: of & (decisions == kind) for name, kind in kinds.items()}
    answered, abstained, refused = masks.values()
    given, wrong = int(answered.sum()), int((answered & ~right).sum())
    error = bootstrap.share(answered & ~right, answered) if given else None
    shares = {name: bootstrap.share(mask, of) for name, mask in masks.items()} if of.any() else {}
    return DecisionCounts(
        images=int(of.sum()),
        clusters=len(np.unique(clusters[of])),
        groups=bootstrap.groups_of(of),
        answered=given,
        right=given - wrong,
        wrong=wrong,
        error=error.value if error else None,
        error_low=error.low if error else None,
        error_high=error.high if error else None,
        abstained=int(abstained.sum()),
        abstained_right=int((abstained & right).sum()),
        refused=int(refused.sum()),
        refused_right=int((refused & right).sum()),
        intervals={name: (share.low, share.high) for name, share in shares.items()},
    )


def _sentence(total: DecisionCounts, exported: Mapping[str, Any]) -> str:
    max_error = exported["max_error"]
    text = f"{describe_promise(exported)} "
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


def describe_promise(exported: Mapping[str, Any]) -> str:
    """Returns sentences on the error that a bundle allows its answers, and what its validation images show.

    `exported` is `decision` of bundle.json, of this version or an earlier one.
    """
    allowed, error = _percent(exported["max_error"]), _percent(exported["error"])
    if exported.get("confidence") is None:
        found = f"{error} were" if exported["answered"] else "no image was answered"
        return (
            f"The export allowed {allowed} of the answers to be wrong (export.max_error); on the validation "
            f"images, which chose the threshold, {found}."
        )
    level, answers = f"{100 * exported['confidence']:g} %", f"{exported['answers']:.0f} independent answers"
    asked = (
        f"At most {allowed} of the answers shall be wrong, with a confidence of {level} (export.max_error)"
    )
    images, what = "validation images", "the epoch, one of"
    if exported.get("folds"):
        what = "the model, one of"
        images = "images of all folds (each answered by a model of these settings that saw none of its group)"
    chosen = f" (they chose {what} {exported['models']})" if exported["models"] > 1 else ""
    if not exported["answered"]:
        return (
            f"{asked}. This model answers nothing: it takes {exported['answers_needed']:,} independent "
            f"answers, all of them right, to show that; the {images} are worth {answers}{chosen}."
        )
    return (
        f"{asked}. On the {images}, worth {answers}{chosen}, {error} of those given are wrong: of "
        f"the answers to images like these it is at most {_percent(exported['error_bound'])}."
    )


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
    return "\n".join([*lines, "", wrap(decisions.sentence)])


def wrap(text: str, indent: str = "") -> str:
    """Returns sentences in lines for a terminal, those after the first with an indent."""
    return textwrap.fill(text, TEXT_WIDTH, subsequent_indent=indent)
