"""Rows of preference data: which of two responses to one prompt people liked better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final, TypeAlias

from selfimprove.data.row import RowError, UnusableRow, text, value
from selfimprove.types import Message, Role

__all__ = ["Told", "conversation", "merged", "parse"]

Told: TypeAlias = tuple[tuple[Message, ...], str, str]
"""The prompt's turns, the chosen response and the rejected one."""


_PROMPTS: Final = ("prompt", "messages", "instruction", "question", "input")
_ROLES: Final[dict[str, Role]] = {
    "user": "user", "human": "user", "prompter": "user", "assistant": "assistant",
    "gpt": "assistant", "system": "system",
}  # fmt: skip


def parse(fields: Mapping[str, Any]) -> Told:
    """Read `chosen` and `rejected`, texts or turns; turns may hold the prompt as well.

    Raises:
        UnusableRow: the turns of both share no prompt.
        RowError: a field is missing, or none of these.
    """
    chosen, rejected = (_said(value(fields, name), name) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise UnusableRow("has no shared prompt: its replies have different turns before them")
    # Some files repeat the first turn as `prompt`: the turns themselves say more.
    prompt = merged(chosen[:-1]) or conversation(fields)
    if not prompt:
        raise RowError("has an empty prompt")
    return prompt, chosen[-1].content, rejected[-1].content


def conversation(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    """Read the prompt of a row, text or turns.

    Raises:
        RowError: there is none, or it is neither.
    """
    found = value(fields, *_PROMPTS)
    if isinstance(found, str):
        return (Message("user", text(fields, *_PROMPTS)),)
    return merged([_message(turn, "prompt") for turn in _listed(found, "prompt")])


def _said(found: object, name: str) -> list[Message]:
    if isinstance(found, str):
        return [Message("assistant", found.strip())]
    turns = [_message(turn, name) for turn in _listed(found, name)]
    if not turns or turns[-1].role != "assistant":
        raise RowError(f"{name!r} does not end in the assistant's turn")
    return turns


def _listed(found: object, name: str) -> Sequence[object]:
    if not isinstance(found, Sequence):
        raise RowError(f"{name!r} is {type(found).__name__}, neither text nor turns")
    return found


def _message(turn: object, name: str) -> Message:
    if not isinstance(turn, Mapping):
        raise RowError(f"{name!r} holds a turn that is {type(turn).__name__}, not an object")
    role, said = value(turn, "role", "from"), value(turn, "content", "value")
    if not isinstance(role, str) or role not in _ROLES or not isinstance(said, str):
        raise RowError(f"{name!r} holds a turn of {role!r}, or one without text")
    return Message(_ROLES[role], said.strip())


def merged(turns: Sequence[Message]) -> tuple[Message, ...]:
    r"""Join turns of one side in a row: most chat templates insist that sides alternate.

    >>> merged([Message("user", "Hi."), Message("user", "Why?")])
    (Message(role='user', content='Hi.\\n\\nWhy?'),)
    """
    sides = groupby(turns, key=lambda turn: turn.role)
    return tuple(
        Message(role, "\n\n".join(turn.content for turn in said).strip()) for role, said in sides
    )
