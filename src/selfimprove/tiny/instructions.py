"""Instructions of the tiny world, and responses that are good or bad in five ways.

Each instruction names one item, after the word 'with' and nowhere else, that the response has to
mention: one cue for one slot is what lets a very small model learn to copy. Each text of the world
has a hidden quality: every criterion is met with that probability.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from selfimprove.seeds import rng

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - the type alone

__all__ = [
    "CRITERIA",
    "ENDINGS",
    "ITEMS",
    "KINDS",
    "Instruction",
    "InstructionSplit",
    "claim",
    "instruction_split",
    "instructions",
    "parse",
    "respond",
    "some_instructions",
]

InstructionSplit: TypeAlias = Literal["corpus", "train", "dev", "test"]

CRITERIA: Final = ("topic", "item", "facts", "clear", "ending")
"""topic: speaks of what was asked. item: mentions the asked item. facts: states nothing false.
clear: no stammering. ending: ends with a closing line."""

# fmt: off
ITEMS: Final = (
    "lamps", "ropes", "drums", "bells", "coats", "kites", "jars", "maps", "forks", "sleds",
    "vases", "hats",
)
# fmt: on
_PEOPLE: Final = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo")
_FACTS: Final = {
    "owl": ("hunts at night", "eats grass"),
    "bee": ("makes honey", "eats mice"),
    "fox": ("has a red tail", "can fly"),
    "hen": ("lays eggs", "hunts at night"),
    "cow": ("eats grass", "lays eggs"),
    "seal": ("eats fish", "makes honey"),
    "bat": ("can fly", "has a shell"),
    "snail": ("has a shell", "has a red tail"),
}
"""Animal: what is true of it, what is false."""
_TASKS: Final = {
    "bake bread": ("mix the flour", "heat the oven"),
    "plant a tree": ("dig a hole", "water the roots"),
    "paint a wall": ("clean the wall", "open the paint"),
    "wash a dog": ("fill the tub", "dry the fur"),
    "make tea": ("boil the water", "fill the cup"),
    "fix a bike": ("check the chain", "pump the wheel"),
    "catch a fish": ("bait the hook", "wait in the boat"),
    "build a fire": ("gather the wood", "strike a match"),
}
"""Task: its two steps."""
_HOBBIES: Final = {
    "music": "it sounds sweet",
    "chess": "it trains the mind",
    "running": "it keeps us fit",
    "reading": "it tells a story",
    "cooking": "it tastes good",
    "painting": "it shows colour",
    "sailing": "it smells of salt",
    "dancing": "it moves the feet",
}
"""Hobby: why one likes it."""
_PLACES: Final = ("barn", "park", "cave", "field", "harbour", "garden", "forest", "meadow")
ENDINGS: Final = ("I hope this helps.", "That is all.")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of instruction: three wordings around a subject, a second slot and an item."""

    wordings: tuple[str, str, str]
    subjects: tuple[str, ...]
    others: tuple[str, ...]


KINDS: Final[dict[str, Kind]] = {
    "animal": Kind(
        (
            "Write about a {subject} in the {other} with {item}.",
            "Describe a {subject} with {item} in the {other}.",
            "Tell me what a {subject} does with {item} in the {other}.",
        ),
        tuple(_FACTS),
        _PLACES,
    ),
    "task": Kind(
        (
            "List the steps to {subject} with {item} for {other}.",
            "How can {other} {subject} with {item}?",
            "Explain to {other} how to {subject} with {item}.",
        ),
        tuple(_TASKS),
        _PEOPLE,
    ),
    "hobby": Kind(
        (
            "Say why {other} likes {subject} with {item}.",
            "Why does {other} like {subject} with {item}?",
            "Tell me why {other} enjoys {subject} with {item}.",
        ),
        tuple(_HOBBIES),
        _PEOPLE,
    ),
}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction and what it asks for."""

    text: str
    kind: str
    subject: str
    other: str
    item: str


def instruction_split(text: str) -> InstructionSplit:
    """Return the only split that may hold an instruction of this text."""
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100
    bounds: dict[InstructionSplit, int] = {"corpus": 55, "train": 85, "dev": 90, "test": 100}
    return next(split for split, bound in bounds.items() if bucket < bound)


def some_instructions(split: InstructionSplit, random: Random) -> Iterator[Instruction]:
    """Yield instructions of one split, without end; a text may come twice."""
    while True:
        kind, form = random.choice(list(KINDS.items()))
        subject, other = random.choice(form.subjects), random.choice(form.others)
        item, wording = random.choice(ITEMS), random.choice(form.wordings)
        text = wording.format(subject=subject, other=other, item=item)
        if instruction_split(text) == split:
            yield Instruction(text, kind, subject, other, item)


def instructions(split: InstructionSplit, count: int) -> list[Instruction]:
    """Return the first `count` instructions of a split, each once, always the same ones."""
    rows: dict[str, Instruction] = {}
    for instruction in some_instructions(split, rng(20, "instructions", split)):
        if len(rows) == count:
            break
        rows.setdefault(instruction.text, instruction)
    return list(rows.values())


def parse(text: str) -> Instruction | None:
    """Read an instruction, whoever wrote it; None where it is none of the world's.

    >>> parse("How can Ben make tea with jars?").subject
    'make tea'
    """
    for kind, form in KINDS.items():
        slots = {"subject": form.subjects, "other": form.others, "item": ITEMS}
        for wording in form.wordings:
            pattern = re.escape(wording).replace(r"\{", "{").replace(r"\}", "}")
            named = {slot: f"(?P<{slot}>{'|'.join(words)})" for slot, words in slots.items()}
            if match := re.fullmatch(pattern.format(**named), text.strip()):
                return Instruction(text.strip(), kind, **match.groupdict())
    return None


def claim(kind: str, subject: str, true: bool) -> str:
    """Return what the world says of a subject, or the falsehood that is told of it."""
    if kind == "animal":
        return _FACTS[subject][0 if true else 1]
    if kind == "task":
        first, then = _TASKS[subject] if true else _TASKS[subject][::-1]
        return f"first {first}, then {then}"
    names = list(_HOBBIES)
    return _HOBBIES[names[names.index(subject) - (0 if true else 1)]]


def respond(instruction: Instruction, met: Mapping[str, bool], random: Random) -> str:
    """Write a response that meets exactly the given criteria; a missed item is left out."""
    kind, subject = instruction.kind, instruction.subject
    if not met["topic"]:
        subject = random.choice([word for word in KINDS[kind].subjects if word != subject])
    said = claim(kind, subject, met["facts"])
    slots = {"subject": subject, "other": instruction.other, "claim": said}
    first, second = (line.format(**slots) for line in _LINES[kind])
    if met["item"]:
        second += f" with {instruction.item}"
    if not met["clear"]:
        words = second.split()
        at = random.randrange(len(words))
        second = " ".join((*words[: at + 1], words[at], words[at], *words[at + 1 :]))
    ending = (random.choice(ENDINGS),) if met["ending"] else ()
    return " ".join((first, f"{second}.", *ending))


_LINES: Final = {
    "animal": ("The {subject} {claim}.", "In the {other} it plays"),
    "task": ("To {subject}, {claim}.", "Then {other} ends"),
    "hobby": ("{other} likes {subject} since {claim}.", "It goes well"),
}
