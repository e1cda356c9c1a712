"""Training data that repeats what is measured on: found, counted for the report, and kept out.

Test, validation and judging sets are held out of everything that a model learns from, whatever files
the recipe names. What counts as the same question is said in `data.overlap`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from selfimprove.data.overlap import HeldOutTexts, find_overlaps, same_text
from selfimprove.data.preferences import Preference
from selfimprove.data.sources import Source, questions_of
from selfimprove.data.user_prompts import read_prompts
from selfimprove.errors import DataError
from selfimprove.evaluation.set_names import set_name
from selfimprove.evaluation.true_scores import read_rated
from selfimprove.rows import Drop, Filtered, Funnel, Rows
from selfimprove.sampling.conversation import in_words
from selfimprove.store import Run
from selfimprove.types import Demonstration, Question, Ranked, UserPrompt

__all__ = [
    "Decontamination",
    "HeldOutText",
    "Keys",
    "Repeat",
    "held_out_conversations",
    "held_out_prompts",
    "held_out_questions",
    "named",
    "ranked_apart",
    "repeats",
]

Asking: TypeAlias = Question | Demonstration | Ranked | Preference | UserPrompt
"""A row that asks something, and so may ask what is measured on."""

Keys: TypeAlias = tuple[str, ...]
"""Prompts that are passed over, as `same_text` gives them."""

T = TypeVar("T", Question, Demonstration, Ranked, Preference)


@dataclass(frozen=True, slots=True)
class HeldOutText:
    """One text that is measured on, by the name of its set."""

    set: str
    text: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """A training row that asks what a held-out set asks."""

    id: str
    """Of the training row."""
    text: str
    set: str
    held_out: str
    """The text of the set that it repeats."""
    near: bool
    """Nearly the same; otherwise it is the same but for case, spacing and punctuation."""


@dataclass
class Decontamination:
    """What a run holds out, and what of its training data was found to repeat it."""

    steps: Run
    held_out: Rows[HeldOutText]
    removes: bool
    """Whether such rows are kept out of training; they are counted either way."""
    told: list[dict[str, Any]] = field(default_factory=list)
    """A line for each training set and held-out set, for summary.json."""

    def repeats(
        self, name: str, rows: Rows[Any], asked: Rows[UserPrompt] | None = None
    ) -> Rows[Repeat]:
        """Find the rows of the training set `name` that ask what is held out, and note how many.

        Args:
            name: of the training set.
            rows: its rows.
            asked: what they ask, by the rows' ids, where the rows do not say it by themselves.
        """
        shown: Rows[Any] = rows if asked is None else asked
        found = self.steps.rows(f"{name}-overlaps", repeats, shown, self.held_out)
        counted = Counter((r.set, r.near) for r in found)
        self.told += [
            {
                "training": name,
                "held_out": of,
                "rows": len(rows),
                "exact": counted[of, False],
                "near": counted[of, True],
                "removed": self.removes,
            }
            for of in dict.fromkeys(text.set for text in self.held_out)
        ]
        return found

    def questions(self, name: str, rows: Rows[Question]) -> Rows[Question]:
        """Return the questions that are not held out.

        Raises:
            DataError: none is left.
        """
        return self._left(name, rows, questions_apart)

    def demonstrations(
        self, name: str, read: Callable[[Keys], Rows[Demonstration]]
    ) -> Rows[Demonstration]:
        """Return the demonstrations whose prompt is not held out.

        Args:
            name: of the training set.
            read: reads it, passing over some prompts, so that others fill a source's `limit`.

        Raises:
            DataError: none is left.
        """
        return self._left(name, read(()), demonstrations_apart, read=read)

    def reviews(
        self, name: str, rows: Rows[Demonstration], asked: Rows[UserPrompt]
    ) -> Rows[Demonstration]:
        """Return the judging examples about prompts that are not held out; `asked` has these, by id.

        Raises:
            DataError: none is left.
        """
        return self._left(name, rows, demonstrations_apart, asked)

    def ranked(self, name: str, read: Callable[[Keys], Rows[Ranked]]) -> Rows[Ranked]:
        """Return the rankings of responses to prompts that are not held out; `read` as above.

        Raises:
            DataError: none is left.
        """
        return self._left(name, read(()), ranked_apart, read=read)

    def passed_over(self) -> Keys:
        """Return the held-out prompts that are not to be read, as `same_text` gives them."""
        return tuple(sorted({same_text(h.text) for h in self.held_out})) if self.removes else ()

    def preferences(self, name: str, rows: Rows[Preference]) -> Rows[Preference]:
        """Return the preferences on prompts that are not held out.

        Raises:
            DataError: none is left.
        """
        return self._left(name, rows, preferences_apart)

    def _left(
        self,
        name: str,
        rows: Rows[T],
        apart: Callable[[Sequence[T], Sequence[Repeat]], Filtered[T]],
        asked: Rows[UserPrompt] | None = None,
        read: Callable[[Keys], Rows[T]] | None = None,
    ) -> Rows[T]:
        found = self.repeats(name, rows, asked) if rows else None
        if not found or not self.removes:
            return rows
        if read is not None:
            rows = read(self.passed_over())
            found = self.steps.rows(f"{name}-overlaps-again", repeats, rows, self.held_out)
        left = self.steps.rows(f"{name}-apart", apart, rows, found)
        if not left:
            raise DataError(
                f"every one of the rows of {name} asks what is measured on ({name}-overlaps lists "
                "them): give other data, or set decontaminate=false"
            )
        return left


def named(role: str, sources: Sequence[Source]) -> str:
    """Return what a held-out set is called: its part in the run, and the files it is read from."""
    return f"{role} ({', '.join(dict.fromkeys(set_name(s) for s in sources))})"


def held_out_questions(sets: Sequence[tuple[str, Sequence[Source]]]) -> list[HeldOutText]:
    """Read the questions of held-out sets, by the part that each set has in the run.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    return [
        HeldOutText(named(role, (source,)), question.text)
        for role, sources in sets
        for source in sources
        for question in questions_of(source)
    ]


