"""Base class and number types of all settings."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


Share = Annotated[float, Field(ge=0.0, le=1.0)]


Positive = Annotated[int, Field(ge=1)]


Pixels = Annotated[int, Field(ge=16, le=2048)]


Percentile = Annotated[float, Field(ge=0, le=100)]


class Settings(BaseModel):
    """Base class of all settings: frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
