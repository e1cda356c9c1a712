"""IFEval's files: prompts with the instructions that they give, and responses to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from selfimprove.data.formats import rows_of
from selfimprove.data.row import Fields, RowError, text
from selfimprove.data.tables import records
from selfimprove.errors import DataError
from selfimprove.evaluation.ifeval.checks import KINDS, RELATIONS

__all__ = ["InstructedPrompt", "Instruction", "read_prompts", "read_responses"]

T = TypeVar("T")

_PATTERNS: Final = ("keywords", "keyword", "forbidden_words", "section_spliter")
"""Arguments that are searched for as regular expressions, as published."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction that a program can check."""

    kind: str
    """E.g. `punctuation:no_comma`."""
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InstructedPrompt:
    """A prompt and the instructions in it."""

    key: str
    text: str
    instructions: tuple[Instruction, ...]


def read_prompts(path: Path, limit: int | None = None) -> list[InstructedPrompt]:
    """Read IFEval's `input_data.jsonl`: key, prompt, instruction_id_list, kwargs.

    Raises:
        DataError: the file cannot be read, a row is broken, or an instruction is of no known kind.
    """
    return list(_read(path, _prompt, limit))


def read_responses(path: Path) -> dict[str, str]:
    """Read a file of responses, prompt and response a row, as a map from the one to the other.

    Raises:
        DataError: the file cannot be read, or a row has no prompt or no response.
    """

    def pair(fields: Fields) -> tuple[str, str]:
        said = fields.get("response")
        if not isinstance(said, str):
            raise RowError("has no text 'response'")
        return text(fields, "prompt"), said

    return dict(_read(path, pair, None))


def _read(path: Path, parse: Callable[[Fields], T], limit: int | None) -> Iterator[T]:
    for record in islice(records(path, rows_of), limit):
        try:
            if record.fields is None:
                raise RowError(record.problem)
            yield parse(record.fields)
        except RowError as error:
            raise DataError(f"{path}, {record.place}: {error}") from error


def _prompt(fields: Fields) -> InstructedPrompt:
    kinds, arguments = fields.get("instruction_id_list"), fields.get("kwargs")
    if (
        not isinstance(kinds, list)
        or not isinstance(arguments, list)
        or len(kinds) != len(arguments)
    ):
        raise RowError("instruction_id_list and kwargs are not two lists of one length")
    if not kinds:
        raise RowError("gives no instruction")
    found = tuple(_instruction(str(k), a or {}) for k, a in zip(kinds, arguments, strict=True))
    prompt = text(fields, "prompt")
    return InstructedPrompt(str(fields.get("key", prompt)), prompt, found)


def _instruction(kind: str, arguments: Mapping[str, Any]) -> Instruction:
    if kind not in KINDS:
        raise RowError(f"{kind!r} is none of the {len(KINDS)} kinds of instructions")
    # The hub's copy gives every argument of every kind, most of them null.
    given = {name: value for name, value in arguments.items() if value is not None}
    missing = [name for name in KINDS[kind].needs if name not in given]
    if missing:
        raise RowError(f"{kind} needs {', '.join(missing)}")
    for name in given.keys() & {"relation", "let_relation", "capital_relation"}:
        if given[name] not in RELATIONS:
            raise RowError(f"{name} is {given[name]!r}, neither {' nor '.join(RELATIONS)}")
    for name in given.keys() & set(_PATTERNS):
        _refuse_no_pattern(name, given[name])
    return Instruction(kind, given)


def _refuse_no_pattern(name: str, value: object) -> None:
    for pattern in value if isinstance(value, list) else [value]:
        try:
            re.compile(str(pattern))
        except re.error as error:
            raise RowError(f"{name}: {pattern!r} is no regular expression: {error}") from error
