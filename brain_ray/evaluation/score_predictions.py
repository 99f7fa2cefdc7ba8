"""Scores of a table of predictions: all that a report, a card and metrics.json say of a set of images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brain_ray.config import Config
from brain_ray.data.sources.manifest_names import RESERVED
from brain_ray.scoring.decisions import count_decisions
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.metrics import score, score_units
from brain_ray.scoring.scores import Scores
from brain_ray.scoring.selective import risk_coverage, score_candidates, score_subgroups

CANDIDATES_SEPARATOR = ";"
"""What stands between the classes in the column `candidates`."""

KEYS = ("patient", "study", "series", "fold", "known_file")
"""Columns of the source that name images or groups and make no subgroups of interest."""


def score_predictions(predictions: pd.DataFrame, config: Config, exported: Mapping[str, Any]) -> Scores:
    """Scores images as their bundle serves them, with intervals over groups.

    Args:
        predictions: one or more images, with label, cluster, group, decision, per class probability_<class>
            and calibrated_<class>, candidates if the bundle has them, and the source's
            columns.
        config: the run's settings.
        exported: `decision` of bundle.json.
    """
    classes = config.data.classes
    labels = predictions["label"].to_numpy()
    groups, clusters = predictions["group"].to_numpy(), predictions["cluster"].to_numpy()
    calibrated = _columns(predictions, "calibrated", config)
    bootstrap = GroupBootstrap(groups)
    scores = score(
        labels,
        _columns(predictions, "probability", config),
        classes,
        calibrated,
        config.evaluate.calibration_bins,
        bootstrap,
    )
    answers = calibrated.argmax(axis=1)
    decisions = predictions["decision"].to_numpy(str)
    units = {"slice": score_units(labels, calibrated, clusters, bootstrap)}
    patients = _patients(predictions)
    known = patients != ""
    if known.any():
        units["patient"] = score_units(
            labels[known], calibrated[known], patients[known], GroupBootstrap(groups[known])
        )
    inside, candidates = None, None
    if "candidates" in predictions:
        named = [row.split(CANDIDATES_SEPARATOR) for row in predictions["candidates"]]
        chosen = np.array([[name in row for name in classes] for row in named])
        inside = chosen[np.arange(len(labels)), labels]
        candidates = score_candidates(labels, chosen, classes, exported["sensitivities"], bootstrap)
    return scores.model_copy(
        update={
            "decisions": count_decisions(labels, answers, decisions, clusters, classes, exported, bootstrap),
            "units": units,
            "risk_coverage_area": risk_coverage(calibrated.max(axis=1), answers == labels).area,
            "candidates": candidates,
            "subgroups": score_subgroups(
                stated_columns(predictions), answers == labels, decisions, inside, groups
            ),
        }
    )


def _columns(predictions: pd.DataFrame, kind: str, config: Config) -> Any:
    return predictions[[f"{kind}_{name}" for name in config.data.classes]].to_numpy(np.float64)


def _patients(predictions: pd.DataFrame) -> Any:
    if "patient" not in predictions:
        return np.full(len(predictions), "")
    return predictions["patient"].fillna("").to_numpy(str)


def stated_columns(predictions: pd.DataFrame) -> dict[str, Any]:
    """Returns the columns that the source states: its name for where images come from, and its own."""
    made = {"predicted", "predicted_name", "leak_free", "group", "unlikeness", "decision", "candidates"}
    made |= {"row_id", "top", "bottom", "left", "right"}
    kinds = ("probability_", "calibrated_")
    names = [
        name
        for name in predictions.columns
        if (name == "source" or name not in RESERVED)
        and name not in made
        and name not in KEYS
        and not name.startswith(kinds)
    ]
    return {name: predictions[name].fillna("").astype(str).to_numpy() for name in names}
