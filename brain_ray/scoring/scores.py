"""Schema of scores, strict JSON, and how terminal, report and model card show them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A part of what is written as strict JSON."""

    # NaN is refused here, so that no score can reach a JSON file as something that is not JSON.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassScores(Strict):
    """Precision, recall and F1 (0..1) of a class with `support` images; None if the class has no image."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class Auc(Strict):
    """Areas under ROC curves, one class against the rest (0..1); None if undefined."""

    per_class: dict[str, float | None]
    micro: float | None
    macro: float | None


class ProbabilityScores(Strict):
    """Scores of the probabilities; lower is better.

    log_loss: mean of -ln(probability of the true class), in nats.
    brier: mean over images of the squared errors summed over all classes, 0..2 (Brier 1950).
    ece: expected calibration error, 0..1 (Guo et al. 2017).
    """

    log_loss: float
    brier: float
    ece: float


class UnitScores(Strict):
    """Accuracy with one vote for each slice or each patient, and its interval over groups."""

    units: int
    right: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float


class DecisionCounts(Strict):
    """Decisions for a set of test images. Shares are 0..1; intervals are of 95 %, over groups."""

    images: int
    clusters: int
    """Number of images when each cluster of copies found by the audit counts once."""
    groups: int
    """Number of groups (patients, or clusters where no patient is known)."""
    answered: int
    right: int
    """Images answered with the true class; likewise `wrong`."""
    wrong: int
    error: float | None
    """Share `wrong` of `answered`; None if nothing is answered."""
    error_low: float | None
    error_high: float | None
    abstained: int
    abstained_right: int
    """Images abstained from although the most probable class was the true one; likewise `refused_right`."""
    refused: int
    """Images refused because they are unlike the training images (`not_mr`)."""
    refused_right: int
    intervals: dict[str, tuple[float, float]]
    """Of the shares of images that are answered, abstained from and refused, by those names."""


class Decisions(Strict):
    """Decisions of a bundle for a set of test images, exactly as it serves them."""

    per_class: dict[str, DecisionCounts]
    """Counts by true class."""
    total: DecisionCounts
    max_error: float
    """Share of wrong answers that the export allowed."""
    validation_error: float
    """Share of wrong answers on the validation images, which chose the threshold."""
    exceeded: bool
    """Whether the lower end of the interval of the total error is above `max_error`."""
    sentence: str
    """The same comparison as a sentence."""


class Sensitivity(Strict):
    """Share (0..1) of a class's images that have it among their candidates, and what was asked for."""

    asked: float
    found: float
    low: float
    high: float
    missed: bool
    """Whether the whole interval is below what was asked for."""


class CandidateScores(Strict):
    """Candidates of test images: the classes that a bundle does not exclude."""

    per_class: dict[str, Sensitivity]
    """By true class, of those that have images."""
    mean_number: float
    """Mean number of candidates of an image."""
    single: float
    """Share of the images with one candidate."""


class Subgroup(Strict):
    """Scores of the images with one value in a column that their source states."""

    column: str
    value: str
    images: int
    groups: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    answered: float
    """Share of the images that are answered."""
    error: float | None
    """Share of wrong answers; None without any."""
    candidate: float | None
    """Share of the images whose true class is a candidate; None where the bundle has no candidates."""


class Scores(Strict):
    """All scores of one set of images; `model_dump()` is strict JSON.

    Intervals are of 95 %, by a bootstrap over groups. Rows of `confusion` are true classes, columns predicted
    ones. `macro` averages the classes that have images (its recall is the balanced accuracy), `weighted`
    weighs them by their number of images.
    """

    images: int
    groups: int
    """Number of groups that the images belong to, which are never split: patients with all their copies."""
    correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    per_class: dict[str, ClassScores]
    macro: ClassScores
    weighted: ClassScores
    confusion: list[list[int]]
    auc: Auc
    log_loss: float
    brier: float
    ece: float
    calibrated: ProbabilityScores | None
    intervals: dict[str, tuple[float, float]] = {}
    """Low and high end for each score that is defined, by its dotted name here, such as `macro.f1`."""
    units: dict[str, UnitScores] = {}
    """Accuracy per `slice` and per `patient`, if they are known."""
    risk_coverage_area: float | None = None
    """Mean share of wrong answers over all numbers of answers that a threshold could give, 0..1."""
    candidates: CandidateScores | None = None
    subgroups: list[Subgroup] = []
    decisions: Decisions | None = None
    """Decisions of the evaluated bundle; None for scores of other probabilities."""

    def rows(self) -> list[tuple[str, str]]:
        """Returns label and text of the scores beside the accuracy, for terminal, report and card."""
        return score_rows(self.model_dump())


def score_rows(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns `Scores.rows()` of what `Scores.model_dump()` gave, now or in a version that lacked some."""
    rows = []
    if "auc" in scores:
        rows.append(
            ("AUC", f"{digits(scores['auc']['macro'])} macro, {digits(scores['auc']['micro'])} micro")
        )
    for title, values in (("raw", scores), ("calibrated", scores.get("calibrated") or {})):
        names = {"log_loss": "log loss", "brier": "Brier", "ece": "ECE"}
        texts = [f"{text} {values[name]:.4f}" for name, text in names.items() if name in values]
        if texts:
            rows.append((title, ", ".join(texts)))
    return rows


def digits(value: float | None) -> str:
    """Returns a score with four digits, or a dash for None."""
    return "-".rjust(6) if value is None else f"{value:.4f}"
