"""Prompts and responses in files: which fields they lie in, whatever the file calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from selfimprove.data import oasst
from selfimprove.data.read_rows import read_rows
from selfimprove.data.row import Reshape, RowError, as_it_is, optional, text, value
from selfimprove.data.tool_calls import refuse_tools
from selfimprove.errors import DataError

__all__ = ["FORMATS", "parsed", "prompt_and_response", "prompt_of", "response_of", "rows"]

T = TypeVar("T")

FORMATS: Final = ("oasst", "self_instruct", "alpaca", "alpaca_eval", "mt_bench", "prompts")
"""Formats of open-ended prompts, beside `tiny`. `prompts` is any file with a usual column."""

_LISTS: Final = ("messages", "conversation", "conversations", "turns", "prompt", "chosen")
_PROMPTS: Final = ("prompt", "instruction", "question", "input")
_RESPONSES: Final = ("response", "completion", "output", "answer", "chosen")


def rows(
    source: str, name: str, parse: Callable[[Mapping[str, Any]], T], reshape: Reshape = as_it_is
) -> Iterator[tuple[str, T | RowError]]:
    """Yield the place of each row of a file or hub dataset, and the row or what is wrong with it.

    Raises:
        DataError: the format is unknown, or the file as a whole cannot be read.
    """
    if name not in FORMATS:
        raise DataError(
            f"no format of prompts is called {name!r}; there are {', '.join((*FORMATS, 'tiny'))}"
        )
    yield from read_rows(source, name, parse, reshape)


def parsed(
    source: str, name: str, parse: Callable[[Mapping[str, Any]], T], reshape: Reshape = as_it_is
) -> Iterator[T]:
    """Yield the rows of a file or hub dataset, each as `parse` reads it.

    Raises:
        DataError: the format is unknown, the file cannot be read, or a row of it is broken.
    """
    for place, row in rows(source, name, parse, reshape):
        if isinstance(row, RowError):
            hint = f"`selfimprove data check {source} --as {name}` lists every broken row"
            raise DataError(f"{source}, {place}: {row}; {hint}") from row
        yield row


def prompt_and_response(fields: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return a row's prompt, and its response where it has one; trees give their best reply.

    Raises:
        RowError: there is no prompt.
    """
    if isinstance(fields.get("prompt"), Mapping):
        tree = oasst.parse(fields)
        return tree.prompt, tree.replies[0].text if tree.replies else None
    try:
        return prompt_of(fields), response_of(fields)
    except RowError:
        return prompt_of(fields), None


def prompt_of(fields: Mapping[str, Any]) -> str:
    """Return the first thing the user says.

    Raises:
        RowError: no known field holds it.
    """
    refuse_tools(fields)
    for name in _LISTS:
        turns = fields.get(name)
        if isinstance(turns, Sequence) and not isinstance(turns, str) and turns:
            return _said(turns, "user", 0)
    said = text(fields, *_PROMPTS)
    context = _input_of(fields) if "instruction" in fields else None
    return f"{said}\n\n{context}" if context else said


def _input_of(fields: Mapping[str, Any]) -> str | None:
    """Return what an instruction is about: Self-Instruct's tasks have it beside their first output."""
    first = _first_instance(fields)
    return optional(fields if first is None else first, "input")


def _first_instance(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = fields.get("instances")
    is_list = isinstance(found, Sequence) and bool(found) and isinstance(found[0], Mapping)
    return found[0] if is_list else None  # type: ignore[index]


def response_of(fields: Mapping[str, Any]) -> str:
    """Return what the assistant says to it.

    Raises:
        RowError: no known field holds it.
    """
    if (first := _first_instance(fields)) is not None:
        return text(first, "output")
    for name in ("messages", "conversation", "conversations", "completion", "chosen"):
        turns = fields.get(name)
        if isinstance(turns, Sequence) and not isinstance(turns, str) and turns:
            return _said(turns, "assistant", 1)
    return text(fields, *_RESPONSES)


def _said(turns: Sequence[Any], role: str, place: int) -> str:
    """Return the first turn of a role; bare texts are turns of user and assistant by turns."""
    if all(isinstance(turn, str) for turn in turns):
        if len(turns) <= place or not turns[place].strip():
            raise RowError(f"has no turn of the {role}")
        return str(turns[place]).strip()
    for turn in turns:
        if isinstance(turn, Mapping) and value(turn, "role", "from") in _ROLES[role]:
            return text(turn, "content", "value")
    raise RowError(f"has no turn of the {role}")


_ROLES: Final = {"user": ("user", "human", "prompter"), "assistant": ("assistant", "gpt")}
