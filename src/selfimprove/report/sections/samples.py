"""Questions with the paths drawn for them, the vote, and what was kept of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.seeds import rng

_MOST_QUESTIONS = 300  # the page must still open on a phone
_MOST_PATHS = 16
_MOST_CHARACTERS = 4000

_VOTES = re.compile(r"round-(\d+)-votes")
_VOTE_COLUMNS = [
    "question_id",
    "dataset",
    "question",
    "winner",
    "confidence",
    "tied",
    "paths",
    "silent",
    "agreeing",
    "classes",
]
_PATH_COLUMNS = ["question_id", "index", "text", "answer", "finish", "new_tokens"]


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return counts over all questions of each round, and how many of them the page shows."""
    rounds = [_counts(run, number) for number in _rounds(run)]
    if not rounds:
        return None
    total = sum(r["questions"] for r in rounds)
    return {
        "rounds": rounds,
        "questions": total,
        "shown": min(total, _MOST_QUESTIONS),
        "most_paths": _MOST_PATHS,
        "most_characters": _MOST_CHARACTERS,
    }


def embedded(run: RunFolder) -> list[dict[str, Any]]:
    """Return the shown questions: a seeded choice over all rounds, in the order of the run."""
    pool = [
        (number, row["question_id"])
        for number in _rounds(run)
        for row in run.rows(f"round-{number}-votes", ["question_id"])
    ]
    stream = rng(run.seed, "report", "samples")
    places = sorted(stream.sample(range(len(pool)), min(len(pool), _MOST_QUESTIONS)))
    chosen: dict[int, list[str]] = {}
    for place in places:
        number, question = pool[place]
        chosen.setdefault(number, []).append(question)
    return [shown for number, ids in chosen.items() for shown in _questions(run, number, ids)]


def _rounds(run: RunFolder) -> list[int]:
    """Return the rounds whose votes are complete."""
    found = (_VOTES.fullmatch(step.name) for step in run.steps if step.done)
    return sorted(int(match[1]) for match in found if match)


def _counts(run: RunFolder, number: int) -> dict[str, Any]:
    votes = run.rows(f"round-{number}-votes", ["question_id", "tied", "classes"])
    kept = _kept(run, number, None)
    return {
        "round": number,
        "questions": len(votes),
        "tied": sum(vote["tied"] for vote in votes),
        "split": sum(len(vote["classes"]) > 1 for vote in votes),
        "kept": None if kept is None else len(kept),
    }


def _kept(run: RunFolder, number: int, ids: list[str] | None) -> dict[str, set[int]] | None:
    """Return the indices of the kept paths, by question; None before they were chosen."""
    step = f"round-{number}-kept"
    if not any(s.name == step and s.done for s in run.steps):
        return None
    kept: dict[str, set[int]] = {}
    for row in run.rows(step, ["question_id", "index"], ids):
        kept.setdefault(row["question_id"], set()).add(row["index"])
    return kept


def _questions(run: RunFolder, number: int, ids: list[str]) -> Iterable[dict[str, Any]]:
    votes = run.rows(f"round-{number}-votes", _VOTE_COLUMNS, ids)
    kept = _kept(run, number, ids)
    paths: dict[str, list[dict[str, Any]]] = {}
    for path in run.rows(f"round-{number}-paths", _PATH_COLUMNS, ids):
        paths.setdefault(path["question_id"], []).append(path)
    for vote in votes:
        question = vote["question_id"]
        drawn = sorted(paths.get(question, ()), key=lambda p: p["index"])[:_MOST_PATHS]
        of_paths = set() if kept is None else kept.get(question, set())
        yield {
            "round": number,
            "id": question,
            "dataset": vote["dataset"],
            "question": _cut(vote["question"]),
            "winner": vote["winner"],
            "confidence": vote["confidence"],
            "tied": vote["tied"],
            "paths": vote["paths"],
            "silent": vote["silent"],
            "kept": None if kept is None else question in kept,
            "classes": [[c["answer"], c["votes"]] for c in vote["classes"]],
            "drawn": [_path(path, set(vote["agreeing"]), of_paths) for path in drawn],
        }


def _path(path: dict[str, Any], agreeing: set[int], kept: set[int]) -> dict[str, Any]:
    return {
        "index": path["index"],
        "text": _cut(path["text"]),
        "answer": path["answer"],
        "agrees": path["index"] in agreeing,
        "kept": path["index"] in kept,
        "finish": path["finish"],
        "tokens": path["new_tokens"],
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} […]"
