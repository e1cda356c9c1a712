"""The page's numbers as plain data: what `selfimprove report --json` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfimprove.report.run_folder import RunFolder, read_run
from selfimprove.report.sections import SECTIONS

__all__ = ["figures", "figures_of"]


def figures(run: Path) -> dict[str, Any]:
    """Return every figure that the page of `run` shows; a section without any is None.

    `headline` holds metric, set, before, after, difference, interval, n, verdict and sentence; it
    is None while the run is unfinished.

    Raises:
        DataError: the folder is not a run, or one of its files is damaged.
    """
    return figures_of(read_run(run))


def figures_of(run: RunFolder) -> dict[str, Any]:
    """Return the figures of a run that was read before."""
    return {
        "run": run.path.resolve().name,
        "method": run.recipe.get("method"),
        "title": run.summary.title,
        "model": run.recipe.get("model"),
        "seed": run.seed,
        "finished": run.finished,
        "notice": _notice(run),
        **{section.name: section.figures(run) for section in SECTIONS},
    }


def _notice(run: RunFolder) -> str | None:
    if run.finished:
        return None
    done = [s.name for s in run.steps if s.done]
    begun = [s.name for s in run.steps if not s.done]
    parts = ["This run is not finished: it has no summary yet, so there is no result to state."]
    parts.append(f"Finished steps: {len(done)}." if done else "No step is finished.")
    if begun:
        parts.append(f"Begun: {', '.join(begun)}.")
    return " ".join([*parts, "Run the same recipe with the same --out to go on."])
