"""Rows of preference data: which of two responses to one prompt people liked better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final, TypeAlias

from selfimprove.data.rated_rows import LISTS, of_list, of_preference
from selfimprove.data.row import RowError, UnusableRow, optional, text, value
from selfimprove.data.tool_calls import refuse_tools
from selfimprove.types import Message, Role

__all__ = ["Told", "conversation", "merged", "parse"]

Told: TypeAlias = tuple[tuple[Message, ...], str, str]
"""The prompt's turns, the chosen response and the rejected one."""


_PROMPTS: Final = (
    "prompt",
    "messages",
    "conversations",
    "context",
    "instruction",
    "question",
    "input",
)
_ROLES: Final[dict[str, Role]] = {
    "user": "user", "human": "user", "prompter": "user", "assistant": "assistant",
    "gpt": "assistant", "system": "system",
}  # fmt: skip


def parse(fields: Mapping[str, Any]) -> Told:
    """Read a comparison, in whichever way a row makes one.

    `chosen` and `rejected`, texts or turns, which may hold the prompt as well; two outputs in a list, the better
    one first; responses with ranks or ratings (`rated_rows`); or two with a preference, as HelpSteer3 has them.

    Raises:
        UnusableRow: the turns of both share no prompt, or no response is preferred.
        RowError: a field is missing, or none of these.
    """
    refuse_tools(fields)
    if "chosen" not in fields and (pair := _pair(fields)) is not None:
        prompt = conversation(fields)
        if not prompt:
            raise RowError("has an empty prompt")
        return prompt, pair[0].strip(), pair[1].strip()
    chosen, rejected = (_said(value(fields, name), name) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise UnusableRow("has no shared prompt: its replies have different turns before them")
    # Some files repeat the first turn as `prompt`: the turns themselves say more.
    prompt = merged(chosen[:-1]) or conversation(fields)
    if not prompt:
        raise RowError("has an empty prompt")
    return prompt, chosen[-1].content, rejected[-1].content


def _pair(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the better and the worse response of a row that does not call them chosen and rejected."""
    if "overall_preference" in fields:
        return of_preference(fields)
    if any(name in fields for name in LISTS):
        return of_list(fields)
    outputs = fields.get("output")
    if isinstance(outputs, list) and len(outputs) == 2 and all(isinstance(o, str) for o in outputs):
        return outputs[0], outputs[1]
    return None


def conversation(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    """Read the prompt of a row, text or turns.

    Raises:
        RowError: there is none, or it is neither.
    """
    known = [n for n in _PROMPTS if n != "context" or isinstance(fields.get(n), list)]
    found = value(fields, *known)
    if isinstance(found, str):
        about = optional(fields, "input") if "instruction" in fields else None
        said = text(fields, *known)
        return (Message("user", f"{said}\n\n{about}" if about else said),)
    return merged([_message(turn, "prompt") for turn in _listed(found, "prompt")])


def _said(found: object, name: str) -> list[Message]:
    if isinstance(found, str):
        return [Message("assistant", found.strip())]
    if isinstance(found, Mapping):
        found = [found]  # ShareGPT: the reply alone, as one turn
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
    role, said = value(turn, "role", "from"), _text_of(value(turn, "content", "value"), name)
    if not isinstance(role, str) or role not in _ROLES or not isinstance(said, str):
        raise RowError(f"{name!r} holds a turn of {role!r}, or one without text")
    return Message(_ROLES[role], said.strip())


def _text_of(content: object, name: str) -> object:
    """Return a turn's text, where it is told in parts: [{type: text, text: ...}]."""
    if not isinstance(content, list):
        return content
    parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
    if not all(isinstance(part, str) for part in parts):
        raise RowError(f"{name!r} holds a turn with a part that is no text")
    return "\n\n".join(map(str, parts))


def merged(turns: Sequence[Message]) -> tuple[Message, ...]:
    r"""Join turns of one side in a row: most chat templates insist that sides alternate.

    >>> merged([Message("user", "Hi."), Message("user", "Why?")])
    (Message(role='user', content='Hi.\\n\\nWhy?'),)
    """
    sides = groupby(turns, key=lambda turn: turn.role)
    return tuple(
        Message(role, "\n\n".join(turn.content for turn in said).strip()) for role, said in sides
    )
