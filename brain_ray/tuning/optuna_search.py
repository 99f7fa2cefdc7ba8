"""Variants proposed by TPE (Optuna) from the results so far."""

from collections.abc import Iterable, Mapping
from typing import Any

from brain_ray.errors import RunError
from brain_ray.tuning.search_space import Range, SearchSpace


class OptunaProposer:
    """Proposes the changes of one variant after another (Bergstra et al. 2011, the tree-structured Parzen
    estimator); the first ten are drawn at random.

    What is being tried, and not yet told, counts as if it had come to a bad end, so that variants that run at
    the same time differ (`constant_liar`).
    """

    def __init__(self, space: SearchSpace, known: Iterable[tuple[Mapping[str, Any], float | None]]) -> None:
        """Start from the variants that a sweep has already.

        Args:
            space: what is varied.
            known: their changes, and the value that each has come to; None: still being tried.

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
        # Another start of its random numbers than before, or it would propose the first ones once more.
        sampler = optuna.samplers.TPESampler(seed=space.config.seed + len(before), constant_liar=True)
        self._study = optuna.create_study(sampler=sampler)
        for changes, value in before:
            self._study.enqueue_trial({each.key: _parameter(space, each, changes) for each in self._ranges})
            self.propose()
            if value is not None:
                self.tell(len(self._asked) - 1, value)

    def propose(self) -> dict[str, Any]:
        """Return the changes of the next variant."""
        asked = self._study.ask(self._distributions)
        self._asked.append(asked)
        changes: dict[str, Any] = {}
        for each in self._ranges:
            value = asked.params[each.key]
            changes |= each.at(value) if each.values else {each.names[0]: value}
        return changes

    def tell(self, variant: int, value: float | None) -> None:
        """Take what a variant has come to, the lower the better; None: it failed."""
        import optuna

        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        self._study.tell(self._asked[variant], value, state)


def _distribution(each: Range) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if each.values:
        return CategoricalDistribution(list(range(len(each.values))))
    return FloatDistribution(each.low, each.high, log=each.kind == "loguniform")


def _parameter(space: SearchSpace, each: Range, changes: Mapping[str, Any]) -> Any:
    """Return what Optuna knows a trial's changes by: those are typed, and what is whole was rounded."""
    if not each.values:
        return min(max(changes[each.names[0]], each.low), each.high)
    tried = space.configure({name: changes[name] for name in each.names})
    return next(index for index in range(len(each.values)) if space.configure(each.at(index)) == tried)
