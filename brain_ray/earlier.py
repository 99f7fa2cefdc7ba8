"""Runs that an earlier version began: what their stored inputs mean now, and how they go on."""

from collections.abc import Mapping
from typing import Any

from brain_ray.config import Config
from brain_ray.data.intensity import EXTREMES
from brain_ray.fingerprints import flatten
from brain_ray.input_spec import WINDOW
from brain_ray.logs import log
from brain_ray.runs import DATASET, Run

DEFAULTS: dict[str, tuple[Any, str | None]] = {
    "data.leaks": ("drop", "data.folds"),
    "data.copy_similarity": (0.99, "data.folds"),
    "choice.choice": ("cheapest within noise", "choice.margin"),
    "sweep.grace_epochs": (1, None),
}
"""Settings whose default was another before a version that also introduced the second setting; None: the
earlier default means the same as the default of now, or is no longer allowed."""


def as_of_now(stored: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens stored inputs of a stage, and adds defaults for settings that a later version introduced.

    Otherwise each version with a new setting would repeat the trainings of the version before it. A default
    that a later version changed counts as unchanged, too.

    Args:
        stored: inputs, as stored with what was made of them.
        inputs: inputs of the same stage now.
    """
    flat, defaults = flatten(stored), flatten(Config().model_dump(mode="json"))
    # The inputs of the choice are settings of the sweep.
    defaults |= {
        f"choice.{n.removeprefix('sweep.')}": defaults[n] for n in defaults if n.startswith("sweep.")
    }
    dear = ("data.", "model.", "train.", "sweep.", "choice.")
    new = {name for name in flatten(inputs).keys() - flat.keys() if name.startswith(dear)}
    for name, (before, since) in DEFAULTS.items():
        if (
            (since is None or since in new)
            and flat.get(name) == before
            and flatten(inputs).get(name) == defaults[name]
        ):
            flat[name] = defaults[name]
    return {**flat, **{name: defaults[name] for name in new & defaults.keys()}}


def as_prepared(run: Run, config: Config) -> Config:
    """Returns the config for the stages after preparation, if an earlier version prepared the data set.

    Versions without `data.window` read images from the darkest to the brightest pixel, and so do the stages
    that go on with their data sets, unless the settings name a window: half a training by one window and half
    by another would be neither's.
    """
    stored = run.finished(DATASET)
    if stored is None or "window" in stored.get("data", {}) or config.data.window != WINDOW:
        return config
    log.info("images above 8 bits are read by their whole range, as when this run's data set was prepared")
    data = config.data.model_copy(update={"window": EXTREMES})
    return config.model_copy(update={"data": data})
