"""The methods: launching, rehearsing, the schema of recipes and the library follow from this table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from selfimprove.errors import ConfigError
from selfimprove.methods.lmsi import plot as lmsi
from selfimprove.methods.lmsi.config import LmsiConfig
from selfimprove.methods.pit import plot as pit
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.recipe import Recipe
from selfimprove.methods.self_rewarding import plot as self_rewarding
from selfimprove.methods.self_rewarding.config import SelfRewardingConfig
from selfimprove.own_code import load_named
from selfimprove.store import Run
from selfimprove.types import ModelRef

__all__ = ["METHODS", "Method", "MethodConfig", "ShippedConfig", "is_method", "method_of"]

ShippedConfig: TypeAlias = LmsiConfig | SelfRewardingConfig | PitConfig
MethodConfig: TypeAlias = ShippedConfig | Recipe


@dataclass(frozen=True, slots=True)
class Method:
    """What has to be known of a method to run it."""

    config: type[MethodConfig]
    """Its recipes."""
    run: Callable[[Any, Run], ModelRef]
    """Runs one of them and returns the model it ends with."""


METHODS: Final = {
    "lmsi": Method(LmsiConfig, lmsi.run),
    "self_rewarding": Method(SelfRewardingConfig, self_rewarding.run),
    "pit": Method(PitConfig, pit.run),
}
"""By the name that a recipe says as `method`."""


def is_method(name: str) -> bool:
    """Whether a word names a method: a shipped one, or code of one's own as file.py:NAME."""
    return name in METHODS or ".py:" in name


def method_of(name: str) -> Method:
    """Return the method of this name.

    Raises:
        ConfigError: there is none.
    """
    if name in METHODS:
        return METHODS[name]
    if ":" not in name:
        raise ConfigError(
            f"method is {name!r}; known: {', '.join(METHODS)}, or one of your own as path/to/file.py:NAME"
        )
    found = load_named(name)
    if not isinstance(found, Method) or not issubclass(found.config, Recipe):
        raise ConfigError(
            f"{name} is no method: it must be Method(config, run), its config a Recipe (docs/extend.md)"
        )
    return found
