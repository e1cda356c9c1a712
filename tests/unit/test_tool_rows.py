"""Rows with tools, as the usual datasets write them, are refused by what they hold and never cut down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfimprove.data.examples import read_lessons
from selfimprove.data.preference_rows import parse
from selfimprove.data.row import RowError
from selfimprove.data.sources import Source
from selfimprove.errors import DataError

_USER = {"role": "user", "content": "What is the weather in Paris?"}
_SAID = {"role": "assistant", "content": "It is sunny."}
_FUNCTION = {"name": "weather", "arguments": '{"city": "Paris"}'}
_CALL = {"role": "assistant", "content": None,
         "tool_calls": [{"id": "1", "type": "function", "function": _FUNCTION}]}  # fmt: skip
_BACK = {"role": "tool", "tool_call_id": "1", "content": "sunny"}
_TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}

ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "openai": ({"messages": [_USER, _CALL, _BACK, _SAID]}, r"calls a tool \('tool_calls'\)"),
    "a call beside words": (
        {"messages": [_USER, {**_CALL, "content": "Let me look."}]},
        r"calls a tool \('tool_calls'\)",
    ),
    "a result alone": ({"messages": [_USER, _BACK, _SAID]}, "a turn of the role 'tool'"),
    "tools that nobody calls": ({"messages": [_USER, _SAID], "tools": [_TOOL]}, "offers tools"),
    "tools as text": ({"messages": [_USER, _SAID], "tools": json.dumps([_TOOL])}, "offers tools"),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "function_call", "value": "{}"},
                           {"from": "observation", "value": "1"}, {"from": "gpt", "value": "One."}]},
        "a turn of the role 'function_call'",
    ),
    "prompt and completion": ({"prompt": [_USER], "completion": [_CALL]}, "'completion' holds a turn"),
}  # fmt: skip


@pytest.mark.parametrize(("row", "said"), ROWS.values(), ids=ROWS)
def test_a_row_with_tools_is_named_with_its_line(
    tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    file = tmp_path / "rows.jsonl"
    plain = {"messages": [_USER, _SAID], "tools": []}
    file.write_text(f"{json.dumps(plain)}\n{json.dumps(row)}\n")
    with pytest.raises(DataError, match=f"line 2.*{said}.*row: mine.py:row"):
        read_lessons([Source(source=str(file))], "cot")
    file.write_text(json.dumps(plain) + "\n")  # a column of tools that is empty everywhere
    assert [lesson.completion for lesson in read_lessons([Source(source=str(file))], "cot")] == [
        "It is sunny."
    ]


def test_a_preference_between_calls_is_refused() -> None:
    with pytest.raises(RowError, match=r"'chosen' holds a turn that calls a tool"):
        parse({"chosen": [_USER, _CALL], "rejected": [_USER, _SAID]})
    with pytest.raises(RowError, match="offers tools"):
        parse({"prompt": "Hi", "chosen": "a", "rejected": "b", "tools": [_TOOL]})
