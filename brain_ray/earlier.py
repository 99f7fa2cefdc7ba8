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
    "train.xla": (False, None),
}
"""Settings whose default was another before a version that also introduced the second setting; None: the
earlier default means nearly the same as the default of now, or is no longer allowed."""

BEFORE: dict[str, Any] = {
    "train.last_batch": "keep",
    "train.decayed_weights": "all",
    "train.augment.keep_black": False,
    "data.balance.keep_black": False,
}
"""What versions did that did not have these settings, and runs that they began go on to do."""


def as_of_now(stored: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens stored inputs of a stage, and adds defaults for settings that a later version introduced.

    Otherwise each version with a new setting would repeat the trainings of the version before it. A default
    that a later version changed counts as unchanged, too; of the settings in `BEFORE`, both the default and
    what was done before do.

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
    added = {name: defaults[name] for name in new & defaults.keys()}
    now = flatten(inputs)
    added |= {name: value for name, value in BEFORE.items() if name in added and now.get(name) == value}
    return {**flat, **added}


def as_begun(config: Config, inputs: Mapping[str, Any] | None) -> Config:
    """Returns the config for going on with a training, or with what was made of it, that began with some
    inputs (None: nothing began).

    Settings of `BEFORE` that the inputs do not have are as they were, and so are those of `DEFAULTS`, unless
    another value was asked for: half a training in one way and half in another would be neither's.
    """
    if not (inputs or {}).get("train"):
        return config
    return _with(config, _settings_before(config, inputs or {}, "train."))


def as_stored(value: Mapping[str, Any]) -> Config:
    """Returns the config that is stored with a trial, or a sweep's winner, of this or an earlier version."""
    config = Config.model_validate(value)
    settings = _settings_before(config, value, "train.")
    if "window" not in value["data"]:  # read by their whole range
        settings["data.window"] = EXTREMES
    if config.data.balance_to:
        settings |= _settings_before(config, value, "data.")
    return _with(config, settings)


def _settings_before(config: Config, stored: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Returns the settings of `BEFORE` that were not stored, and those that were stored at the default of
    then, if they are at their defaults now."""
    known, defaults = flatten(stored), flatten(Config().model_dump())
    now = flatten(config.model_dump())
    then = {name: before for name, (before, since) in DEFAULTS.items() if since is None}
    then = {name: before for name, before in then.items() if name in known and known[name] == before}
    then |= {name: before for name, before in BEFORE.items() if name not in known}
    return {
        name: before
        for name, before in then.items()
        if name.startswith(prefix) and now[name] == defaults[name]
    }


def _with(config: Config, settings: Mapping[str, Any]) -> Config:
    """Returns a config with some settings, by their dotted names, changed."""
    for name, value in settings.items():
        *parents, key = name.split(".")
        parts: list[Any] = [config]
        for parent in parents:
            parts.append(getattr(parts[-1], parent))
        changed: Any = value
        for part, at in zip(reversed(parts), [key, *reversed(parents)], strict=True):
            changed = part.model_copy(update={at: changed})
        config = changed
    return config


def as_prepared(run: Run, config: Config) -> Config:
    """Returns the config for the stages after preparation, if an earlier version prepared the data set.

    Versions without `data.window` read images from the darkest to the brightest pixel, and so do the stages
    that go on with their data sets, unless the settings name a window: half a training by one window and half
    by another would be neither's. The same holds for how balancing copies are augmented.
    """
    stored = run.finished(DATASET)
    if stored is None:
        return config
    settings = _settings_before(config, stored, "data.") if config.data.balance_to else {}
    if "window" not in stored.get("data", {}) and config.data.window == WINDOW:
        log.info(
            "images above 8 bits are read by their whole range, as when this run's data set was prepared"
        )
        settings["data.window"] = EXTREMES
    return _with(config, settings)
