"""Report of a run: one self-contained HTML page."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from brain_ray.config import PHANTOMS, Config
from brain_ray.data.copies.recall import describe_recall
from brain_ray.data.shortcuts.measure import ALL, MEANING, clear_views, title_of
from brain_ray.evaluation import copy_plates, image_plates, plots, risk_plot
from brain_ray.evaluation.reference_shift import describe_shift, shift_rows
from brain_ray.evaluation.report_data import MAX_MISCLASSIFIED, ReportData, first_epoch_on_images
from brain_ray.evaluation.robustness_plot import robustness_curves
from brain_ray.evaluation.style import data_uri, environment
from brain_ray.scoring.curves import reliability, roc
from brain_ray.scoring.localisation_scores import TITLES, count_sentence, table_rows
from brain_ray.scoring.scores import Scores
from brain_ray.scoring.selective import risk_coverage

MAX_REJECTED = 100
"""Rows of the table of rejected files."""

MAX_CONFLICTS = 25
"""Clusters in the table of label conflicts."""

_PLATES = ("samples.png", "crop_steps.png", "misclassified.png", "pairs.png")


def write_report(
    data: ReportData, max_misclassified: int = MAX_MISCLASSIFIED
) -> tuple[str, dict[str, bytes]]:
    """Returns the page as HTML and its figures as {file name: PNG}; writes nothing.

    The page needs no other file and no network: its figures are embedded. Two figures are returned only, as
    sheets to show elsewhere: misclassified.png and pairs.png. The page lists at most `max_misclassified`
    errors.
    """
    figures = {
        # Plates need no more pixels than their images have; more would make the page heavy.
        name: plots.to_png(figure, dpi=110 if name in _PLATES else 160)
        for name, figure in _figures(data).items()
    }
    return render_page(data, figures, max_misclassified), figures


def render_page(
    data: ReportData, figures: Mapping[str, bytes], max_misclassified: int = MAX_MISCLASSIFIED
) -> str:
    """Returns the page as HTML, with figures as {file name: PNG}."""
    errors = sorted(data.misclassified, key=lambda error: -float(np.max(error.probabilities)))
    templates = environment(
        "evaluation",
        count=lambda value: f"{value:,}",
        percent=lambda value: f"{value:.2%}".replace("%", " %"),
        digits=lambda value: "–" if value is None else f"{value:.4f}",
        describe_recall=describe_recall,
        zip=zip,
        count_sentence=count_sentence,
        localisation_rows=table_rows,
        title_of=title_of,
        clear_views=clear_views,
        describe_shift=describe_shift,
        shift_rows=shift_rows,
        png=lambda data: data_uri("png", data),
        jpeg=lambda image: data_uri("jpeg", image_plates.to_jpeg(image)),
    )
    return templates.get_template("report.html.jinja").render(
        data=data,
        classes=data.config.data.classes,
        colours=[plots.class_colour(i) for i in range(len(data.config.data.classes))],
        external=data.config.data.external,
        phantoms=data.config.data.source == PHANTOMS,
        patients=data.num_known_patients,
        units=data.audit.get("units"),
        known_sets=data.audit.get("known_sets", []),
        same=data.leak_free is not None and data.leak_free.images == data.official.images,
        sets=_score_sets(data),
        localisation_titles=TITLES.values(),
        figures=figures,
        errors=errors[:max_misclassified],
        num_errors=data.official.images - data.official.correct,
        rejected=data.rejected.head(MAX_REJECTED).to_dict("records"),
        conflicts=data.audit["copies"]["label_conflicts"],
        recall=data.audit["copies"].get("recall"),
        flagged=data.audit.get("looks_like", {}),
        shortcuts=data.audit.get("shortcuts"),
        meaning=MEANING,
        together=ALL,
        max_conflicts=MAX_CONFLICTS,
        num_contradictions=sum(len(known["contradictions"]) for known in data.audit.get("known_sets", [])),
        history=data.history.to_dict("records"),
        settings=_settings(data.config),
        scores_shown=data.official if data.leak_free is None else data.leak_free,
        shown=" without a found copy" if len(_score_sets(data)) > 1 else "",
        epoch=first_epoch_on_images(data.config),
    )


def _figures(data: ReportData) -> dict[str, Figure]:
    classes = data.config.data.classes
    shown = data.is_leak_free if data.leak_free is not None else np.ones(len(data.labels), bool)
    labels, bins = data.labels[shown], data.config.evaluate.calibration_bins
    figures = {
        "balance.png": plots.balance(_splits(data.audit, data.config.data.external), classes),
        "confusion.png": plots.confusion(
            {title: scores.confusion for title, scores in _score_sets(data).items()}, classes
        ),
        "roc.png": plots.roc_curves(roc(labels, data.probabilities[shown], classes)),
        "reliability.png": plots.reliability_diagram(
            {
                "raw": reliability(labels, data.probabilities[shown], bins),
                "calibrated": reliability(labels, data.calibrated[shown], bins),
            }
        ),
    }
    calibrated = data.calibrated[shown]
    curve = risk_coverage(calibrated.max(axis=1), calibrated.argmax(axis=1) == labels)
    figures["risk_coverage.png"] = risk_plot.draw(curve, data.bundle["decision"]["max_error"])
    if len(data.history):
        figures["curves.png"] = plots.learning_curves(data.history, data.config.train.keep_epoch)
    if data.samples:
        figures["samples.png"] = image_plates.sample_grid(data.samples, classes)
    if data.crop_examples:
        figures["crop_steps.png"] = image_plates.crop_steps(
            data.crop_examples, classes, data.config.data.crop
        )
    if data.misclassified:
        figures["misclassified.png"] = image_plates.error_plate(data.misclassified, classes)
    if data.robustness is not None:
        figures["robustness.png"] = robustness_curves(data.robustness)
    if data.copies.pairs:
        figures["pairs.png"] = copy_plates.pair_plate(data.copies.pairs)
    return figures


def _score_sets(data: ReportData) -> dict[str, Scores]:
    if data.config.data.external:
        return {"External images": data.official}
    if data.leak_free is None or data.leak_free.images == data.official.images:
        return {"All test images": data.official}
    return {"Test images without a found copy": data.leak_free, "All test images": data.official}


def _splits(audit: Mapping[str, Any], external: bool) -> dict[str, Mapping[str, int]]:
    if external:
        return {"External": audit["splits"]["test"]}
    splits = {"Training": audit["splits"]["train"]}
    if audit["balanced_train"] != audit["splits"]["train"]:
        splits["Training, balanced"] = audit["balanced_train"]
    return {**splits, "Validation": audit["splits"]["valid"], "Test": audit["splits"]["test"]}


def _settings(config: Config) -> dict[str, list[tuple[str, str, bool]]]:
    """Groups all settings by section, as tuples (dotted name, value, differs from the default)."""
    groups: dict[str, list[tuple[str, str, bool]]] = {"run": []}

    def walk(prefix: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                walk(f"{prefix}{name}.", value, defaults[name])
            else:
                text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
                section = prefix.split(".", maxsplit=1)[0] or "run"
                groups.setdefault(section, []).append((prefix + name, text, value != defaults[name]))

    walk("", config.model_dump(), Config().model_dump())
    return groups
