"""The runs that lie in a folder, each in a line: what it was, how far it came, what it says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfimprove.errors import DataError
from selfimprove.remote import as_url, runs_below
from selfimprove.report.run_folder import RunFolder, read_run
from selfimprove.report.wording import sentence

__all__ = ["ListedRun", "listed"]


@dataclass(frozen=True, slots=True)
class ListedRun:
    """One run."""

    path: Path
    method: str
    model: str
    seed: int
    state: str
    """finished, or how many of its steps are done so far; or what is wrong with the folder."""
    headline: str


def listed(folder: Path) -> list[ListedRun]:
    """Return the runs in a folder or at a URL, and in folders within it, by name.

    Raises:
        DataError: there is no such folder.
    """
    if url := as_url(folder):
        return [_listed(Path(run)) for run in runs_below(url)]
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; `selfimprove run` makes runs/")
    recipes = sorted(
        {
            *folder.glob("recipe.json"),
            *folder.glob("*/recipe.json"),
            *folder.glob("*/*/recipe.json"),
        }
    )
    return [_listed(recipe.parent) for recipe in recipes]


def _listed(path: Path) -> ListedRun:
    try:
        run = read_run(path)
    except DataError as error:
        return ListedRun(path, "", "", 0, str(error), "")
    recipe = run.recipe
    said = sentence(run.summary.headline) if run.summary.headline else ""
    return ListedRun(
        path,
        str(recipe.get("method", "")),
        str(recipe.get("model", "")),
        run.seed,
        _state(run),
        said,
    )


def _state(run: RunFolder) -> str:
    if (run.path / "finished.json").is_file():
        return "finished"
    done = sum(step.done for step in run.steps)
    return f"{done} steps done"
