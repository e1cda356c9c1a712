"""Conversations as models get them: turns for a chat template, or a transcript in plain text.

The plain layout, for models without a chat template (`engine.chat: false`), is the same wherever a
model is trained, sampled or judged: each turn below a header on a line of its own (`System:`,
`Human:`, `Assistant:`), an empty line between turns, and `Assistant:` at the end, below which the
response stands. A single prompt is a conversation of one turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from selfimprove.types import Message, Role

__all__ = ["Asked", "Spoken", "as_asked", "in_words", "transcript", "turns_of"]

Asked: TypeAlias = str | tuple[Message, ...]
"""What a model is asked: plain text, continued as it stands, or turns for its chat template."""


class Spoken(NamedTuple):
    """What was asked, and the reply to it."""

    asked: Asked
    reply: str
    finished: bool = True
    """Whether the reply came to its end; no mark of one stands behind a reply that was cut off."""


_SIDES: Final[dict[Role, str]] = {"system": "System", "user": "Human", "assistant": "Assistant"}
_NAMES: Final = "|".join(_SIDES.values())
_SIDE: Final = re.compile(rf"^(?= *(?:{_NAMES}):$)", re.M)
_INDENTED: Final = re.compile(rf"^ (?= *(?:{_NAMES}):$)", re.M)
_HEADER: Final = re.compile(rf"^({_NAMES}):\n", re.M)


def transcript(turns: Sequence[Message]) -> str:
    r"""Lay out turns as plain text, for models without a chat template, ready to be continued.

    A header stands on a line of its own; a line of a turn that looks like one is indented.

    >>> transcript([Message("user", "Why?")])
    'Human:\nWhy?\n\nAssistant:\n'
    """
    said = [f"{_SIDES[turn.role]}:\n{_SIDE.sub(' ', turn.content)}\n\n" for turn in turns]
    return "".join([*said, "Assistant:\n"])


def turns_of(text: str) -> tuple[Message, ...] | None:
    r"""Return the turns that `transcript` has laid out; None: the text is no such transcript.

    >>> turns_of("Human:\nWhy?\n\nAssistant:\n")
    (Message(role='user', content='Why?'),)
    """
    before, *rest = _HEADER.split(text)
    roles, said = [_role(name) for name in rest[::2]], rest[1::2]
    if before or not said or (roles[-1], said[-1]) != ("assistant", ""):
        return None
    return tuple(
        Message(role, _INDENTED.sub("", content.removesuffix("\n\n")))
        for role, content in zip(roles[:-1], said[:-1], strict=True)
    )


def _role(name: str) -> Role:
    return next(role for role, side in _SIDES.items() if side == name)


def as_asked(turns: tuple[Message, ...], *, chat: bool) -> Asked:
    """Return turns for the chat template, or laid out as plain text."""
    return turns if chat else transcript(turns)


def in_words(turns: Sequence[Message]) -> str:
    """Return a conversation for people and judges: one user's turn as it stands, more as a transcript.

    >>> in_words([Message("user", "Why?")])
    'Why?'
    """
    if len(turns) == 1:
        return turns[0].content
    return transcript(turns).removesuffix("\n\nAssistant:\n")
