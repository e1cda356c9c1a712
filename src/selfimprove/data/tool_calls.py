"""Rows of conversations with tools: refused, as a part of what was said would be lost without a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from selfimprove.data.row import RowError

__all__ = ["refuse_tools"]

_OFFERED: Final = ("tools", "functions")
_TURNS: Final = (
    "messages",
    "conversations",
    "conversation",
    "prompt",
    "completion",
    "chosen",
    "rejected",
)
_CALLS: Final = ("tool_calls", "function_call")
_ROLES: Final = ("tool", "function", "ipython", "observation", "function_call", "tool_call")
_WAY_OUT: Final = (
    "tools are neither shown nor learned here: leave such rows out, or let `row: mine.py:row` write them "
    "into the turns' text as the model's chat template would"
)


def refuse_tools(fields: Mapping[str, Any]) -> None:
    """Refuse a row that offers tools, calls one, or holds what one returned.

    Raises:
        RowError: it does.
    """
    for name in _OFFERED:
        if fields.get(name) not in (None, "", "[]", [], {}):
            raise RowError(f"offers tools ({name!r}): {_WAY_OUT}")
    for name in _TURNS:
        turns = fields.get(name)
        for turn in turns if isinstance(turns, list | tuple) else ():
            if isinstance(turn, Mapping):
                _refuse_turn(name, turn)


def _refuse_turn(name: str, turn: Mapping[str, Any]) -> None:
    called = next((key for key in _CALLS if turn.get(key)), None)
    if called is not None:
        raise RowError(f"{name!r} holds a turn that calls a tool ({called!r}): {_WAY_OUT}")
    role = turn.get("role") or turn.get("from")
    if role in _ROLES:
        raise RowError(f"{name!r} holds a turn of the role {role!r}: {_WAY_OUT}")
