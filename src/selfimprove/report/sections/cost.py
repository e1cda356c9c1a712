"""What each step cost, and the run as a whole."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder, Step

_SUMMED = ("seconds", "tokens_sampled", "prompt_tokens", "tokens_trained")


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return a row for each step and their total; a step that is being made counts so far."""
    rows = [_row(step) for step in run.steps]
    if not rows:
        return None
    total: dict[str, Any] = {key: sum(row[key] or 0 for row in rows) for key in _SUMMED}
    peaks = [row["peak_memory_mib"] for row in rows if row["peak_memory_mib"] is not None]
    total["peak_memory_mib"] = max(peaks, default=None)
    return {"steps": rows, "total": total}


def _row(step: Step) -> dict[str, Any]:
    record = step.record
    seconds = record.get("seconds")
    tokens = (record.get("tokens_sampled") or 0) + (record.get("tokens_trained") or 0)
    return {
        "step": step.name,
        "done": step.done,
        "rows": record.get("rows"),
        **{key: record.get(key) for key in _SUMMED},
        "tokens_per_second": round(tokens / seconds, 1) if tokens and seconds else None,
        "peak_memory_mib": record.get("peak_memory_mib"),
    }
