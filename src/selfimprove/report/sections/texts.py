"""A table of all that models wrote in the run, to be searched, sorted and filtered in the browser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from selfimprove.report.links import Links
from selfimprove.report.run_folder import RunFolder
from selfimprove.report.texts import OUTCOMES, Text, steps_with_texts, texts_of
from selfimprove.seeds import rng

_MOST_TEXTS: Final = 50_000
_MOST_CHARACTERS: Final = 4_000
_MOST_IN_ALL: Final = 40_000_000
"""Characters of a page: what a phone still opens."""


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return how many texts each step holds, and the bounds of what the page shows of them."""
    links = Links(run)
    counts = [(step, links.rows[step]) for step in steps_with_texts(links)]
    total = sum(count for _, count in counts)
    if not total:
        return None
    return {
        "steps": [{"step": step, "rows": count} for step, count in counts if count],
        "rows": total,
        "most": _MOST_TEXTS,
        "most_characters": _MOST_CHARACTERS,
    }


def embedded(run: RunFolder) -> dict[str, Any]:
    """Return the texts column by column; what is said more than once is held once, and named by its place."""
    links = Links(run)
    held = [text for step in steps_with_texts(links) for text in texts_of(links, step)]
    return _columns(_chosen(held, run.seed), len(held))


def _chosen(held: list[Text], seed: int) -> list[Text]:
    """Return as many as a page bears, a choice that the seed fixes, in the order of the run."""
    order = list(range(len(held)))
    if len(held) > _MOST_TEXTS or sum(map(_size, held)) > _MOST_IN_ALL:
        rng(seed, "report", "texts").shuffle(order)
    room, taken = _MOST_IN_ALL, []
    for place in order[:_MOST_TEXTS]:
        room -= _size(held[place])
        if room < 0:
            break
        taken.append(place)
    return [held[place] for place in sorted(taken)]


def _size(text: Text) -> int:
    return min(len(text.text), _MOST_CHARACTERS)


def _columns(texts: list[Text], total: int) -> dict[str, Any]:
    steps, asked = _Names(), _Names()
    return {
        "total": total,
        "outcomes": OUTCOMES,
        "step": [steps.place(text.step) for text in texts],
        "asked": [asked.place(_cut(text.asked)) for text in texts],
        "about": [asked.place(_cut(text.about)) for text in texts],
        "id": [text.id for text in texts],
        "text": [_cut(text.text) for text in texts],
        "answer": [text.answer for text in texts],
        "tokens": [text.tokens for text in texts],
        "scores": [[[steps.place(s), round(v, 4)] for s, v in text.scores] for text in texts],
        "was": [_bits(text.outcomes) for text in texts],
        "steps": steps.held,
        "prompts": asked.held,
    }


def _bits(outcomes: Iterable[str]) -> int:
    return sum(1 << OUTCOMES.index(one) for one in outcomes)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} […]"


class _Names:
    """Strings by the place where each is first said."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, name: str) -> int:
        return self._places.setdefault(name, len(self._places))

    @property
    def held(self) -> list[str]:
        return list(self._places)
