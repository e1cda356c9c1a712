"""The JSON schema of recipes, by which editors complete and check them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from selfimprove.methods.lmsi import LmsiConfig
from selfimprove.methods.pit import PitConfig
from selfimprove.methods.self_rewarding import SelfRewardingConfig

__all__ = ["recipe_schema"]


def recipe_schema() -> dict[str, Any]:
    """Return the schema of a recipe of any method: every key with its type, range and doc line."""
    recipes = Annotated[LmsiConfig | SelfRewardingConfig | PitConfig, Field(discriminator="method")]
    schema = TypeAdapter[Any](recipes).json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of selfimprove",
        **schema,
    }
