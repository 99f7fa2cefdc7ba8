"""Proposer of a sweep's variants from the results so far: TPE, by Optuna."""

from collections.abc import Iterable, Mapping
from typing import Any

from brain_ray.errors import RunError
from brain_ray.tuning.ranges import Range
from brain_ray.tuning.search_space import SearchSpace


class OptunaProposer:
    """Proposes the changes of one variant after another (Bergstra et al. 2011, the tree-structured Parzen
    estimator); the first ten are drawn at random.

    A variant that is proposed and has no value yet counts as one with a bad value, so that variants that run
    at the same time differ (`constant_liar`).
    """

    def __init__(self, space: SearchSpace, known: Iterable[tuple[Mapping[str, Any], float | None]]) -> None:
        """Repeats the proposals of the variants that a sweep already has.

        Args:
            space: the search space.
            known: changes and value of each variant; None: still running.

        Raises:
            RunError: Optuna is not installed.
        """
        try:
            import optuna
        except ImportError as error:
            raise RunError(
                "sweep.sampler is optuna, which is not installed: pip install 'optuna>=5.0,<6', or set it "
                "to random"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._ranges = space.ranges
        self._distributions = {each.key: _distribution(each) for each in self._ranges}
        self._asked: list[Any] = []
        before = list(known)
        # With the seed of before it would propose the first variants once more.
        sampler = optuna.samplers.TPESampler(seed=space.config.seed + len(before), constant_liar=True)
        self._study = optuna.create_study(sampler=sampler)
        for changes, value in before:
            self._study.enqueue_trial({each.key: _parameter(space, each, changes) for each in self._ranges})
            self.propose()
            if value is not None:
                self.tell(len(self._asked) - 1, value)

    def propose(self) -> dict[str, Any]:
        """Returns the changes of the next variant, by dotted name."""
        asked = self._study.ask(self._distributions)
        self._asked.append(asked)
        changes: dict[str, Any] = {}
        for each in self._ranges:
            value = asked.params[each.key]
            changes |= each.at(value) if each.values else {each.names[0]: value}
        return changes

    def tell(self, variant: int, value: float | None) -> None:
        """Records the value of a variant, by its index; lower is better, None: it failed."""
        import optuna

        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        self._study.tell(self._asked[variant], value, state)


def _distribution(each: Range) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if each.values:
        return CategoricalDistribution(list(range(len(each.values))))
    return FloatDistribution(each.low, each.high, log=each.kind == "loguniform")


def _parameter(space: SearchSpace, each: Range, changes: Mapping[str, Any]) -> Any:
    """Returns Optuna's parameter for a trial's changes, which are typed and rounded where the setting is
    whole."""
    if not each.values:
        return min(max(changes[each.names[0]], each.low), each.high)
    tried = space.configure({name: changes[name] for name in each.names})
    return next(index for index in range(len(each.values)) if space.configure(each.at(index)) == tried)
