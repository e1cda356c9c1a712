"""HH-RLHF: two transcripts of one conversation that differ in the assistant's last reply."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from selfimprove.data.preference_rows import Told, merged
from selfimprove.data.row import RowError, UnusableRow, value
from selfimprove.types import Message, Role

__all__ = ["parse", "turns"]

_HEADER: Final = re.compile(r"\n\n(Human|Assistant):")
_ROLES: Final[dict[str, Role]] = {"Human": "user", "Assistant": "assistant"}


def parse(fields: Mapping[str, Any]) -> Told:
    """Read a row: its prompt is all that stands before the last reply of both transcripts.

    Raises:
        UnusableRow: the transcripts share no prompt, or do not end in a reply each.
        RowError: it holds no two transcripts.
    """
    chosen, rejected = (_transcript(fields, name) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise UnusableRow("has no shared prompt: its transcripts differ before the last turn")
    if {chosen[-1].role, rejected[-1].role} != {"assistant"} or len(chosen) == 1:
        raise UnusableRow("does not end in the assistant's reply to somebody")
    return merged(chosen[:-1]), chosen[-1].content, rejected[-1].content


def _transcript(fields: Mapping[str, Any], name: str) -> Sequence[Message]:
    found = value(fields, name)
    if not isinstance(found, str):
        raise RowError(f"{name!r} is {type(found).__name__}, not a transcript")
    return turns(found)


def turns(transcript: str) -> list[Message]:
    r"""Split a transcript at its headers; several turns of one side in a row stay apart.

    >>> [turn.content for turn in turns("\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why?")]
    ['Hi', 'Yes?', 'Why?']

    Raises:
        RowError: there is no turn, or text before the first one.
    """
    before, *rest = _HEADER.split(transcript)
    if before.strip() or not rest:
        raise RowError("does not begin with a turn: '\\n\\nHuman:' or '\\n\\nAssistant:'")
    return [
        Message(_ROLES[side], said.strip())
        for side, said in zip(rest[::2], rest[1::2], strict=True)
    ]
