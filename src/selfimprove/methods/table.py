"""The methods: launching, planning, the schema of recipes and the library follow from this table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from selfimprove.methods.lmsi import plot as lmsi
from selfimprove.methods.lmsi.config import LmsiConfig
from selfimprove.methods.pit import plot as pit
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.self_rewarding import plot as self_rewarding
from selfimprove.methods.self_rewarding.config import SelfRewardingConfig
from selfimprove.store import Run
from selfimprove.types import ModelRef

__all__ = ["METHODS", "Method", "MethodConfig"]

MethodConfig: TypeAlias = LmsiConfig | SelfRewardingConfig | PitConfig


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
