"""What a run wrote into its folder since one last looked, as numbers in an order to be charted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from selfimprove.progress import begun
from selfimprove.tracking import measures

__all__ = ["Event", "Told", "news", "stage_of"]

_ROUND: Final = re.compile(r"(?:(?<=-)|^)(?:round-|m|y)(\d+)(?:-|$)")


class Event(NamedTuple):
    """Numbers of one moment."""

    series: str
    """What is charted together: a stage over its rounds, or one step as it is made."""
    at: int
    """The round, the shard, or the step of a training."""
    values: dict[str, float]


@dataclass
class Told:
    """How much of a run was told; written down, so that a run that is resumed goes on there."""

    lines: dict[str, int] = field(default_factory=dict)
    """Of each step's training log."""
    shards: dict[str, int] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    """Steps whose end was told."""
    summary: bool = False
    events: int = 0
    """How many that is."""


def stage_of(step: str) -> tuple[str, int]:
    """Return what a step is called in every round, and its round; 0 where it belongs to none.

    >>> stage_of("round-2-votes"), stage_of("m1-verdicts"), stage_of("pit-y2-gains"), stage_of("questions")
    (('votes', 2), ('verdicts', 1), ('pit-gains', 2), ('questions', 0))
    """
    found = _ROUND.search(step)
    if found is None:
        return step, 0
    stage = f"{step[: found.start()]}{step[found.end() :]}".strip("-")
    return stage or step, int(found[1])


def news(root: Path, told: Told) -> Iterator[Event]:
    """Yield what is new, and note in `told` that it was: each event once its taker is done with it."""
    for folder in _steps(root):
        if folder.name in told.done:
            continue
        for series in (_log_lines(folder, told), _shards(folder, told), _end(root, folder, told)):
            yield from series
    yield from _summary(root, told)


def _steps(root: Path) -> list[Path]:
    begun = [(path.stat().st_mtime_ns, path.parent) for path in root.glob("*/step.json")]
    return [folder for _, folder in sorted(begun)]


def _log_lines(folder: Path, told: Told) -> Iterator[Event]:
    """Yield the lines of a training's log; a training that goes on from a checkpoint writes them anew."""
    path = folder / "train_log.jsonl"
    if not path.exists():
        return
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    for number, line in enumerate(whole[told.lines.get(folder.name, 0) :], 1):
        entry = json.loads(line)
        at = int(entry.pop("step", number))
        yield Event(folder.name, at, measures.numbers(entry))
        told.lines[folder.name] = told.lines.get(folder.name, 0) + 1


def _shards(folder: Path, told: Told) -> Iterator[Event]:
    """Yield the shards of a step that has several, as they come."""
    sidecars = sorted(folder.glob("shard-*.json"))
    if len(sidecars) < 2 and not begun(folder).exists():
        return
    for number, sidecar in enumerate(sidecars, 1):
        if number <= told.shards.get(folder.name, 0):
            continue
        values = measures.of_record(_read(sidecar))
        values |= measures.of_rows([sidecar.with_suffix(".parquet")])
        yield Event(folder.name, number, values)
        told.shards[folder.name] = number


def _end(root: Path, folder: Path, told: Told) -> Iterator[Event]:
    """Yield a finished step under the name of its stage, and the run's sums so far."""
    if not (folder / "done.json").exists():
        return
    values = measures.of_record(_read(folder / "done.json"))
    values |= measures.of_rows(sorted(folder.glob("shard-*.parquet")))
    stage, round = stage_of(folder.name)
    yield Event(f"stage/{stage}", round, values)
    told.done.append(folder.name)
    records = [
        _read(root / step / "done.json")
        for step in told.done
        if (root / step / "done.json").exists()
    ]
    sums = {name: float(sum(r.get(name) or 0 for r in records))
            for name in ("seconds", "tokens_sampled", "tokens_trained")}  # fmt: skip
    yield Event("run", len(told.done), {"steps_done": float(len(told.done)), **sums})


def _summary(root: Path, told: Told) -> Iterator[Event]:
    if told.summary or not (root / "summary.json").exists():
        return
    summary = _read(root / "summary.json")
    if head := summary.get("headline"):
        low, high = head["interval"]
        yield Event(
            "result", 0, measures.numbers(head) | {"interval_low": low, "interval_high": high}
        )
    for arm in summary.get("arms") or ():
        values = {_measure(score): float(score["value"]) for score in arm["scores"]}
        yield Event(f"arm/{arm['name']}", int(arm.get("round") or 0), values)
    for card in summary.get("judge_cards") or ():
        yield Event(f"judge/{card['set']}/{card['arm']}", stage_of(card["arm"])[1], _figures(card))
    for decision in summary.get("gate") or ():
        values = measures.numbers(decision) | {"promoted": float(decision["promoted"])}
        yield Event("gate", int(decision["round"]), values)
    for pairs in summary.get("pairs") or ():
        yield Event("pairs", int(pairs["round"]), measures.numbers(pairs))
    told.summary = True


def _measure(score: Mapping[str, Any]) -> str:
    return f"{score['set']}/{score['mode']}/{score['metric']}"


def _figures(card: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a judge's card, those with an interval by their value."""
    values = {name: value["value"] for name, value in card.items()
              if isinstance(value, dict) and isinstance(value.get("value"), int | float)}  # fmt: skip
    return measures.numbers(card) | values


def _read(path: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return held
