"""SearchSpace: settings that a sweep varies, and their values."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from brain_ray.config import BACKBONES, Config
from brain_ray.errors import RunError
from brain_ray.fingerprints import flatten
from brain_ray.tuning.ranges import Range, parse_range
from brain_ray.tuning.trials import Trial

MACHINES = (
    "train.num_workers",
    "train.use_gpu",
    "train.cpus_per_worker",
    "train.max_failures",
    "train.checkpoint_minutes",
    "train.keep_checkpoints",
    "train.mlflow_uri",
)
"""Settings of where a trial runs; its result may depend on them all the same (`docs/DESIGN_NOTES.md`)."""

SIZE = ("model.height", "model.width")


@dataclass(frozen=True)
class SearchSpace:
    """The ranges of a sweep's settings, parsed and checked once."""

    config: Config
    """Config of the run; settings that no range names keep its values."""
    ranges: tuple[Range, ...]
    """The ranges, in the order of `sweep.space`."""
    folds: tuple[int | None, ...] = (None,)
    """Numbers of the folds, each of which a trial leaves out; (None,): no fold is left out, or those that the
    source states are not known yet."""

    @classmethod
    def parse(cls, config: Config) -> "SearchSpace":
        """Parses `sweep.space`; checks every value of its grids and choices, and both ends of other ranges.

        Raises:
            RunError: a malformed entry; an unknown name, one that cannot be varied, or one that comes twice;
                a value that its setting does not allow; nothing to vary.
        """
        folds: tuple[int | None, ...] = (config.train.fold,)
        if isinstance(config.folds, int) and config.train.fold is None:
            folds = tuple(range(1, config.folds + 1))
        space = cls(config, tuple(parse_range(entry) for entry in config.sweep.space), folds)
        space._check_names()
        space._check_grace()
        for each in space.ranges:
            for index in range(len(each.values)):
                space.configure(each.at(index))
            if not each.values:
                for end in (each.low, math.nextafter(each.high, each.low)):
                    space.configure({each.names[0]: end})
        return space

    @property
    def names(self) -> list[str]:
        """Dotted names of the settings that are varied."""
        return [name for each in self.ranges for name in each.names]

    def _check_names(self) -> None:
        known = flatten(self.config.model_dump(mode="json"))
        names = self.names
        for name in names:
            if name not in known:
                raise RunError(f"sweep.space has {name!r}, which is no setting: give its dotted name")
            if not name.startswith(("model.", "train.")) or name in MACHINES:
                raise RunError(
                    f"sweep.space has {name}: only settings under model and train can be varied, and none "
                    "that says what machine trains; all trials share one prepared data set"
                )
            if name == "train.outlines":
                raise RunError(
                    "sweep.space has train.outlines: set it for the sweep, and vary train.outline_weight, of "
                    "which 0 leaves them unused"
                )
            if name == "train.fold":
                raise RunError("sweep.space has train.fold: set --folds, and each variant is trained on each")
            if names.count(name) > 1:
                raise RunError(f"sweep.space has {name} twice")
        if not names and self.config.folds is None and self.config.sweep.seeds == 1:
            raise RunError("sweep.space is empty: give at least one NAME=RANGE, or set sweep.seeds or folds")
        if self.config.export.members == "models" and not {"model.backbone", "model.head"} & set(names):
            raise RunError(
                "export.members is models, and sweep.space varies neither model.backbone nor model.head: "
                "there would be one model"
            )
        if self.config.export.members == "seeds" and self.config.sweep.seeds == 1:
            raise RunError("export.members is seeds, and sweep.seeds is 1: there would be one network")

    def _check_grace(self) -> None:
        sweep, warmup = self.config.sweep, self._longest_warmup()
        if sweep.scheduler != "none" and sweep.grace_epochs is not None and sweep.grace_epochs <= warmup:
            raise RunError(
                f"sweep.grace_epochs is {sweep.grace_epochs} and train.warmup_epochs up to {warmup:g}: "
                "trials would be compared before their learning rate has reached its height; set "
                f"--sweep.grace-epochs {math.ceil(warmup) + 3}, or {math.floor(warmup) + 1} at least"
            )

    def _longest_warmup(self) -> float:
        name = "train.warmup_epochs"
        for each in self.ranges:
            if name in each.names:
                tried: list[Any] = [words[each.names.index(name)] for words in each.values] or [each.high]
                return max(self.configure({name: value}).train.warmup_epochs for value in tried)
        return self.config.train.warmup_epochs

    @property
    def grace_epochs(self) -> int:
        """Number of epochs before a trial may be stopped early."""
        warmup = self._longest_warmup()
        return self.config.sweep.grace_epochs or (math.ceil(warmup) + 3 if warmup else 1)

    @property
    def size(self) -> int:
        """Number of trials; fewer are trained if variants are stopped early, or fail, with several seeds."""
        sweep = self.config.sweep
        if sweep.sampler == "optuna":
            return sweep.num_samples * self.repeats
        grids, drawn = self._grids_and_draws()
        points = math.prod(len(each.values) for each in grids)
        return points * (sweep.num_samples if drawn else 1) * self.repeats

    @property
    def repeats(self) -> int:
        """Number of trials of each variant: one for each seed and fold."""
        return self.config.sweep.seeds * len(self.folds)

    @property
    def competes(self) -> bool:
        """Whether there are several variants, of which weak ones may be stopped by their first trial."""
        return self.size > self.repeats

    def variants(self) -> Iterator[dict[str, Any]]:
        """Yields the changes of each variant of a grid or a random search, in an order that never varies."""
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
        """Returns the ranges whose values are all used, and the ranges that values are drawn from."""
        grid = self.config.sweep.sampler == "grid"
        grids = [each for each in self.ranges if grid and each.kind == "grid"]
        return grids, [each for each in self.ranges if each not in grids]

    def configure(self, changes: Mapping[str, Any]) -> Config:
        """Returns the run's config with changes by dotted name; words are parsed as the setting's type.

        If the backbone is changed and the input's size is not, the size becomes the backbone's native one,
        unless `sweep.native_size` is off.

        Raises:
            RunError: a value that its setting does not allow.
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
            place = ".".join(map(str, found["loc"]))
            # Of several types that a setting may have, pydantic names one behind the setting.
            name = next((each for each in changes if f"{place}.".startswith(f"{each}.")), place)
            name = name or ", ".join(changes)
            raise RunError(f"sweep.space sets {name}: {message[0].lower()}{message[1:]}") from error

    def make_trials(self, variant: int, changes: Mapping[str, Any]) -> list[Trial]:
        """Returns the trials of a variant: of each seed, one for each fold."""
        changed, made = self.configure(changes), []
        typed = flatten(changed.model_dump(mode="json"))
        for repeat in range(self.repeats):
            number, place = divmod(repeat, len(self.folds))
            train = changed.train.model_copy(update={"fold": self.folds[place]})
            trial = Trial(
                id=f"{variant * self.repeats + repeat:03d}",
                variant=variant,
                repeat=repeat,
                changes={name: typed[name] for name in changes},
                config=changed.model_copy(update={"seed": self.config.seed + number, "train": train}),
            )
            made.append(trial)
        return made


def _as_type_of(before: Any, value: Any) -> Any:
    if isinstance(value, float) and isinstance(before, int) and not isinstance(before, bool):
        return round(value)
    if not isinstance(value, str):
        return value
    if value == "none" and not isinstance(before, str):
        return None
    try:
        read = json.loads(value.replace("None", "null").replace("True", "true").replace("False", "false"))
    except ValueError:
        return value
    return value if isinstance(before, str) and not isinstance(read, str) else read
