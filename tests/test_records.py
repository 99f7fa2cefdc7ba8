"""Dataclasses become strict JSON and come back; what is not finite is null."""

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from pydantic import ValidationError

from brain_ray.records import NOT_IN_JSON, Number, from_json, to_json


@dataclass(frozen=True)
class Inner:
    name: str
    value: Number


@dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    flag: bool
    count: int = 0
    apart: object = field(default=None, metadata=NOT_IN_JSON)


def test_a_dataclass_comes_back_from_its_json() -> None:
    outer = Outer((Inner("a", 0.1), Inner("b", 2.0)), True, 3)
    text = json.dumps(to_json(outer), allow_nan=False)
    assert text == (
        '{"inner": [{"name": "a", "value": 0.1}, {"name": "b", "value": 2.0}], "flag": true, "count": 3}'
    )
    assert from_json(Outer, json.loads(text)) == outer


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_null_and_comes_back_as_nan(value: float) -> None:
    assert to_json(Inner("a", value)) == {"name": "a", "value": None}
    assert math.isnan(from_json(Inner, {"name": "a", "value": None}).value)


def test_a_field_of_another_type_is_refused() -> None:
    with pytest.raises(ValidationError, match="flag"):
        from_json(Outer, {"inner": [], "flag": "perhaps"})
    with pytest.raises(ValidationError, match="count"):
        from_json(Outer, {"inner": [], "flag": True, "count": None})


def test_json_holds_none_where_a_number_is_not_finite():
    value = {"a": (math.nan, np.float32(1.5)), "b": [math.inf], 3: np.bool_(True)}
    assert to_json(value) == {"a": [None, 1.5], "b": [None], "3": True}
