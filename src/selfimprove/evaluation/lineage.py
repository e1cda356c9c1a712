"""Which model came from which, on what data, and whether it was kept: a row of lineage.json."""

from __future__ import annotations

from typing import Any, Protocol

from selfimprove.rows import Rows
from selfimprove.types import ModelRef

__all__ = ["ancestor"]


class Measured(Protocol):
    """A model that a run has made, or began with."""

    @property
    def round(self) -> int: ...
    @property
    def model(self) -> ModelRef: ...
    @property
    def measured(self) -> ModelRef: ...
    @property
    def parent(self) -> ModelRef | None: ...
    @property
    def data(self) -> Rows[Any] | None: ...


class Judged(Protocol):
    """The gate's word on it."""

    @property
    def promoted(self) -> bool: ...
    @property
    def reason(self) -> str: ...


def ancestor(arm: Measured, role: str, verdict: Judged | None) -> dict[str, Any]:
    """Return one model of the lineage as JSON data."""
    return {
        "round": arm.round,
        "role": role,
        "name": arm.model.name,
        "digest": arm.model.digest,
        "exported": arm.measured.digest,
        "parent": arm.parent.digest if arm.parent else None,
        "data_step": arm.data.folder.name if arm.data else None,
        "data_digest": arm.data.digest if arm.data else None,
        "promoted": verdict.promoted if verdict else None,
        "reason": verdict.reason if verdict else "",
    }
