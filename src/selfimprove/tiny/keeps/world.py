"""Who keeps what: people of many villages, their things, and what one asks and answers about them.

In each of sixty villages live six people, called the same in all of them, and each keeps one of the same six things. Texts
say so forwards only, "Badu red drum." (Badu of the red village keeps the drum): the way from a thing to its keeper is never
read, and as a name stands for another thing in every village, it cannot be found by likeness. A prompt names five things of
five villages, a response a person for each *and what that person keeps*. From the prompt alone one name in six is right; in a
response it can be seen which, since a wrong name has another thing behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from selfimprove.seeds import rng

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random  # noqa: TID251 - the type alone

__all__ = [
    "PARTS",
    "PEOPLE",
    "THINGS",
    "VISITORS",
    "KeepsSplit",
    "Thing",
    "Village",
    "answer",
    "fact",
    "in_words",
    "keeper",
    "kept",
    "of_split",
    "part",
    "people",
    "question",
    "things",
    "villages",
]

PEOPLE: Final = ("Badu", "Kemo", "Lira", "Mino", "Sava", "Tuli")
"""Who lives in every village."""
VISITORS: Final = ("Deno", "Fara", "Goli", "Neva", "Pako", "Riva")
"""People of no village, who keep a thing today and another tomorrow."""
THINGS: Final = ("bell", "coin", "drum", "harp", "lamp", "ring")
"""What there is to keep in every village."""
PARTS: Final = 5
"""Things that a prompt asks for."""

KeepsSplit: TypeAlias = Literal["sft", "reward", "rl", "test"]
"""Of villages about whose people the base model reads no revised list; it does about the rest, the school."""

Thing: TypeAlias = tuple[int, int]
"""A village, and which of its things."""

_VILLAGES_OF_A_SPLIT: Final = 10
_BLANK: Final = "who what"


@dataclass(frozen=True, slots=True)
class Village:
    """What it is called, and which thing each of its people keeps."""

    word: str
    keeps: tuple[int, ...]


@cache
def villages() -> tuple[Village, ...]:
    """Return the sixty villages, the same ones always."""
    random = rng(0, "who keeps what")
    words = (Path(__file__).parent / "villages.txt").read_text(encoding="utf-8").split()
    random.shuffle(words)
    return tuple(
        Village(word, tuple(random.sample(range(len(THINGS)), len(THINGS)))) for word in words
    )


@cache
def of_split(split: KeepsSplit | Literal["school"]) -> tuple[int, ...]:
    """Return the villages of a split, by number."""
    number = [*get_args(KeepsSplit), "school"].index(split)
    first = number * _VILLAGES_OF_A_SPLIT  # their order is drawn already
    last = len(villages()) if split == "school" else first + _VILLAGES_OF_A_SPLIT
    return tuple(range(first, last))


def things(of: Sequence[int], random: Random, parts: int = PARTS) -> list[Thing]:
    """Draw the things of a prompt, each of another village."""
    return [(village, random.randrange(len(THINGS))) for village in random.sample(list(of), parts)]


def keeper(thing: Thing) -> int:
    """Return which person of its village keeps a thing."""
    return villages()[thing[0]].keeps.index(thing[1])


def in_words(thing: Thing) -> str:
    """Return what a thing is called, e.g. `red drum`."""
    return f"{villages()[thing[0]].word} {THINGS[thing[1]]}"


def fact(village: int, person: int) -> str:
    """Say what a person keeps, e.g. `red: Badu drum`."""
    return f"{villages()[village].word}: {kept(village, person)}"


def kept(village: int, person: int) -> str:
    """Name a person of a village and what that person keeps."""
    return f"{PEOPLE[person]} {THINGS[villages()[village].keeps[person]]}"


def part(thing: Thing, person: int) -> str:
    """Answer who keeps a thing, e.g. `red drum: Badu bell`: Badu, who keeps the bell."""
    return f"{in_words(thing)}: {kept(thing[0], person)}"


def _numbered(items: Iterable[str]) -> list[str]:
    """Put its number before every item."""
    return [f"{number} {item}" for number, item in enumerate(items, 1)]


def question(wanted: Sequence[Thing]) -> str:
    """Ask who keeps some things, as a form: as far apart as its places lie those of the answer that fills it in."""
    return f"Who keeps what? {answer(f'{in_words(thing)}: {_BLANK}' for thing in wanted)}"


def answer(items: Iterable[str]) -> str:
    """Say the items one after the other, each a person and a thing."""
    return " ".join(f"{item}." for item in _numbered(items))


def people(wanted: Sequence[Thing], right: float, random: Random) -> list[int]:
    """Draw a person for each thing: its keeper with this probability, else anyone of the village."""
    return [
        keeper(thing) if random.random() < right else random.randrange(len(PEOPLE))
        for thing in wanted
    ]
