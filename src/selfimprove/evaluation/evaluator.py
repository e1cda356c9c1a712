"""What every run measures alike: arms on the same held-out rows, what became of them, and one result file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from selfimprove.errors import ConfigError
from selfimprove.evaluation.summary import ArmKind, write_summary
from selfimprove.rows import Rows
from selfimprove.store import Run
from selfimprove.types import ModelRef

__all__ = ["Arm", "Evaluator"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One measured model, or a way to use one."""

    name: str
    kind: ArmKind
    round: int
    model: ModelRef
    measured: ModelRef
    """The model as it leaves the run."""
    parent: ModelRef | None
    """What it was trained from."""
    data: Rows[Any] | None
    """What it was trained on."""
    rows: Rows[Any]
    """What it said of the held-out rows."""


A = TypeVar("A", bound=Arm)


class Judged(Protocol):
    """The gate's word on an arm."""

    @property
    def promoted(self) -> bool: ...
    @property
    def reason(self) -> str: ...


@dataclass
class Evaluator(Generic[A]):
    """The arms of a run, and the files that say what came of them."""

    steps: Run
    arms: list[A] = field(default_factory=list, kw_only=True)

    def arm(self, name: str) -> A:
        """Return the arm of this name.

        Raises:
            ConfigError: no arm of this name was measured.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ConfigError(f"no arm {name!r} was measured; there are {[a.name for a in self.arms]}")

    def write(
        self,
        about: Mapping[str, Any],
        scores: Mapping[str, list[dict[str, Any]]],
        roles: Mapping[str, tuple[str, Judged | None]],
        told: Mapping[str, Any],
    ) -> None:
        """Write summary.json and lineage.json, from which the report is made.

        Args:
            about: method, as recipes name it; title, of the page; model, as the recipe calls it; and headline, the one
                comparison that the run was made for.
            scores: of each arm, by its name.
            roles: what each arm is to the lineage, and the gate's word on it.
            told: whatever else was measured.
        """
        summary = {
            **about,
            "seed": self.steps.seed,
            "arms": [_figures(arm, scores[arm.name]) for arm in self.arms],
            **told,
        }
        write_summary(self.steps, summary, [_ancestor(a, *roles[a.name]) for a in self.arms])


def _figures(arm: Arm, scores: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": arm.name,
        "kind": arm.kind,
        "round": arm.round,
        "step": arm.rows.folder.name,
        "scores": list(scores),
    }


def _ancestor(arm: Arm, role: str, verdict: Judged | None) -> dict[str, Any]:
    """Return one model of the lineage."""
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
