"""What lm-evaluation-harness wrote about one model, and two of them paired document by document."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any, Final, TypeAlias

from selfimprove.errors import DataError
from selfimprove.evaluation.intervals import mean, paired

__all__ = ["Key", "Measured", "Results", "compared", "read_results"]

Key: TypeAlias = tuple[str, str, str]
"""Task, filter and metric, as the harness names them."""

_RESULTS: Final = "results_"
_ERROR: Final = "_stderr"


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of one model."""

    value: float
    """As the harness gives it."""
    standard_error: float | None
    higher_is_better: bool | None
    by_document: Mapping[str, float]
    """By the document's number and digest; empty where the samples have no number each."""


@dataclass(frozen=True, slots=True)
class Results:
    """All figures of one model."""

    version: str
    """Of lm-evaluation-harness."""
    figures: Mapping[Key, Measured]


def read_results(folder: Path) -> Results:
    """Read the newest results below a folder, with the samples that were logged with them.

    Raises:
        DataError: there are none, or a file is damaged.
    """
    found = sorted(folder.rglob(f"{_RESULTS}*.json"), key=lambda path: path.name)
    if not found:
        raise DataError(f"lm-evaluation-harness wrote no results below {folder}")
    told, stamp = _json(found[-1]), found[-1].stem.removeprefix(_RESULTS)
    figures: dict[Key, Measured] = {}
    for task, scores in told["results"].items():
        documents = _documents(found[-1].parent / f"samples_{task}_{stamp}.jsonl")
        for name, value in scores.items():
            metric, comma, by = name.partition(",")
            if not comma or metric.endswith(_ERROR) or not _is_number(value):
                continue
            error = scores.get(f"{metric}{_ERROR},{by}")
            better = told.get("higher_is_better", {}).get(task, {}).get(metric)
            each = documents.get((by, metric), {})
            figures[task, by, metric] = Measured(
                float(value), float(error) if _is_number(error) else None, better,
                each if _is_mean_of(float(value), each) else {},
            )  # fmt: skip
    return Results(str(told.get("lm_eval_version", "")), figures)


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not isinstance(told, dict) or not isinstance(told.get("results"), dict):
        raise DataError(f"{path} holds no results")
    return told


def _documents(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Return filter and metric -> document -> value, of the metrics that are a number a document."""
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    if not path.exists():  # a group of tasks has none
        return found
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            document = f"{row['doc_id']} {row['doc_hash']}"
            metrics, by = row["metrics"], row["filter"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}, line {number}: is no sample: {error!r}") from error
        for metric in metrics:
            if _is_number(row.get(metric)):
                found[by, metric][document] = float(row[metric])
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _is_mean_of(value: float, each: Mapping[str, float]) -> bool:
    """Tell whether a figure is the mean of its documents; another aggregation has no interval here."""
    return bool(each) and isclose(sum(each.values()) / len(each), value, abs_tol=1e-6)


def compared(systems: Sequence[tuple[str, Results]]) -> list[dict[str, Any]]:
    """Return every figure that each system has, with the difference from the first, as JSON data.

    Raises:
        DataError: the systems have no figure in common.
    """
    (_, first), *others = systems
    shared = [key for key in first.figures if all(key in told.figures for _, told in others)]
    if not shared:
        raise DataError("lm-evaluation-harness gave the systems no figure in common")
    return [
        {
            "task": key[0],
            "filter": key[1],
            "metric": key[2],
            "higher_is_better": first.figures[key].higher_is_better,
            "systems": [{"system": name, **_told(told.figures[key], first.figures[key] if n else None)}
                        for n, (name, told) in enumerate(systems)],
        }
        for key in shared
    ]  # fmt: skip


def _told(figure: Measured, first: Measured | None) -> dict[str, Any]:
    each = list(figure.by_document.values())
    estimate = mean(each) if each else None
    return {
        "value": figure.value,
        "interval": [estimate.low, estimate.high] if estimate else None,
        "standard_error": figure.standard_error,
        "n": len(each) or None,
        "versus_first": None if first is None else _versus(first.by_document, figure.by_document),
    }


def _versus(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Any] | None:
    """Pair two systems by document; None where either has no number a document."""
    if not before or not after:
        return None
    if before.keys() != after.keys():
        raise DataError(
            "the systems were asked different documents and cannot be paired: the task draws them anew "
            "each time, or its data changed in between"
        )
    told = paired([before[d] for d in before], [after[d] for d in before])
    return {"difference": told.difference, "interval": [told.low, told.high], "wins": told.wins,
            "losses": told.losses, "ties": told.ties}  # fmt: skip
