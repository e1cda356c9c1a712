"""The JSON schema of recipes, by which editors complete and check them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter

from selfimprove.methods.table import ShippedConfig, method_of

__all__ = ["recipe_schema"]

_ABOUT: Final = ("default", "description", "title")
_NULL: Final = {"type": "null"}


def recipe_schema(method: str | None = None) -> dict[str, Any]:
    """Return the schema of a recipe, of one method or any that ships: every key with its type, range and doc line.

    Raises:
        ConfigError: there is no such method.
    """
    any_of: Any = Annotated[ShippedConfig, Field(discriminator="method")]
    recipe = TypeAdapter[Any](method_of(method).config if method else any_of)
    schema = recipe.json_schema(mode="validation")
    for block in (*schema["$defs"].values(), *([schema] if method else [])):
        block["properties"] = {
            name: _or_its_default(field) for name, field in block.get("properties", {}).items()
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of selfimprove",
        **schema,
    }


def _or_its_default(field: dict[str, Any]) -> dict[str, Any]:
    """Let null stand for a block or a list that has a default, as `Config` reads it."""
    if not isinstance(field.get("default"), dict | list):
        return field
    told = {name: value for name, value in field.items() if name in _ABOUT}
    kind = {name: value for name, value in field.items() if name not in _ABOUT}
    return {**told, "anyOf": [kind, _NULL]}
