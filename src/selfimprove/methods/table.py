"""The methods: launching, planning, the schema of recipes and the library follow from this table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from selfimprove.methods import (
    lmsi,
    lmsi_plan,
    pit,
    pit_plan,
    self_rewarding,
    self_rewarding_plan,
)
from selfimprove.methods.lmsi_config import LmsiConfig
from selfimprove.methods.pit_config import PitConfig
from selfimprove.methods.plan import Line, Use
from selfimprove.methods.self_rewarding_config import SelfRewardingConfig
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
    lines: Callable[[Any], Iterable[Line]]
    """Its steps and their cost, before it runs."""
    uses: Callable[[Any], Iterable[Use]]
    """Which models it holds in memory, and for what."""


METHODS: Final = {
    "lmsi": Method(LmsiConfig, lmsi.run, lmsi_plan.lines, lmsi_plan.uses),
    "self_rewarding": Method(
        SelfRewardingConfig,
        self_rewarding.run,
        self_rewarding_plan.lines,
        self_rewarding_plan.uses,
    ),
    "pit": Method(PitConfig, pit.run, pit_plan.lines, pit_plan.uses),
}
"""By the name that a recipe says as `method`."""
