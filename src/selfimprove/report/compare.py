"""Several runs side by side: their headlines, and every measure that more than one of them has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["compare"]


def compare(figures_by_run: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the runs' headlines and a table for each set and measure that at least two share."""
    headlines = [
        {"name": name, **{k: held[k] for k in ("method", "model", "seed", "finished", "headline")}}
        for name, held in figures_by_run.items()
    ]
    return {"headlines": headlines, "measures": _shared_measures(figures_by_run)}


def _shared_measures(figures_by_run: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    tables: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    kinds: dict[str, str] = {}
    for name, held in figures_by_run.items():
        for panel in held["accuracy"] or ():
            for group in panel["groups"]:
                table = tables.setdefault((panel["set"], group["measure"]), {})
                for row in group["arms"]:
                    kinds.setdefault(row["arm"], row["kind"])
                    table.setdefault(row["arm"], {})[name] = row
    return [
        {
            "set": on,
            "measure": measure,
            "runs": list(figures_by_run),
            "arms": [
                {"arm": arm, "kind": kinds[arm], "cells": [cells.get(r) for r in figures_by_run]}
                for arm, cells in table.items()
            ],
        }
        for (on, measure), table in tables.items()
        if len({name for cells in table.values() for name in cells}) > 1
    ]
