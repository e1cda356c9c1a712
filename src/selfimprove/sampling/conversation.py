"""Conversations as models get them: turns for a chat template, or a transcript in plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from selfimprove.types import Message

__all__ = ["as_asked", "in_words", "transcript"]

_SIDES: Final = {"system": "System", "user": "Human", "assistant": "Assistant"}
_SIDE: Final = re.compile(rf"^(?= *(?:{'|'.join(_SIDES.values())}):$)", re.M)


def transcript(turns: Sequence[Message]) -> str:
    r"""Lay out turns as plain text, for models without a chat template, ready to be continued.

    A header stands on a line of its own; a line of a turn that looks like one is indented.

    >>> transcript([Message("user", "Why?")])
    'Human:\nWhy?\n\nAssistant:\n'
    """
    said = [f"{_SIDES[turn.role]}:\n{_SIDE.sub(' ', turn.content)}\n\n" for turn in turns]
    return "".join([*said, "Assistant:\n"])


def as_asked(turns: tuple[Message, ...], *, chat: bool) -> str | tuple[Message, ...]:
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
