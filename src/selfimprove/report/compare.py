"""Several runs side by side: their headlines, every measure that more than one has, and their seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.report.seeds import over_the_seeds

__all__ = ["compare"]

_KINDS = ("baseline", "base", "method", "control")


def compare(
    figures_by_run: Mapping[str, dict[str, Any]], runs: Mapping[str, RunFolder]
) -> dict[str, Any]:
    """Return the runs' headlines, a table for each set and measure that at least two share, and the seeds."""
    headlines = [
        {
            "name": name,
            **{k: held[k] for k in ("method", "title", "model", "seed", "finished", "headline")},
            "cost": held["cost"] and held["cost"]["total"],
        }
        for name, held in figures_by_run.items()
    ]
    return {
        "headlines": headlines,
        "measures": _shared_measures(figures_by_run),
        "seeds": over_the_seeds(runs),
    }


def _shared_measures(figures_by_run: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    tables: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    for name, held in figures_by_run.items():
        for panel in held["accuracy"] or ():
            for group in panel["groups"]:
                table = tables.setdefault((panel["set"], group["measure"]), {})
                for row in group["arms"]:
                    table.setdefault((row["kind"], row["arm"]), {})[name] = row
    tabled = (
        _table(on, measure, table, list(figures_by_run)) for (on, measure), table in tables.items()
    )
    return [table for table in tabled if len(table["runs"]) > 1]


def _table(
    on: str, measure: str, cells: dict[tuple[str, str], dict[str, Any]], runs: list[str]
) -> dict[str, Any]:
    present = [run for run in runs if any(run in row for row in cells.values())]
    arms = sorted(cells, key=lambda arm: _KINDS.index(arm[0]))
    return {
        "set": on,
        "measure": measure,
        "runs": present,
        "arms": [
            {"arm": name, "kind": kind, "cells": [cells[kind, name].get(run) for run in present]}
            for kind, name in arms
        ],
    }
