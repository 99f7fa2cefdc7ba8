"""Dataclasses as strict JSON values and back: numbers that are not finite are null."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BeforeValidator, TypeAdapter

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value in (None, "") else value)]
"""A float that may be NaN: `from_json` reads null, and an empty cell of a CSV file, as NaN."""

NOT_IN_JSON = {"json": False}
"""Metadata of a dataclass's fields that `to_json` leaves out."""

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Returns a strict JSON value: dataclasses are objects, tuples lists, and what is not finite None."""
    if is_dataclass(value):
        kept = [field.name for field in fields(value) if field.metadata.get("json", True)]
        return {name: to_json(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(name): to_json(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def from_json(kind: type[T], value: Any) -> T:
    """Returns the dataclass that `to_json` made an object of.

    Raises:
        pydantic.ValidationError: a field is missing, or is not of its type.
    """
    key: Any = kind  # classes are hashable, which mypy does not see of type[T]
    found: T = _adapter(key).validate_python(value)
    return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
