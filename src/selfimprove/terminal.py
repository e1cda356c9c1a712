"""What the commands print for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from selfimprove.data.read import Check
    from selfimprove.methods.launch import Plan

__all__ = [
    "announce",
    "show_check",
    "show_facts",
    "show_outcome",
    "show_plan",
    "show_scores",
]

_SHOWN_BAD_ROWS = 20
_GIB = 2**30


def announce(line: str) -> None:
    """Print a line about a run's progress, on standard error."""
    Console(stderr=True, highlight=False).print(line, markup=False)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(title=title, title_justify="left", show_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)


def show_plan(plan: Plan) -> None:
    """Print the steps of a run and the upper bounds of their cost."""
    rows = [
        (s.name, s.does, f"{s.tokens_sampled:,}", f"{s.tokens_trained:,}",
         "done" if s.is_done else "to do")
        for s in plan.steps
    ]  # fmt: skip
    columns = ("step", "does", "to sample", "to train on", "state")
    _table(f"{plan.root}: tokens are upper bounds", columns, rows)
    if plan.needs is None:
        print("memory and disk: told once the model is a folder here; a dry run fetches nothing")
        return
    memory, disk = plan.needs.memory_bytes / _GIB, plan.needs.disk_bytes / _GIB
    print(f"memory: about {memory:.2f} GiB, and activations; disk: at most {disk:.2f} GiB")


def show_outcome(root: Path, *, was_finished: bool) -> None:
    """Print a run's headline and what to do next."""
    head = json.loads((root / "summary.json").read_text(encoding="utf-8"))["headline"]
    low, high = head["interval"]
    if was_finished:
        print(f"{root} is finished; nothing was done.")
    print(
        f"{head['metric']} on {head['n']} held-out questions: {head['before']:.1%} -> "
        f"{head['after']:.1%} ({head['difference'] * 100:+.1f} points, 95 % interval "
        f"{low * 100:+.1f} to {high * 100:+.1f})"
    )
    print(f"next: selfimprove report {root}")


def show_scores(model: str, found: Mapping[str, Any]) -> None:
    """Print the figures of one model."""
    rows = [
        (s["set"], s["mode"], s["metric"], f"{s['value']:.3f}",
         f"{s['interval'][0]:.3f}–{s['interval'][1]:.3f}", s["n"], s["unanswered"],
         f"{s['mean_tokens']:.1f}")
        for s in found["scores"]
    ]  # fmt: skip
    columns = ("set", "asked", "metric", "value", "95 %", "n", "unanswered", "tokens")
    _table(model, columns, rows)


def show_check(file: str, found: Check) -> None:
    """Print the counts of a data file and its broken rows."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.answer_types.items()))
    print(f"{file}: {found.rows:,} rows, {found.good:,} good ({kinds}), {len(found.bad):,} broken")
    if found.unlabelled:
        print(f"  {found.unlabelled:,} good rows have no answer: to learn from, not to measure on")
    for bad in found.bad[:_SHOWN_BAD_ROWS]:
        print(f"  {bad.place}: {bad.problem}")
    if len(found.bad) > _SHOWN_BAD_ROWS:
        print(f"  … and {len(found.bad) - _SHOWN_BAD_ROWS:,} more")


def show_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, aligned."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
