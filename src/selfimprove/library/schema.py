"""The JSON schema of recipes, by which editors complete and check them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from selfimprove.methods.table import MethodConfig

__all__ = ["recipe_schema"]


def recipe_schema() -> dict[str, Any]:
    """Return the schema of a recipe of any method: every key with its type, range and doc line."""
    recipe = TypeAdapter[Any](Annotated[MethodConfig, Field(discriminator="method")])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of selfimprove",
        **recipe.json_schema(mode="validation"),
    }
