"""Classes of an external set for those of the bundle that is scored on it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brain_ray.errors import RunError, nearest


def parse_mapping(pairs: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """Reads `evaluate.mapping`, such as glioma=tumour: a set's class for each of the bundle's classes.

    Raises:
        RunError: a word is no such pair, a class of the bundle is unknown, missing or there twice, or only
            one class is left.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, mark, target = pair.partition("=")
        if not mark or not name or not target:
            raise RunError(f"evaluate.mapping: {pair!r} is no pair, such as {classes[0]}=tumour")
        if name not in classes:
            raise RunError(
                f"evaluate.mapping: {pair}: the bundle has no class {name!r}{nearest(name, classes)}, but "
                f"{list(classes)}"
            )
        if found.setdefault(name, target) != target:
            raise RunError(f"evaluate.mapping: {name} is there twice, for {found[name]} and {target}")
    missing = [name for name in classes if name not in found]
    if missing:
        raise RunError(
            f"evaluate.mapping says nothing of {missing}: each class of the bundle needs one, such as "
            f"{missing[0]}=tumour"
        )
    if len(set(found.values())) < 2:
        raise RunError(
            f"evaluate.mapping makes one class of all, {next(iter(found.values()))}: expected two or more"
        )
    return found


def map_classes(predictions: pd.DataFrame, mapping: Mapping[str, str]) -> pd.DataFrame:
    """Returns predictions with the columns of the set's classes in place of those of the bundle's.

    The probabilities of the classes that become one are added. Candidates are left out: their promise is of
    the bundle's own classes.

    Args:
        predictions: probability_<class> and calibrated_<class> for each class of the bundle, and others.
        mapping: class of the set for each class of the bundle.
    """
    result = predictions.drop(columns=["candidates"], errors="ignore")
    for kind in ("probability", "calibrated"):
        sums: dict[str, Any] = {}
        for name, target in mapping.items():
            chances = result.pop(f"{kind}_{name}").to_numpy(np.float64)
            sums[target] = sums.get(target, 0.0) + chances
        result = result.assign(**{f"{kind}_{name}": values for name, values in sums.items()})
    return result
