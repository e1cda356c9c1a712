"""Runs of one recipe but for the seed, taken together; and recipes against each other, seed by seed.

An interval here is over seeds: what another run of the same recipe would give on the same held-out rows.
That of a single run is over its rows.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, takewhile
from typing import Any, Final, NamedTuple

from selfimprove.config import fingerprint
from selfimprove.evaluation.intervals import Estimate, over_seeds
from selfimprove.report.run_folder import RunFolder
from selfimprove.report.sections.accuracy import POINTS, measure
from selfimprove.report.sections.recipe import flattened
from selfimprove.report.wording import verdict

__all__ = ["over_the_seeds"]

_ASIDE: Final = ("seed", "trackers")
_MOST_SETTINGS: Final = 4


class _Group(NamedTuple):
    """The finished runs of one recipe."""

    name: str
    runs: dict[str, RunFolder]
    """By their names, in the order of their seeds."""
    recipe: dict[str, Any]


def over_the_seeds(runs: Mapping[str, RunFolder]) -> dict[str, Any] | None:
    """Return a group for each recipe that ran with several seeds, and pairs of such recipes.

    `groups` holds for each: name, seeds, settings (what tells it from the other groups), unit, per-seed
    before, after and difference, their means, spreads (sample standard deviations) and the interval of the mean
    difference, and `measures`: the same for every arm on every set. `pairs` holds differences of what two
    groups reached at the same seeds. None where no recipe ran twice.
    """
    groups = [group for group in _groups(runs) if len(group.runs) > 1]
    if not groups:
        return None
    settings = _settings(groups)
    told = [
        {**_told(group), "settings": differing}
        for group, differing in zip(groups, settings, strict=True)
    ]
    return {"groups": told, "pairs": list(_pairs(groups))}


def _groups(runs: Mapping[str, RunFolder]) -> list[_Group]:
    found: dict[str, dict[str, RunFolder]] = {}
    for name, run in runs.items():
        if run.summary.headline is not None:
            recipe = {key: value for key, value in run.recipe.items() if key not in _ASIDE}
            found.setdefault(fingerprint(recipe), {})[name] = run
    return [
        _group(dict(sorted(alike.items(), key=lambda item: item[1].seed)))
        for alike in found.values()
    ]


def _group(runs: dict[str, RunFolder]) -> _Group:
    recipe = next(iter(runs.values())).recipe
    letters = takewhile(lambda alike: len(set(alike)) == 1, zip(*runs, strict=False))
    shared = "".join(alike[0] for alike in letters).rstrip("0123456789")
    shared = shared.removesuffix("seed").strip("-_./ ")
    one_each = {
        run.seed: (name, run) for name, run in runs.items()
    }  # a seed twice is no other seed
    return _Group(shared or str(recipe.get("method")), dict(one_each.values()), recipe)


def _told(group: _Group) -> dict[str, Any]:
    heads = [run.summary.headline for run in group.runs.values() if run.summary.headline]
    difference = over_seeds([head.difference for head in heads])
    return {
        "name": group.name,
        "method": group.recipe.get("method"),
        "model": group.recipe.get("model"),
        "metric": heads[0].metric,
        "set": heads[0].set,
        "unit": heads[0].unit,
        "seeds": [
            {"run": name, "seed": run.seed, "before": head.before, "after": head.after,
             "difference": head.difference, "interval": head.interval}
            for (name, run), head in zip(group.runs.items(), heads, strict=True)
        ],
        "before": _spread([head.before for head in heads]),
        "after": _spread([head.after for head in heads]),
        "difference": _with_interval(difference, [head.difference for head in heads]),
        "verdict": verdict((difference.low, difference.high)),
        "measures": _measures(group),
    }  # fmt: skip


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "spread": statistics.stdev(values)}


def _with_interval(found: Estimate, values: Sequence[float]) -> dict[str, Any]:
    return {**_spread(values), "interval": (found.low, found.high), "n": found.n}


def _measures(group: _Group) -> list[dict[str, Any]]:
    """Return a row for each arm that was measured alike in all of the group's runs."""
    values: dict[tuple[str, str, str, str, str], list[tuple[float, float | None]]] = {}
    for run in group.runs.values():
        for arm in run.summary.arms:
            for score in arm.scores:
                key = (score.set, measure(score), arm.name, arm.kind, score.against or "")
                change = score.versus_base.difference if score.versus_base else None
                values.setdefault(key, []).append((score.value, change))
    return [_row(key, held) for key, held in values.items() if len(held) == len(group.runs)]


def _row(
    key: tuple[str, str, str, str, str], held: Sequence[tuple[float, float | None]]
) -> dict[str, Any]:
    on, name, arm, kind, against = key
    changes = [change for _, change in held if change is not None]
    whole = len(changes) == len(held)
    return {
        "set": on,
        "measure": f"{name} against {against}" if against else name,
        "arm": arm,
        "kind": kind,
        "unit": "points" if name.endswith(POINTS) else "share",
        **_spread([value for value, _ in held]),
        "difference": _with_interval(over_seeds(changes), changes) if whole else None,
    }


def _pairs(groups: Sequence[_Group]) -> Iterator[dict[str, Any]]:
    """Yield what one recipe reached less what another did, at the seeds that both ran with."""
    for first, second in combinations(groups, 2):
        one, other = (_reached(group) for group in (first, second))
        shared = sorted(one.keys() & other.keys())
        differences = [other[key] - one[key] for key in shared]
        if len(differences) > 1:
            found = over_seeds(differences)
            yield {
                "first": first.name,
                "second": second.name,
                "unit": shared[0][2],
                "metric": shared[0][0],
                "set": shared[0][1],
                "difference": _with_interval(found, differences),
                "verdict": verdict((found.low, found.high)),
            }


def _reached(group: _Group) -> dict[tuple[str, str | None, str, int], float]:
    """Return the headline's value after the method, by what was measured and the seed."""
    return {
        (head.metric, head.set, head.unit, run.seed): head.after
        for run in group.runs.values()
        if (head := run.summary.headline) is not None
    }


def _settings(groups: Sequence[_Group]) -> list[list[str]]:
    """Return what tells each group's recipe from the others', a few settings of it."""
    flat = [dict(flattened(group.recipe, "")) for group in groups]
    names = sorted({name for one in flat for name in one})
    differing = [
        n for n in names if len({repr(one.get(n)) for one in flat}) > 1 and n not in _ASIDE
    ]
    return [
        [f"{name}: {one[name]}" for name in differing if name in one][:_MOST_SETTINGS]
        for one in flat
    ]
