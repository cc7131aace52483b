"""What every section of the configuration is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every section: unknown keys are refused, values can't be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
