"""SearchSpace: the settings that a sweep varies, and the values they take."""

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from brain_ray.config import BACKBONES, Config
from brain_ray.errors import RunError
from brain_ray.fingerprints import flatten
from brain_ray.tuning.trials import Trial

Kind = Literal["grid", "choice", "uniform", "loguniform"]

MACHINES = (
    "train.num_workers",
    "train.use_gpu",
    "train.cpus_per_worker",
    "train.max_failures",
    "train.keep_checkpoints",
    "train.mlflow_uri",
)
"""Settings of where a trial runs, on which its result may depend all the same (`docs/DESIGN_NOTES.md`)."""

SIZE = ("model.height", "model.width")


@dataclass(frozen=True)
class Range:
    """What one name, or several in step, are set to."""

    names: tuple[str, ...]
    kind: Kind
    values: tuple[tuple[str, ...], ...] = ()
    """Of a grid or choice: for each of its values one word for each name."""
    low: float = 0.0
    high: float = 0.0

    @property
    def key(self) -> str:
        """The names, as they are written."""
        return " ".join(self.names)

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draw a value of each name."""
        match self.kind:
            case "grid" | "choice":
                return self.at(int(rng.integers(len(self.values))))
            case "uniform":
                return {self.names[0]: float(rng.uniform(self.low, self.high))}
            case "loguniform":
                return {self.names[0]: float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))}

    def at(self, index: int) -> dict[str, Any]:
        """Return the value of each name at a place of a grid or choice."""
        return dict(zip(self.names, self.values[index], strict=True))


def parse_range(entry: str) -> Range:
    """Read an entry of `sweep.space`.

    Raises:
        RunError: it is not one.
    """
    found = re.fullmatch(r"\s*([\w. ]+?)\s*=\s*(grid|choice|uniform|loguniform)\((.*)\)\s*", entry)
    if found is None:
        raise RunError(
            f"sweep.space has {entry!r}: expected NAME=RANGE with a range such as grid(a, b), choice(a, b), "
            "uniform(low, high) or loguniform(low, high)"
        )
    names, kind = tuple(found[1].split()), found[2]
    values = tuple(tuple(value.split()) for value in found[3].split(","))
    if kind in ("grid", "choice"):
        odd = [value for value in values if len(value) != len(names)]
        if odd:
            raise RunError(
                f"sweep.space has {' '.join(odd[0])!r} for {' '.join(names)!r}: expected {len(names)} "
                "word(s), and a comma before the next value"
            )
        return Range(names, "grid" if kind == "grid" else "choice", values)
    try:
        low, high = (float(word) for (word,) in values)
    except ValueError:
        low, high = 1.0, 0.0
    if len(names) != 1 or not -math.inf < low < high < math.inf or (kind == "loguniform" and low <= 0):
        raise RunError(
            f"sweep.space has {entry!r}: expected one name and two numbers, the lower one first"
            + (", both above 0" if kind == "loguniform" else "")
        )
    return Range(names, "uniform" if kind == "uniform" else "loguniform", (), low, high)


@dataclass(frozen=True)
class SearchSpace:
    """The ranges of a sweep's settings, read and tried once."""

    config: Config
    """Of the run; what no range names stays as it is here."""
    ranges: tuple[Range, ...]
    """In the order of `sweep.space`."""

    @classmethod
    def parse(cls, config: Config) -> "SearchSpace":
        """Read `sweep.space`, and try every value of its grids and choices, and the others' ends.

        Raises:
            RunError: an entry that cannot be read; a name that is none, or cannot be varied, or comes twice;
                a value that the setting cannot have; nothing to vary.
        """
        space = cls(config, tuple(parse_range(entry) for entry in config.sweep.space))
        space._check_names()
        for each in space.ranges:
            for index in range(len(each.values)):
                space.configure(each.at(index))
            if not each.values:
                for end in (each.low, math.nextafter(each.high, each.low)):
                    space.configure({each.names[0]: end})
        return space

    def _check_names(self) -> None:
        known = flatten(self.config.model_dump(mode="json"))
        names = [name for each in self.ranges for name in each.names]
        for name in names:
            if name not in known:
                raise RunError(f"sweep.space has {name!r}, which is no setting: give its dotted name")
            if not name.startswith(("model.", "train.")) or name in MACHINES:
                raise RunError(
                    f"sweep.space has {name}: only settings under model and train can be varied, and none "
                    "that says what machine trains; all trials share one prepared data set"
                )
            if names.count(name) > 1:
                raise RunError(f"sweep.space has {name} twice")
        if not names:
            raise RunError("sweep.space is empty: give at least one NAME=RANGE")

    @property
    def size(self) -> int:
        """Number of trials."""
        sweep = self.config.sweep
        if sweep.sampler == "optuna":
            return sweep.num_samples * sweep.seeds
        grids, drawn = self._grids_and_draws()
        points = math.prod(len(each.values) for each in grids)
        return points * (sweep.num_samples if drawn else 1) * sweep.seeds

    def variants(self) -> Iterator[dict[str, Any]]:
        """Yield the changes of each variant of a grid or a random search, in order; always the same ones."""
        grids, drawn = self._grids_and_draws()
        samples = self.config.sweep.num_samples if drawn else 1
        places = itertools.product(*(range(len(each.values)) for each in grids))
        for number, (chosen, _) in enumerate(itertools.product(places, range(samples))):
            changes: dict[str, Any] = {}
            for each, place in zip(grids, chosen, strict=True):
                changes |= each.at(place)
            rng = np.random.default_rng([self.config.seed, number])
            for each in drawn:
                changes |= each.draw(rng)
            yield {name: changes[name] for each in self.ranges for name in each.names}

    def _grids_and_draws(self) -> tuple[list[Range], list[Range]]:
        """Return the ranges of which each value is taken, and those that values are drawn from."""
        grid = self.config.sweep.sampler == "grid"
        grids = [each for each in self.ranges if grid and each.kind == "grid"]
        return grids, [each for each in self.ranges if each not in grids]

    def configure(self, changes: Mapping[str, Any]) -> Config:
        """Return the run's settings with some changed, by dotted name; words are read as the setting's type.

        Where the backbone is changed, but not the input's size, it gets its native one, if
        `sweep.native_size` says so.

        Raises:
            RunError: a value that the setting cannot have.
        """
        tree = self.config.model_dump(mode="json")
        changes = dict(changes)
        native = self.config.sweep.native_size and not set(SIZE) & changes.keys()
        if native and "model.backbone" in changes:
            spec = BACKBONES.get(changes["model.backbone"])
            changes |= dict.fromkeys(SIZE, spec.native_side) if spec else {}
        for name, value in changes.items():
            *sections, last = name.split(".")
            section = tree
            for part in sections:
                section = section[part]
            section[last] = _as_type_of(section[last], value)
        try:
            return Config.model_validate(tree)
        except ValidationError as error:
            found = error.errors()[0]
            message = found["msg"].removeprefix("Value error, ")
            name = ".".join(map(str, found["loc"])) or ", ".join(changes)
            raise RunError(f"sweep.space sets {name}: {message[0].lower()}{message[1:]}") from error

    def make_trials(self, variant: int, changes: Mapping[str, Any]) -> list[Trial]:
        """Return the trials of a variant: one for each seed."""
        changed, seeds = self.configure(changes), self.config.sweep.seeds
        typed = flatten(changed.model_dump(mode="json"))
        return [
            Trial(
                id=f"{variant * seeds + repeat:03d}",
                variant=variant,
                repeat=repeat,
                changes={name: typed[name] for name in changes},
                config=changed.model_copy(update={"seed": self.config.seed + repeat}),
            )
            for repeat in range(seeds)
        ]


def _as_type_of(before: Any, value: Any) -> Any:
    if isinstance(value, float) and isinstance(before, int) and not isinstance(before, bool):
        return round(value)
    if not isinstance(value, str):
        return value
    try:
        read = json.loads(value.replace("None", "null").replace("True", "true").replace("False", "false"))
    except ValueError:
        return value
    return value if isinstance(before, str) and not isinstance(read, str) else read


def models(trials: Sequence[Trial]) -> dict[str, Config]:
    """Return the settings of one trial for each `Trial.model`."""
    return {trial.model: trial.config for trial in reversed(trials)}
