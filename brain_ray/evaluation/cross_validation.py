"""Out-of-fold answers of a cross-validation: their scores, a page on them, and the labels they contradict."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brain_ray.config import PHANTOMS, Config
from brain_ray.data.dataset import add_source_columns
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.evaluation import plots, risk_plot
from brain_ray.evaluation.copy_choice import Turned
from brain_ray.evaluation.copy_pictures import PictureReader, read_images
from brain_ray.evaluation.image_plates import to_jpeg
from brain_ray.evaluation.score_predictions import stated_columns
from brain_ray.evaluation.shortcuts import compare_folds_with_shortcuts
from brain_ray.evaluation.style import data_uri, environment, percent
from brain_ray.evaluation.suspects import write_suspects
from brain_ray.runs import FOLD_SCORES, FOLDS_PAGE, TRAIN, Run
from brain_ray.scoring.cross_validation import CrossValidation, SeedAverage, calibrate_across, score_folds
from brain_ray.scoring.curves import reliability, roc
from brain_ray.scoring.selective import risk_coverage, score_subgroups

SHOWN = 120
"""Largest number of misclassified images that the page shows."""


def report_folds(
    run: Run, config: Config, answers: OutOfFold, seeds: Sequence[NDArray[np.floating]] = ()
) -> tuple[CrossValidation, str]:
    """Scores out-of-fold answers; returns the scores, and a sentence on suspected labels.

    `seeds` are the probabilities, (n, classes), of several seeds, one of them that of `answers`; their mean
    is scored too. Writes into the run's train/: folds.json, the scores; cross_validation.html; and what
    `write_suspects` writes.
    """
    ids = pd.DataFrame({"image_id": answers.image_id})
    images = read_images(run)
    stated = add_source_columns(ids, run)
    clusters = images.loc[answers.image_id, "cluster"].to_numpy()
    validated, calibrated = _score(config, answers, clusters, stated)
    shortcuts = compare_folds_with_shortcuts(run, answers)
    validated = validated.model_copy(update={"shortcuts": shortcuts})
    if len(seeds) > 1:
        mean = replace(answers, probabilities=np.stack(seeds).mean(axis=0, dtype=np.float32))
        pooled = _score(config, mean, clusters, stated)[0].pooled
        averaged = SeedAverage(seeds=len(seeds), pooled=pooled)
        validated = validated.model_copy(update={"averaged": averaged})
    run.write_json(validated.model_dump(mode="json"), *FOLD_SCORES)
    read = PictureReader(run, config, images)
    page = _page(run, config, answers, calibrated, validated, stated, read)
    run.write_bytes(page.encode(), TRAIN, FOLDS_PAGE)
    return validated, write_suspects(run, config, answers, calibrated, images, read)


def _score(
    config: Config, answers: OutOfFold, clusters: NDArray[np.integer], stated: pd.DataFrame
) -> tuple[CrossValidation, NDArray[np.float64]]:
    """Returns the scores and the calibrated probabilities."""
    calibrated = calibrate_across(answers.probabilities, answers.label, answers.fold, answers.group)
    scores = score_folds(
        answers.label,
        answers.probabilities,
        calibrated,
        answers.fold,
        answers.group,
        config.data.classes,
        clusters,
        stated["patient"].fillna("").to_numpy(str) if "patient" in stated else None,
        config.evaluate.calibration_bins,
    )
    if config.folds == "each_source":
        source = dict(zip(answers.fold.tolist(), stated["source"], strict=True))
        named = [one.model_copy(update={"source": source[one.fold]}) for one in scores.folds]
        scores = scores.model_copy(update={"folds": named})
    return scores, calibrated


def _page(
    run: Run,
    config: Config,
    answers: OutOfFold,
    calibrated: NDArray[np.float64],
    validated: CrossValidation,
    stated: pd.DataFrame,
    read: PictureReader,
) -> str:
    right = answers.probabilities.argmax(axis=1) == answers.label
    everywhere = np.full(len(right), "answer")
    subgroups = score_subgroups(stated_columns(stated), right, everywhere, None, answers.group)
    templates = environment(
        "evaluation",
        count=lambda value: f"{value:,}",
        digits=lambda value: "–" if value is None else f"{value:.4f}",
        percent=percent,
        png=lambda figure: data_uri("png", plots.to_png(figure, dpi=160)),
        jpeg=lambda data: data_uri("jpeg", data),
    )
    return templates.get_template("cross_validation.html.jinja").render(
        name=config.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        backbone=config.model.backbone,
        size=f"{config.model.height} × {config.model.width}",
        phantoms=config.data.source == PHANTOMS,
        source=config.data.source,
        validated=validated,
        pooled=validated.pooled,
        figures=_figures(config, answers, calibrated, validated),
        subgroups=subgroups,
        errors=_errors(config, answers, calibrated, read),
        num_errors=int((~right).sum()),
    )


def _figures(
    config: Config, answers: OutOfFold, calibrated: NDArray[np.float64], validated: CrossValidation
) -> Mapping[str, Figure]:
    classes, bins = config.data.classes, config.evaluate.calibration_bins
    labels, raw = answers.label, answers.probabilities.astype(np.float64)
    curves = {"raw": reliability(labels, raw, bins), "calibrated": reliability(labels, calibrated, bins)}
    risk = risk_coverage(calibrated.max(axis=1), calibrated.argmax(axis=1) == labels)
    return {
        "confusion": plots.confusion({"All folds": validated.pooled.confusion}, classes),
        "roc": plots.roc_curves(roc(labels, raw, classes)),
        "reliability": plots.reliability_diagram(curves),
        "risk_coverage": risk_plot.draw(risk, config.export.max_error),
    }


def _errors(
    config: Config, answers: OutOfFold, calibrated: NDArray[np.float64], read: PictureReader
) -> list[dict[str, Any]]:
    """Returns misclassified images whose files can be read, the most confident first."""
    taken = calibrated.argmax(axis=1)
    wrong = np.flatnonzero(taken != answers.label)
    wrong = wrong[np.argsort(-calibrated[wrong, taken[wrong]], kind="stable")][:SHOWN]
    classes, found = config.data.classes, []
    for k in wrong.tolist():
        for picture in read.pictures([Turned(int(answers.image_id[k]))]):
            found.append(
                {
                    "name": picture.path,
                    "picture": to_jpeg(picture.image),
                    "label": classes[answers.label[k]],
                    "answer": classes[taken[k]],
                    "probability_label": calibrated[k, answers.label[k]],
                    "probability_answer": calibrated[k, taken[k]],
                    "fold": int(answers.fold[k]),
                }
            )
    return found