def held_out_prompts(
    sets: Sequence[tuple[str, Sequence[Source]]], judging: Sequence[Source], seed: int
) -> list[HeldOutText]:
    """Read the prompts of held-out sets, and those whose responses judges are measured on.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    told = [
        HeldOutText(named(role, (source,)), prompt.text)
        for role, sources in sets
        for source in sources
        for prompt in read_prompts((source,))
    ]
    for source in judging:
        prompts = dict.fromkeys(r.response.prompt for r in read_rated((source,), seed))
        told += [HeldOutText(named("judging set", (source,)), prompt) for prompt in prompts]
    return told


def held_out_conversations(preferences: Sequence[Preference], name: str) -> list[HeldOutText]:
    """Return the prompts of held-out preferences, each once."""
    return [
        HeldOutText(name, text) for text in dict.fromkeys(in_words(p.prompt) for p in preferences)
    ]


def repeats(rows: Iterable[Asking], held_out: Iterable[HeldOutText]) -> list[Repeat]:
    """Return every row that asks what a held-out set asks, once for each such set."""
    sets: dict[str, list[str]] = {}
    for one in held_out:
        sets.setdefault(one.set, []).append(one.text)
    ids: dict[str, list[str]] = {}  # many preferences are on one prompt
    for row in rows:
        ids.setdefault(_asked(row), []).append(row.id)
    texts = list(ids)
    known = [HeldOutTexts(name, tuple(some)) for name, some in sets.items()]
    return [
        Repeat(id, texts[i], found.name, sets[found.name][j], near)
        for found in find_overlaps(texts, known)
        for near, places in ((False, found.exact), (True, found.near))
        for i, j in sorted(places.items())
        for id in ids[texts[i]]
    ]


def _asked(row: Asking) -> str:
    if isinstance(row, Question | UserPrompt):
        return row.text
    return in_words(row.prompt) if isinstance(row, Preference) else row.prompt


def questions_apart(rows: Sequence[Question], found: Sequence[Repeat]) -> Filtered[Question]:
    """Leave out the questions that repeat held-out ones."""
    return _apart("questions that are not held out", rows, found)


def demonstrations_apart(
    rows: Sequence[Demonstration], found: Sequence[Repeat]
) -> Filtered[Demonstration]:
    """Leave out the demonstrations whose prompt is a held-out one."""
    return _apart("demonstrations that are not held out", rows, found)


def ranked_apart(rows: Sequence[Ranked], found: Sequence[Repeat]) -> Filtered[Ranked]:
    """Leave out the rankings of responses to held-out prompts."""
    return _apart("rankings that are not held out", rows, found)


def preferences_apart(rows: Sequence[Preference], found: Sequence[Repeat]) -> Filtered[Preference]:
    """Leave out the preferences on held-out prompts."""
    return _apart("preferences that are not held out", rows, found)


def _apart(name: str, rows: Sequence[T], found: Sequence[Repeat]) -> Filtered[T]:
    why: dict[str, str] = {}
    for one in found:
        why.setdefault(one.id, f"{'nearly ' if one.near else ''}one of {one.set}")
    kept = [row for row in rows if row.id not in why]
    dropped = Counter(why[row.id] for row in rows if row.id in why)
    drops = tuple(Drop(reason, count) for reason, count in dropped.most_common())
    return Filtered(kept, (Funnel(name, len(rows), len(kept), drops),))
