"""Word problems of the tiny world, and why a vote among their solutions knows more than one.

A problem is a start and two or three gains and losses. Everybody in the world can add, but writes
in one of five styles, each opened by its own cue words, and each style has its own misconceptions:
cells (style, sign, unit digit, unit digit) whose result the texts state wrongly, by the same
amount every time, in most of their occurrences. The most popular style is also the sloppiest.

So a model of these texts errs like this: its single most likely path is in the popular style and
states every misconception of that style, since the wrong result is the more likely one there.
Sampled paths fall into different styles, whose misconceptions lie in different cells, and meet
the right result now and then in a bad cell too. Right paths agree with each other; wrong ones
disagree. The majority answer is therefore right where the greedy one is not, and fine-tuning on
the paths that reach it turns the bad cells over, without any label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, reduce
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from selfimprove.seeds import rng
from selfimprove.types import Labelled, Question

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - the type alone

__all__ = [
    "STYLES",
    "Problem",
    "Split",
    "Style",
    "exemplars",
    "habitual",
    "labelled",
    "problems",
    "solve",
    "split_of",
]

Split: TypeAlias = Literal["corpus", "train", "dev", "test", "ood"]
"""corpus: what the models are pretrained on. ood: an unseen wording."""

Style: TypeAlias = Literal["order", "gains", "losses", "back", "group"]


@dataclass(frozen=True, slots=True)
class Habit:
    """How a style is written in the texts of the world."""

    share: float
    """Fraction of the solutions in this style."""
    cue: str
    """The words that open it."""
    wish: str
    """How a reader asks for it."""
    misconceived: float
    """Fraction of its cells with a misconception."""


STYLES: Final[dict[Style, Habit]] = {
    "order": Habit(0.40, "In order:", "Go in order.", 0.22),
    "gains": Habit(0.15, "Gains first:", "Begin with the gains.", 0.04),
    "losses": Habit(0.15, "Losses first:", "Begin with the losses.", 0.04),
    "back": Habit(0.15, "Backwards:", "Begin with the last step.", 0.04),
    "group": Habit(0.15, "Grouped:", "Group the gains and the losses.", 0.04),
}

WRONG_SHARE: Final = 0.68
"""How often the texts state the wrong result of a cell with a misconception."""

_WORLD_SEED: Final = 24
_STARTS: Final = (28, 59)
_CHANGES: Final = (2, 9)
_BUCKETS: Final[dict[Split, tuple[int, int]]] = {
    "corpus": (0, 60),
    "train": (60, 84),
    "dev": (84, 91),
    "test": (91, 100),
}

# fmt: off
_NAMES: Final = (
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Ida", "Jon", "Kim", "Leo", "Mia",
    "Ned", "Olga", "Paul", "Rosa", "Sam", "Tina", "Vera",
)
_THINGS: Final = (
    "pens", "cards", "coins", "shells", "books", "apples", "stamps", "beads", "cups", "keys",
    "rings", "nuts", "balls", "stones",
)
# fmt: on
_GAINS: Final = ("buys", "finds", "gets", "wins")
_LOSSES: Final = ("loses", "sells", "drops", "lends")
_OPENINGS: Final = (
    "{name} has {start} {things}.",
    "{name} owns {start} {things}.",
    "{name} starts with {start} {things}.",
)
_JOINS: Final = ("{name} {verb} {n}.", "Then {name} {verb} {n}.")
_ASKS: Final = ("How many {things} now?", "How many are there?", "What is the count now?")


@dataclass(frozen=True, slots=True)
class Problem:
    """One word problem; `changes` are signed."""

    text: str
    start: int
    changes: tuple[int, ...]

    @property
    def answer(self) -> int:
        """The right answer."""
        return self.start + sum(self.changes)


def split_of(text: str) -> Split:
    """Return the only split that may hold a question of this text."""
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100
    return next(split for split, (low, high) in _BUCKETS.items() if low <= bucket < high)


def problems(split: Split, random: Random) -> Iterator[Problem]:
    """Yield problems of one split, without end; a text may come twice."""
    while True:
        if split == "ood":
            yield _unseen(random)
        elif split_of((problem := _seen(random)).text) == split:
            yield problem


def _numbers(random: Random, steps: int) -> tuple[int, tuple[int, ...]]:
    changes = (random.randint(*_CHANGES) * random.choice((1, -1)) for _ in range(steps))
    return random.randint(*_STARTS), tuple(changes)


def _verb(random: Random, change: int) -> str:
    return random.choice(_GAINS if change > 0 else _LOSSES)


def _seen(random: Random) -> Problem:
    start, changes = _numbers(random, random.choice((2, 3)))
    words = {"name": random.choice(_NAMES), "things": random.choice(_THINGS)}
    parts = [random.choice(_OPENINGS).format(start=start, **words)]
    for index, change in enumerate(changes):
        join = _JOINS[0] if index == 0 else random.choice(_JOINS)
        parts.append(join.format(verb=_verb(random, change), n=abs(change), **words))
    parts.append(random.choice(_ASKS).format(**words))
    return Problem(" ".join(parts), start, changes)


def _unseen(random: Random) -> Problem:
    """Return a problem that tells all changes in one sentence, as no text of the corpus does."""
    start, changes = _numbers(random, random.choice((2, 3)))
    words = {"name": random.choice(_NAMES), "things": random.choice(_THINGS)}
    opening = random.choice(_OPENINGS).format(start=start, **words)
    told = " and ".join(f"{_verb(random, change)} {abs(change)}" for change in changes)
    ask = random.choice(_ASKS).format(**words)
    return Problem(f"{opening} {words['name']} {told}. {ask}", start, changes)


@cache
def misconception(style: Style, sign: int, left: int, right: int) -> int:
    """Return by how much the texts misstate a cell when they do, 0 in a sound cell.

    Args:
        style: the style whose texts are meant.
        sign: 1 for an addition, -1 for a subtraction.
        left: unit digit of the first number.
        right: unit digit of the second number.
    """
    random = rng(_WORLD_SEED, "cell", style, sign, left, right)
    return random.choice((1, -1, 2)) if random.random() < STYLES[style].misconceived else 0


def solve(problem: Problem, style: Style, random: Random | None = None) -> str:
    """Write a solution in a style, ending in its answer.

    Args:
        problem: what to solve.
        style: how to write it.
        random: decides in which bad cells the wrong result is stated; None states none.
    """
    steps: list[str] = []

    def combine(left: int, change: int) -> int:
        sign = 1 if change > 0 else -1
        error = misconception(style, sign, left % 10, abs(change) % 10)
        wrong = random is not None and error != 0 and random.random() < WRONG_SHARE
        result = left + change + (error if wrong else 0)
        steps.append(f"{left} {'+' if sign > 0 else '-'} {abs(change)} = {result}.")
        return result

    changes = _ordered(problem.changes, style)
    if style == "group":
        gains = [change for change in changes if change > 0]
        losses = [-change for change in changes if change < 0]
        changes = tuple(
            sign * reduce(combine, parts) for sign, parts in ((1, gains), (-1, losses)) if parts
        )
    total = reduce(combine, changes, problem.start)
    return " ".join((STYLES[style].cue, *steps, f"The answer is {total}."))


def _ordered(changes: tuple[int, ...], style: Style) -> tuple[int, ...]:
    if style == "back":
        return changes[::-1]
    if style in ("gains", "losses"):
        return tuple(sorted(changes, key=lambda change: (change < 0) == (style == "gains")))
    return changes


def habitual(random: Random) -> Style:
    """Draw a style as often as the world uses it."""
    shares = [habit.share for habit in STYLES.values()]
    return random.choices(list(STYLES), weights=shares)[0]


def labelled(split: Split, count: int) -> list[Labelled]:
    """Return the first `count` questions of a split, each text once, always the same ones."""
    rows: dict[str, Labelled] = {}
    for problem in problems(split, rng(_WORLD_SEED, "problems", split)):
        if len(rows) == count:
            break
        question = Question(f"{split}-{len(rows)}", "tiny", problem.text, "number")
        rows.setdefault(problem.text, Labelled(question, (str(problem.answer),)))
    return list(rows.values())


def exemplars(count: int = 4) -> list[Labelled]:
    """Return short worked questions of the corpus split in several styles, none with a mistake."""
    found = problems("corpus", rng(_WORLD_SEED, "exemplars"))
    found = (problem for problem in found if len(problem.changes) == 2)
    rows: list[Labelled] = []
    for style, problem in zip(islice(cycle(STYLES), count), found, strict=False):
        question = Question(f"exemplar-{len(rows)}", "tiny", problem.text, "number")
        rows.append(Labelled(question, (str(problem.answer),), solve(problem, style)))
    return rows
