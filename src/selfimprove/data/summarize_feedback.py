"""OpenAI's summarize-from-feedback: two summaries of a post, and which one a person chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfimprove.data.preference_rows import Told
from selfimprove.data.row import RowError, optional, text, value
from selfimprove.types import Message

__all__ = ["parse"]


def parse(fields: Mapping[str, Any]) -> Told:
    """Read a comparison, of a Reddit post or of a news article.

    Raises:
        RowError: it holds no two summaries, no text, or no choice between the two.
    """
    summaries = value(fields, "summaries")
    if not isinstance(summaries, Sequence) or isinstance(summaries, str) or len(summaries) != 2:
        raise RowError("needs two 'summaries'")
    first, second = (_summary(summary) for summary in summaries)
    choice = value(fields, "choice")
    if choice not in (0, 1):
        raise RowError(f"'choice' is {choice!r}, neither 0 nor 1")
    info = value(fields, "info")
    if not isinstance(info, Mapping):
        raise RowError(f"'info' is {type(info).__name__}, not an object")
    prompt = (Message("user", _asked(info)),)
    return (prompt, second, first) if choice else (prompt, first, second)


def _summary(summary: object) -> str:
    if not isinstance(summary, Mapping) or not isinstance(summary.get("text"), str):
        raise RowError("holds a summary without 'text'")
    return str(summary["text"]).strip()


def _asked(info: Mapping[str, Any]) -> str:
    """Lay a post out as the models of that paper read it, with the cue for a summary behind it."""
    named = {"SUBREDDIT": optional(info, "subreddit"), "TITLE": optional(info, "title")}
    named["SUBREDDIT"] = named["SUBREDDIT"] and f"r/{named['SUBREDDIT']}"
    name = "POST" if optional(info, "post") else "ARTICLE"
    named[name] = text(info, "post", "article") if name == "POST" else text(info, "article", "post")
    lines = [f"{heading}: {said}" for heading, said in named.items() if said]
    return "\n\n".join([*lines, "TL;DR:"])
