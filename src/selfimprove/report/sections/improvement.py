"""The chain of improvement: what each step gained, and what it changed, word by word."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any, Final

from selfimprove.report.run_folder import RunFolder
from selfimprove.seeds import rng

_SHOWN: Final = 10
_MOST_CHARACTERS: Final = 1500


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return the steps, the temperatures that were tried, and some chains side by side."""
    summary = run.summary
    steps = [link.model_dump(mode="json") for link in summary.chains]
    if not steps:
        return None
    start = next(arm.step for arm in run.summary.arms if arm.kind == "base")
    return {
        "start": start,
        "steps": steps,
        "reference_use": summary.reference_use and summary.reference_use.model_dump(mode="json"),
        "temperatures": [t.model_dump(mode="json") for t in summary.improvement_temperatures],
        "examples": _examples(run, str(start), steps),
    }


def _examples(run: RunFolder, start: str, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a seeded choice of prompts, each with its first chain."""
    first = _texts(run, start)
    later = [(_texts(run, s["responses"]), _gains(run, s)) for s in steps]
    truth = [_scores(run, name) for name in (start, *(s["responses"] for s in steps))]
    chosen = rng(run.seed, "report", "chains").sample(sorted(first), min(_SHOWN, len(first)))
    told = []
    for key in chosen:
        before = first[key]["text"]
        links = [{"words": [("same", before)], "gain": None, "score": truth[0].get(key)}]
        for (texts, gains), scores in zip(later, truth[1:], strict=True):
            now = texts[key]["text"]
            links.append({"words": changed(before, now), "gain": gains.get(key),
                          "score": scores.get(key)})  # fmt: skip
            before = now
        told.append({"prompt": first[key]["prompt"], "links": links})
    return told


def changed(before: str, after: str) -> list[tuple[str, str]]:
    """Return runs of words of both texts: same, new or gone.

    >>> changed("The owl sings.", "The owl hunts at night.")
    [('same', 'The owl'), ('gone', 'sings.'), ('new', 'hunts at night.')]
    """
    old, new = before[:_MOST_CHARACTERS].split(), after[:_MOST_CHARACTERS].split()
    runs: list[tuple[str, str]] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            runs.append(("same", " ".join(old[a:b])))
            continue
        runs += [(name, " ".join(words)) for name, words in (("gone", old[a:b]), ("new", new[c:d]))
                 if words]  # fmt: skip
    return runs


def _texts(run: RunFolder, step: str) -> dict[str, dict[str, Any]]:
    rows = run.rows(step, ["prompt_id", "prompt", "index", "text"])
    return {row["prompt_id"]: row for row in rows if row["index"] == 0}


def _scores(run: RunFolder, step: str) -> dict[str, float]:
    rows = run.rows(step.replace("-responses", "-truth"), ["prompt_id", "index", "score"])
    return {row["prompt_id"]: row["score"] for row in rows if row["index"] == 0}


def _gains(run: RunFolder, link: dict[str, Any]) -> dict[str, float]:
    if link["gains"]:
        rows = run.rows(link["gains"], ["prompt_id", "index", "gap", "still"])
        first = (row for row in rows if row["index"] == 0)
        return {row["prompt_id"]: row["gap"] - row["still"] for row in first
                if row["gap"] is not None and row["still"] is not None}  # fmt: skip
    rows = run.rows(link["gaps"], ["prompt_id", "index", "score"])
    told = {(row["prompt_id"], row["index"]): row["score"] for row in rows}
    found = {}
    for prompt, _ in told:
        gap, still = told.get((prompt, 0)), told.get((prompt, -1))
        if gap is not None and still is not None:
            found[prompt] = gap - still
    return found
