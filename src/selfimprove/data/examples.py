"""Rows to fine-tune on, in TRL's formats and in those of question sets with worked answers.

| a row holds | it becomes |
|---|---|
| `messages` (or `conversations`) | one example an assistant's turn, behind all turns before it |
| `prompt` and `completion`, both turns | one example |
| `prompt` and `completion`, both text | one example of plain text, joined as they stand |
| `instruction`, `prompt` or `question` with `output`, `response` or `answer` | a user's words and a reply |
| `oasst` trees | the first prompt of each English one, and its best reply |
| a format of questions, such as gsm8k | question and worked answer, in a layout of LMSI |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeGuard, get_args

from selfimprove.data import question_prompts as layouts
from selfimprove.data.demonstrations import read_demonstrations
from selfimprove.data.dialogues import parsed, prompt_of, response_of
from selfimprove.data.exemplars import exemplars_for
from selfimprove.data.formats import FORMATS
from selfimprove.data.read import TINY, read_labelled
from selfimprove.data.row import RowError, text
from selfimprove.data.sources import Source, distinct
from selfimprove.data.tool_calls import refuse_tools
from selfimprove.errors import DataError
from selfimprove.types import Labelled, Message, Role

__all__ = ["Lesson", "read_lessons"]

_TURNS: Final = ("messages", "conversations", "conversation")
_ROLES: Final[dict[str, Role]] = {
    **{role: role for role in get_args(Role)},
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """One example to fine-tune on, before any chat template."""

    id: str
    source: str
    turns: tuple[Message, ...]
    """What comes before the completion; empty where that is plain text."""
    text: str
    """Plain text before the completion; empty where there are turns."""
    completion: str
    is_words: bool
    """`text` is a user's words, not text to be continued as it stands."""


def read_lessons(sources: Sequence[Source], layout: layouts.Layout) -> list[Lesson]:
    """Read the rows of every source, in order; every id is unique.

    Args:
        sources: files, hub ids or splits of the tiny world; a source without a format is read by
            the fields of its rows.
        layout: of questions; cot takes the shipped exemplars.

    Raises:
        DataError: a file cannot be read, a row is broken, or has no worked answer for the layout.
    """
    found = [row for source in sources for row in _read(source, layout)]
    names = distinct(row.id for row in found)
    return [replace(row, id=name) for row, name in zip(found, names, strict=True)]


def _read(source: Source, layout: layouts.Layout) -> Iterator[Lesson]:
    if source.format in FORMATS or source.format == TINY:
        rows = read_labelled(source.source, source.format, limit=source.end,
                             reshape=source.reshape)  # fmt: skip
        return (_worked(row, layout) for row in source.part(rows))
    if source.format == "oasst":
        best = read_demonstrations((source,), 0).rows
        return (Lesson(d.id, d.source, (), d.prompt, d.response, is_words=True) for d in best)
    name = source.format or "prompts"
    several = source.part(parsed(source.source, name, _lessons(name), source.reshape))
    return (
        replace(lesson, id=f"{name}-{number}")
        for number, lessons in enumerate(several)
        for lesson in lessons
    )


def _worked(row: Labelled, layout: layouts.Layout) -> Lesson:
    question = row.question
    reasons = layout in layouts.REASONED
    if reasons and not row.rationale:
        raise DataError(
            f"{question.id} has no worked answer: layout=direct or layout=standard trains on the "
            "answer alone"
        )
    shown = exemplars_for(question.dataset) if layout in ("cot", "standard") else ()
    prompt = layouts.laid_out(layout, question.text, shown)
    completion = layouts.answer_only(layouts.stated(row.gold[0], question.answer_type))
    if reasons and row.rationale:
        said = row.rationale.strip()
        completion = f" {said}" if _concludes(said) else f" {said}{completion}"
    return Lesson(question.id, question.dataset, (), prompt, completion, is_words=False)


def _concludes(rationale: str) -> bool:
    """Tell whether a worked answer states the answer itself, in its last line."""
    return "answer is" in rationale.splitlines()[-1].lower()


def _lessons(name: str) -> Callable[[Mapping[str, Any]], list[Lesson]]:
    def parse(fields: Mapping[str, Any]) -> list[Lesson]:
        refuse_tools(fields)
        for field in _TURNS:
            if _is_turns(fields.get(field)):
                return _each_reply(name, _messages(fields[field]))
        prompt, completion = fields.get("prompt"), fields.get("completion")
        if _is_turns(prompt) and _is_turns(completion):
            return _each_reply(name, [*_messages(prompt), *_messages(completion)])[-1:]
        if isinstance(prompt, str) and isinstance(completion, str):
            # As they stand: white space at the seam belongs to the text.
            said = text(fields, "prompt") and text(fields, "completion") and completion
            return [Lesson("", name, (), prompt, said, is_words=False)]
        return [Lesson("", name, (), prompt_of(fields), response_of(fields), is_words=True)]

    return parse


def _is_turns(value: Any) -> TypeGuard[Sequence[Mapping[str, Any]]]:  # noqa: ANN401  a field
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(turn, Mapping) for turn in value)
    )


def _messages(turns: Sequence[Mapping[str, Any]]) -> list[Message]:
    said = []
    for turn in turns:
        role = str(turn.get("role") or turn.get("from") or "")
        if role not in _ROLES:
            raise RowError(f"has a turn of {role!r}; there are {', '.join(_ROLES)}")
        said.append(Message(_ROLES[role], text(turn, "content", "value")))
    return said


def _each_reply(name: str, turns: Sequence[Message]) -> list[Lesson]:
    """One lesson a reply of the assistant: each sees the conversation as sampling would."""
    replies = [n for n, turn in enumerate(turns) if turn.role == "assistant" and n > 0]
    if not replies:
        raise RowError("has no turn of the assistant behind one of the user")
    return [
        Lesson("", name, tuple(turns[:n]), "", turns[n].content, is_words=False) for n in replies
    ]
