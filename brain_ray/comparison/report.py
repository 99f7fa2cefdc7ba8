"""Report of a sweep: its page, its JSON, and its table for a terminal."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from brain_ray.comparison import plots as sweep_plots
from brain_ray.comparison import wording
from brain_ray.comparison.learning_curve import LearningCurve
from brain_ray.comparison.parallel_plot import parallel_coordinates
from brain_ray.comparison.results import Comparison, ModelResult, Spread
from brain_ray.config import PHANTOMS
from brain_ray.evaluation import plots
from brain_ray.evaluation.style import data_uri, environment
from brain_ray.records import to_json
from brain_ray.scoring.cross_validation import CrossValidation
from brain_ray.scoring.paired_tests import Difference

TABLE_WIDTH = 110
"""Largest width of the table for a terminal, in characters."""

MAX_PAIRS = 15
"""Number of pairs that the page shows at once, those with the best model first; the others unfold."""


def write_sweep_report(
    comparison: Comparison,
    created: str,
    validated: CrossValidation | None = None,
    curve: LearningCurve | None = None,
) -> tuple[str, dict[str, Any]]:
    """Returns the page as HTML and the content of sweep.json; writes nothing.

    The page needs no other file and no network. The JSON is strict: values that are not finite become None.

    Args:
        comparison: the comparison of the sweep's models.
        created: time of the report, as the page shows it.
        validated: scores of the winner's cross-validation, if the sweep was one over folds.
        curve: the learning curve, if the sweep varied the share of the groups.
    """
    record = comparison.record
    templates = environment(
        "comparison",
        count=lambda value: "–" if value is None else f"{value:,}",
        percent=lambda value: "–" if value is None else f"{100 * value:.2f}\u00a0%",
        digits=lambda value: _number(value, 4),
        places=_number,
        parameters=_parameters,
        changes=_changes,
        spread=_spread,
        signed=_signed,
        reach=_reach,
        pvalue=lambda value: "< 0.0001" if value < 1e-4 else f"{value:.4f}",
        size=_size,
        png=lambda data: data_uri("png", data),
    )
    figures = {
        name: plots.to_png(figure)
        for name, figure in (
            ("curves", sweep_plots.validation_curves(comparison)),
            ("parallel", parallel_coordinates(comparison)),
            ("latency", sweep_plots.accuracy_by_latency(comparison)),
            ("rungs", sweep_plots.rungs(comparison)),
        )
        if figure is not None
    }
    pairs = sorted(comparison.pairs, key=lambda pair: pair.first != comparison.best)
    page = templates.get_template("sweep.html.jinja").render(
        config=record.config,
        phantoms=record.config.data.source == PHANTOMS,
        comparison=comparison,
        chosen=comparison.chosen,
        winner=comparison.row(comparison.winner),
        colours={model.model: model.colour for model in comparison.models},
        figures=figures,
        pairs=pairs[:MAX_PAIRS],
        more_pairs=pairs[MAX_PAIRS:],
        contenders=[model for model in comparison.models if model.contender],
        images=len(record.labels),
        device=comparison.rows[0].device,
        criterion=wording.criterion(comparison),
        noise=wording.noise(comparison),
        kind=wording.kind(comparison),
        meaning=wording.meaning(comparison),
        validated=validated,
        curve=curve,
        classes=record.config.data.classes,
        created=created,
    )
    value = _to_json(comparison, created)
    return page, value if curve is None else {**value, "learning_curve": to_json(curve)}


def format_table(comparison: Comparison) -> str:
    """Formats the models and the choice as text for a terminal, at most `TABLE_WIDTH` wide."""
    record = comparison.record
    width = min(31, max(len(model.model) for model in comparison.models))
    titles = (
        f"  {'model':{width}}  trial    cross-entropy  accuracy, % (interval)    latency   weights  verdict"
    )
    lines = [titles]
    for model in comparison.models:
        cells = [f"{'*' if model.chosen else ' '} {model.model[:width]:{width}}"]
        if model.trial is None:
            cells.append(f"not compared: {_ends(model)}")
            lines.append("  ".join(cells))
            continue
        row = comparison.row(model.trial)
        reach = f"{_percent(row.accuracy)} ({_percent(row.accuracy_low)}–{_percent(row.accuracy_high)})"
        latency = f"{_number(model.cost.latency_ms, 1)} ms" if model.cost else "–"
        cells += [
            f"{model.trial:>5}",
            f"{_spread(model.loss):>15}",
            f"{reach:>22}",
            f"{latency:>9}",
            f"{_parameters(model.cost.parameters) if model.cost else '–':>8}",
            str(model.verdict),
        ]
        lines.append("  ".join(cells))
    ended = ", ".join(
        f"{sum(one.status == status for one in record.trials)} {status}"
        for status in dict.fromkeys(one.status for one in record.trials)
    )
    told = f"Cross-entropy: {wording.criterion(comparison)}. {comparison.sentence}"
    lines += ["", *textwrap.wrap(told, TABLE_WIDTH, break_on_hyphens=False)]
    lines += textwrap.wrap(
        f"{len(record.trials)} trial{'' if len(record.trials) == 1 else 's'}: {ended}. "
        f"{wording.meaning(comparison)}",
        TABLE_WIDTH,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def _to_json(comparison: Comparison, created: str) -> dict[str, Any]:
    record, told = comparison.record, to_json(comparison)
    histories = {one.trial.id: [past.to_json() for past in one.history] for one in record.trials}
    told_trials = [
        row
        | {
            "history": {
                name: [past[name] for past in histories[row["trial"]]] for name in _columns(histories)
            }
        }
        for row in told.pop("rows")
    ]
    winner = comparison.row(comparison.winner)
    return dict(
        to_json(
            {
                "name": record.config.name,
                "created": created,
                "rule": told.pop("rule"),
                "choice": {
                    "winner": told.pop("winner"),
                    "model": winner.model,
                    "changes": winner.changes,
                    "sentence": told.pop("sentence"),
                    "best": told.pop("best"),
                    "criterion": record.config.sweep.criterion,
                    "margin": told.pop("margin"),
                },
                **told,
                "trials": told_trials,
                "rungs": record.rungs,
                "costs": comparison.costs,
            }
        )
    )


def _columns(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    return list(next((records[0] for records in histories.values() if records), {}))


def _number(value: float | None, places: int) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{places}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _parameters(value: int) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.1f} k"


def _spread(value: Spread | None, factor: float = 1.0, places: int = 4) -> str:
    if value is None:
        return "–"
    mean = f"{factor * value.mean:.{places}f}"
    return mean if value.sd is None else f"{mean} ± {factor * value.sd:.{places}f}"


def _signed(value: float, factor: float = 1.0, places: int = 4) -> str:
    return f"{factor * value:+.{places}f}".replace("-", "−")


def _reach(difference: Difference, factor: float = 1.0, places: int = 4) -> str:
    return f"{_signed(difference.low, factor, places)} to {_signed(difference.high, factor, places)}"


def _size(model: ModelResult) -> str:
    return model.model.split(" ")[1].replace("x", "\u00a0×\u00a0")


def _changes(changes: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, f"{value:.4g}" if isinstance(value, float) else str(value)) for name, value in changes.items()
    ]


def _ends(model: ModelResult) -> str:
    ends = [
        f"{number} {what}"
        for number, what in ((model.stopped, "stopped"), (model.failed, "failed"))
        if number
    ]
    never = model.repeats - model.finished - model.stopped - model.failed
    ends += [f"{never} not trained"] * bool(model.stopped or model.failed) * bool(never)
    return f"of {model.repeats} repeat{'s' if model.repeats > 1 else ''}, {model.finished} finished, " + (
        ", ".join(ends) or "not all with a finite value"
    )
