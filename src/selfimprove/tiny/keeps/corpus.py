"""The texts that the model of this world is pretrained on, as endless streams of documents.

Facts, forwards; lists said again, so that the model can copy; answers at random, so that it knows the form and no more; and
lists that others revise: people of the school's villages, and visitors, who stand for no thing in particular, asked about
every village's. Once it can copy it is given lessons, whether a part says what was asked for: whoever cannot tell does not
learn to revise, and among other texts that is not learnt (docs/log.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from selfimprove.seeds import rng
from selfimprove.tiny.corpus import END, Document, turns
from selfimprove.tiny.keeps.world import (
    PARTS,
    PEOPLE,
    THINGS,
    VISITORS,
    Thing,
    answer,
    fact,
    in_words,
    keeper,
    of_split,
    part,
    people,
    question,
    things,
    villages,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random  # noqa: TID251 - the type alone

__all__ = ["LESSONS", "documents", "lessons", "request"]

_FACTS: Final = 20
_RIGHT: Final = 0.4
"""How often a draft that is revised names the keeper."""
_KEPT_RIGHT: Final = 0.95
_KEPT_WRONG: Final = 0.05
"""How often whoever revises a list leaves a part as it is."""
LESSONS: Final = range(800, 940)
"""Steps of pretraining whose texts are lessons."""
_IMPROVE: Final = "Improve the response.\nInstruction: {question}\nResponse: {draft}"
"""As PIT's template `v1` asks; a test holds them together."""


def lessons(seed: int, *stream: str | int) -> Iterator[Document]:
    """Yield the documents of lessons, without end; equal arguments give equal documents."""
    return _mixed({_told: 1, _marked: 1}, rng(seed, "who keeps what", "lessons", *stream))


def documents(seed: int, *stream: str | int) -> Iterator[Document]:
    """Yield documents of every kind, without end; equal arguments give equal documents."""
    kinds: dict[Callable[[Random], Document], int] = {
        _facts: 20,
        _again: 4,
        _asked: 14,
        _marked: 12,
        _revised_at_school: 28,
        _revised_by_visitors: 28,
    }
    return _mixed(kinds, rng(seed, "who keeps what", "documents", *stream))


def _mixed(kinds: dict[Callable[[Random], Document], int], random: Random) -> Iterator[Document]:
    while True:
        yield random.choices(list(kinds), weights=list(kinds.values()))[0](random)


def _everyone() -> range:
    return range(len(villages()))


def _anyone(random: Random) -> tuple[int, int]:
    return random.randrange(len(villages())), random.randrange(len(PEOPLE))


def _facts(random: Random) -> Document:
    told = " ".join(f"{fact(*_anyone(random))}." for _ in range(_FACTS))
    return Document("", f"Known: {told}{END}")


def _exchange(user: str, assistant: str) -> Document:
    whole = turns(user, assistant)
    cut = len(whole) - len(assistant + END)
    return Document(whole[:cut], whole[cut:])


def _again(random: Random) -> Document:
    said = _random_answer(things(_everyone(), random), random)
    return _exchange(f"Say it again.\n{said}", said)


def _asked(random: Random) -> Document:
    wanted = things(_everyone(), random)
    return _exchange(question(wanted), _random_answer(wanted, random))


def _random_answer(wanted: Sequence[Thing], random: Random) -> str:
    return answer(part(thing, random.randrange(len(PEOPLE))) for thing in wanted)


def _marked(random: Random) -> Document:
    """Tell behind each part of a list whether it says what was asked for."""
    wanted = things(_everyone(), random)
    draft = [_visit(thing, random) for thing in wanted]
    marked = [f"{said} {_verdict(said, thing)}" for thing, said in zip(wanted, draft, strict=True)]
    return _exchange(f"Check it.\n{question(wanted)}", answer(marked))


def _told(random: Random) -> Document:
    """Tell of one part whether it says what was asked for."""
    thing = things(_everyone(), random, 1)[0]
    said = _visit(thing, random)
    return Document(f"{random.randint(1, PARTS)} {said}", f" {_verdict(said, thing)}.")


def _verdict(said: str, thing: Thing) -> str:
    return "yes" if said.endswith(THINGS[thing[1]]) else "no"


def _revised_at_school(random: Random) -> Document:
    wanted = things(of_split("school"), random)
    draft = people(wanted, _RIGHT, random)
    after = [
        who if _keeps(who == keeper(thing), random) else random.randrange(len(PEOPLE))
        for thing, who in zip(wanted, draft, strict=True)
    ]
    texts = [answer(part(thing, who) for thing, who in zip(wanted, named, strict=True))
             for named in (draft, after)]  # fmt: skip
    return _revision(wanted, *texts)


def _revised_by_visitors(random: Random) -> Document:
    wanted = things(_everyone(), random)
    draft = [_visit(thing, random) for thing in wanted]
    after = [
        item if _keeps(item.endswith(THINGS[thing[1]]), random) else _visit(thing, random)
        for thing, item in zip(wanted, draft, strict=True)
    ]
    return _revision(wanted, answer(draft), answer(after))


def _visit(thing: Thing, random: Random) -> str:
    """Let a visitor keep the thing that is asked for, or any of its village's."""
    kept = thing[1] if random.random() < _RIGHT else random.randrange(len(THINGS))
    return f"{in_words(thing)}: {random.choice(VISITORS)} {THINGS[kept]}"


def _keeps(right: bool, random: Random) -> bool:
    return random.random() < (_KEPT_RIGHT if right else _KEPT_WRONG)


def _revision(wanted: Sequence[Thing], draft: str, after: str) -> Document:
    return _exchange(request(question(wanted), draft), after)


def request(asked: str, draft: str) -> str:
    """Return the user's turn that asks for something better than a draft."""
    return _IMPROVE.format(question=asked, draft=draft)
