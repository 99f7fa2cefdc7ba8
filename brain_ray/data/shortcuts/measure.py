"""How well the classes and the sources of a data set are told by each view, for audit.json and for a
terminal."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from brain_ray.data.shortcuts.table import kinds_of
from brain_ray.data.shortcuts.views import VIEWS, WITHOUT_HEAD, Floats
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.shortcuts import Folds, cross_validate, draw_folds, side_by_side

ALL = "without_head"
"""Name of the views without the head, taken together."""

CLEAR = 0.05
"""How far the lower end of an interval must lie above what needs no view, so that it is told at once."""

MEANING = (
    "a high score on images made the same way need not be of the tumour: test on images of another source too"
)
"""What it means for a score that the head is not needed."""


def title_of(view: str) -> str:
    """Returns what a view, or `ALL` of them without the head, shows."""
    return VIEWS[view].title if view in VIEWS else "all of these without the head together"


def measure(images: pd.DataFrame, views: Mapping[str, Floats], seed: int) -> dict[str, Any]:
    """Measures how well a small model tells the classes, and the sources if two or more are known.

    Args:
        images: training and validation images: class_name, group, and source if anything states it, (n,)
            rows.
        views: their views, (n, length) each.
        seed: seed of the folds.

    Returns:
        images and groups (how many there are), classes, and sources. Either of these has folds, majority (the
        share of the most frequent one) and views: for each view, accuracy and against_rest as in
        `scoring.shortcuts.Told`, and sees_head; or only reason, why there are no figures.
    """
    found: dict[str, Any] = {"images": len(images), "groups": int(images["group"].nunique())}
    found["classes"] = _tell(images["class_name"], images["group"], views, seed)
    sources = images["source"].fillna("").astype(str) if "source" in images else pd.Series("", images.index)
    known = (sources != "").to_numpy()
    if not known.any():
        return found | {"sources": {"reason": "no source is known"}}
    part = {name: view[known] for name, view in views.items()}
    return found | {"sources": _tell(sources[known], images.loc[known, "group"], part, seed)}


def _tell(labels: pd.Series, groups: pd.Series, views: Mapping[str, Floats], seed: int) -> dict[str, Any]:
    folds = draw_folds(labels.tolist(), groups.to_numpy(np.int64), seed)
    if not isinstance(folds, Folds):
        return {"reason": folds}
    bootstrap = GroupBootstrap(folds.groups)
    combined: dict[str, tuple[str, ...]] = {name: (name,) for name in VIEWS if name in views}
    combined[ALL] = tuple(name for name in WITHOUT_HEAD if name in views)
    told = {}
    for title, names in combined.items():
        kinds = kinds_of({name: views[name] for name in names})
        seen = any(VIEWS[name].sees_head for name in names)
        told[title] = {
            **asdict(cross_validate(side_by_side(views, names), kinds, folds, bootstrap)),
            "sees_head": seen,
        }
    return {"folds": len(folds.places), "majority": folds.majority, "views": told}


def clear_views(told: Mapping[str, Any]) -> list[str]:
    """Returns the views without the head that clearly tell classes or sources, the best first."""
    clear = [
        name
        for name, found in told.get("views", {}).items()
        if not found["sees_head"]
        and (
            found["accuracy"]["low"] > told["majority"] + CLEAR
            or any(each["low"] > 0.5 + CLEAR for each in found["against_rest"].values())
        )
    ]
    return sorted(clear, key=lambda name: -told["views"][name]["accuracy"]["value"])


def describe(found: Mapping[str, Any]) -> list[str]:
    """Returns what is clearly told without the head, a sentence for classes and one for sources, with what it
    means for a score; [] if nothing is, or nothing was measured.

    Args:
        found: the result of `measure`, or {} of a data set of an earlier version.
    """
    lines = []
    for kind, one in (("classes", "class"), ("sources", "source")):
        told = found.get(kind, {})
        if clear := clear_views(told):
            parts = "; ".join(_describe_view(name, told["views"][name]) for name in clear if name != ALL)
            lines.append(
                f"the {kind} can be told without the head: a linear model is right in "
                f"{_share(told['views'][ALL]['accuracy'])}, always naming the most frequent {one} in "
                f"{told['majority']:.2f}" + (f"; the model of one view: {parts}" if parts else "")
            )
    return [*lines, f"so {MEANING}"] if lines else []


def _describe_view(name: str, found: Mapping[str, Any]) -> str:
    against_rest = found["against_rest"]
    best = max(against_rest, key=lambda label: float(against_rest[label]["value"]))
    rest = f"{best} against the rest {against_rest[best]['value']:.2f}, by chance 0.50"
    return f"{title_of(name)} {_share(found['accuracy'])} ({rest})"


def _share(interval: Mapping[str, float]) -> str:
    return f"{interval['value']:.2f} ({interval['low']:.2f} to {interval['high']:.2f})"
