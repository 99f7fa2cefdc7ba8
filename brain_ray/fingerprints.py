"""Fingerprints of JSON values, such as a stage's inputs, and what differs between two of them."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any


def digest(value: object) -> str:
    """SHA-256 (hex) of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns nested settings into dotted names: {"train": {"epochs": 3}} -> {"train.epochs": 3}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lists what changed between two sets of inputs, as `name: before -> now`, or `name: not the same`."""
    old, new = flatten(before), flatten(now)
    return [
        f"{name}: {_told(old.get(name), new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _told(old: object, new: object) -> str:
    if all(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in (old, new)):
        return "not the same"
    return f"{json.dumps(old)} -> {json.dumps(new)}"
