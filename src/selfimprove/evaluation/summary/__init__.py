"""What a run says of itself when it has finished: the schema of `summary.json` and `lineage.json`.

Whatever a run measures is a field here; the report and the library read these files and nothing else of
what was measured. A field that is None was not measured in this run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, TypeAdapter

from selfimprove.evaluation.summary.answers import Calibration, Labels
from selfimprove.evaluation.summary.improvement import (
    Ablation,
    GapModel,
    Link,
    PairOfSystems,
    ReadsReference,
    SameTwice,
    Stage,
    Temperature,
)
from selfimprove.evaluation.summary.judging import Card, Collapse, OwnPrompts, Pairs
from selfimprove.evaluation.summary.shared import (
    Ancestor,
    Arm,
    ArmKind,
    Decision,
    Figure,
    Headline,
    Match,
    Overlap,
    Score,
    Stored,
    Unit,
)
from selfimprove.store import Run

__all__ = [
    "Ancestor",
    "Arm",
    "ArmKind",
    "Card",
    "Decision",
    "Figure",
    "Headline",
    "Match",
    "Score",
    "Summary",
    "Unit",
    "write_summary",
]


class Summary(Stored):
    """`summary.json`; a run that has one is finished."""

    method: str | None = None
    title: str | None = None
    model: str | None = None
    """What the recipe calls it."""
    seed: int | None = None
    headline: Headline | None = None
    arms: tuple[Arm, ...] = ()
    gate: tuple[Decision, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    # LMSI
    calibration: tuple[Calibration, ...] = ()
    labels: tuple[Labels, ...] = ()
    # open-ended prompts
    head_to_head: tuple[Match, ...] = ()
    # Self-Rewarding
    judge_cards: tuple[Card, ...] = ()
    pairs: tuple[Pairs, ...] = ()
    own_prompts: tuple[OwnPrompts, ...] = ()
    collapse: tuple[Collapse, ...] = ()
    # PIT
    gap_models: dict[str, GapModel] = Field(default_factory=dict)
    curriculum: tuple[Stage, ...] = ()
    chains: tuple[Link, ...] = ()
    ablations: tuple[Ablation, ...] = ()
    improvement_temperatures: tuple[Temperature, ...] = ()
    pairs_of_systems: tuple[PairOfSystems, ...] = ()
    reference_use: SameTwice | None = None
    reads_reference: ReadsReference | None = None


def write_summary(
    steps: Run, summary: Mapping[str, Any], lineage: Sequence[Mapping[str, Any]]
) -> None:
    """Write both files of a finished run; the summary last, as it says that the run has finished.

    Raises:
        ValidationError: a value does not fit the schema.
        TypeError: something was measured that the schema has no field for, and nobody would read.
    """
    models = TypeAdapter(tuple[Ancestor, ...]).validate_python(lineage)
    told = Summary.model_validate(summary)
    if unread := _unread(_plain(summary), _dumped(told), "summary"):
        raise TypeError(f"{unread} is no field of the schema in evaluation/summary")
    steps.write("lineage.json", [_dumped(model) for model in models])
    steps.write("summary.json", _dumped(told))


def _dumped(model: Stored) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _plain(tree: object) -> Any:  # noqa: ANN401  JSON data
    return json.loads(json.dumps(tree))


def _unread(given: object, kept: object, place: str) -> str:
    """Name the first place of a tree that another does not hold; empty: it holds all of them."""
    if isinstance(given, Mapping) and isinstance(kept, Mapping):
        pairs = [(f"{place}.{name}", value, kept.get(name)) for name, value in given.items()]
        missing = next((where for where, _, _ in pairs if where.rpartition(".")[2] not in kept), "")
    elif isinstance(given, list) and isinstance(kept, list):
        pairs = [(f"{place}[{i}]", *both) for i, both in enumerate(zip(given, kept, strict=True))]
        missing = ""
    else:
        return ""
    return missing or next(filter(None, (_unread(*(v, k, w)) for w, v, k in pairs)), "")
