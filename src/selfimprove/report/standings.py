"""Systems of several runs and annotation files in one order: what `selfimprove compare` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfimprove.data.alpaca_eval import read_preferences
from selfimprove.errors import DataError
from selfimprove.evaluation.elo import Meeting, linked, rate_systems
from selfimprove.evaluation.summary import Match
from selfimprove.evaluation.versus import recount
from selfimprove.remote import here
from selfimprove.report.names import names_of
from selfimprove.report.run_folder import RunFolder, read_run

__all__ = ["standings"]

_OUTCOME = ("prompt_id", "preference")


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """What one run or file says: its comparisons, and each match of them."""

    compared: list[dict[str, Any]]
    meetings: list[Meeting]


def standings(
    sources: Sequence[Path], *, anchor: str | None = None, gamed: Path | None = None
) -> dict[str, Any]:
    """Return runs' headlines, every comparison in them, and ratings of each group of systems that met.

    Systems of several runs have the run's name before theirs, but for a base that several began with.

    Args:
        sources: run folders, and AlpacaEval's `annotations.json` files.
        anchor: the system that stands at 1000; None: the mean of all does.
        gamed: AlpacaEval 2's `df_gamed.csv`, for the rates of annotation files.

    Raises:
        DataError: a folder or file cannot be read, or the anchor is none of the systems.
    """
    sources = [path if _is_file(path) else here(path) for path in sources]
    named = names_of(sources)
    runs = {name: read_run(p) for name, p in zip(named, sources, strict=True) if not _is_file(p)}
    found = [_of_file(path, gamed) for path in sources if _is_file(path)]
    called = _system_names(runs)
    found += [_of_run(run, called[name]) for name, run in runs.items()]
    meetings = [m for one in found for m in one.meetings]
    return {
        "runs": [_headline(name, run) for name, run in runs.items()],
        "head_to_head": [c for one in found for c in one.compared],
        "ratings": _ratings(meetings, anchor),
    }


def _ratings(meetings: Sequence[Meeting], anchor: str | None) -> list[dict[str, Any]]:
    """Rate each group of systems that met apart; only one of them holds the anchor."""
    names = {name for m in meetings for name in (m.first, m.second)}
    if anchor is not None and anchor not in names:
        raise DataError(f"{anchor!r} is none of the systems that met: {', '.join(sorted(names))}")
    told = []
    for group in linked(meetings):
        is_here = any(anchor in (m.first, m.second) for m in group)
        told.append(asdict(rate_systems(group, anchor if is_here else None)))
    return told


def _is_file(path: Path) -> bool:
    return path.suffix == ".json"


def _headline(name: str, run: RunFolder) -> dict[str, Any]:
    head = run.summary.headline
    return {
        "run": name,
        "method": run.recipe.get("method"),
        "model": run.recipe.get("model"),
        "seed": run.seed,
        "headline": head and head.model_dump(mode="json"),
    }


# ---- annotation files


def _of_file(path: Path, gamed: Path | None) -> _Verdicts:
    outcomes, first, second = read_preferences(path)
    met = [Meeting(first, second, o.preference, f"annotations {o.prompt_id}") for o in outcomes
           if o.preference is not None]  # fmt: skip
    return _Verdicts([recount(path, gamed)], met)


# ---- runs


def _system_names(runs: dict[str, RunFolder]) -> dict[str, dict[str, str]]:
    """Return, for each run, what each of its systems is called beside those of the other runs."""
    bases = {name: _bases(run) for name, run in runs.items()}
    shared = {
        (system, digest)
        for name, of_run in bases.items()
        for system, digest in of_run.items()
        if any(other != name and of.get(system) == digest for other, of in bases.items())
    }
    return {
        name: {
            system: system
            if len(runs) == 1 or (system, bases[name].get(system)) in shared
            else f"{name}: {system}"
            for match in run.summary.head_to_head
            for system in (match.first, match.second)
        }
        for name, run in runs.items()
    }


def _bases(run: RunFolder) -> dict[str, str]:
    """Return the digests of the models that the run began with, by what it calls them."""
    arms = run.summary.arms
    if len(arms) != len(run.lineage):
        return {}
    return {
        arm.name: model.exported or model.digest
        for arm, model in zip(arms, run.lineage, strict=True)
        if arm.kind == "base"
    }


def _of_run(run: RunFolder, called: dict[str, str]) -> _Verdicts:
    compared, met = [], []
    for match in run.summary.head_to_head:
        first, second = called[match.first], called[match.second]
        compared.append({**match.model_dump(mode="json"), "first": first, "second": second})
        # Runs ask the same held-out prompts by the same ids where they name the same set.
        met += [Meeting(first, second, share, f"{match.set} {prompt}")
                for prompt, share in _shares(run, match)]  # fmt: skip
    return _Verdicts(compared, met)


def _shares(run: RunFolder, match: Match) -> Iterator[tuple[str, float]]:
    """Yield the prompt of each judged match and the share of the first: from its rows, else from the counts."""
    rows = run.rows(f"{match.first}-against-{match.second}", _OUTCOME)
    mirrored = [] if rows else run.rows(f"{match.second}-against-{match.first}", _OUTCOME)
    for row in rows or mirrored:
        if (share := row["preference"]) is not None:
            yield row["prompt_id"], share if rows else 1 - share
    if rows or mirrored:
        return
    # A judge by points leaves no row a match. All draws on a prompt are taken to have ended alike, which
    # makes intervals rather too wide than too narrow.
    counts = ((1.0, match.wins), (0.5, match.ties), (0.0, match.losses))
    shares = [share for share, count in counts for _ in range(count)]
    if not shares:
        raise DataError(f"{run.path}: {match.first} against {match.second} has no match")
    for number, share in enumerate(shares):
        prompt = number * match.prompts // len(shares)
        yield f"{match.first} {match.second} {prompt}", share
