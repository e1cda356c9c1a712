"""Both readings beside lm-evaluation-harness's two filters for GSM8K, on real solutions and where they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from selfimprove.answers.equality import matches
from selfimprove.answers.extract import extract

# As in its task gsm8k, version 3: the first match, and the last one.
_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = re.compile(r",|\$|(?s:.*)#### |\.$")


def strict_match(text: str) -> str:
    found = _STRICT.search(text)
    return _IGNORED.sub("", found[1]) if found else "[invalid]"


def flexible_extract(text: str) -> str:
    found = [one or other for one, other in _FLEXIBLE.findall(text)]
    return _IGNORED.sub("", found[-1]) if found else "[invalid]"


def is_right(text: str, gold: str, *, lenient: bool) -> bool:
    answer = extract(text, "number", lenient=lenient)
    return answer is not None and matches(answer, (gold,), "number")


def test_real_solutions_are_read_alike(shared_data: Callable[[str], Path]) -> None:
    told = shared_data("gsm8k/test_first660.jsonl").read_text().splitlines()
    rows = shared_data("gsm8k/example_model_solutions_first660.jsonl").read_text().splitlines()
    right = 0
    for line, question in zip(rows, told, strict=True):
        said = json.loads(line)["175b_verification"]["solution"]
        gold = _IGNORED.sub("", json.loads(question)["answer"])
        # These state their answer as `A: 3`; behind `####`, as GSM8K does, strict-match sees it.
        stated = said.replace("\nA: ", "\n#### ")
        assert strict_match(said) == "[invalid]"
        assert (strict_match(stated) == gold) == is_right(stated, gold, lenient=False)
        assert (flexible_extract(said) == gold) == is_right(said, gold, lenient=True)
        right += is_right(said, gold, lenient=False)
    assert right == 371


@pytest.mark.parametrize(
    ("text", "harness", "ours"),
    [
        # strict-match and flexible-extract; then strict and flexible
        ("The answer is 5. That took 3 days.", ("[invalid]", "3"), ("5", "5")),
        ("#### 5\nWait: 2 more.\n#### 7", ("5", "7"), ("7", "7")),
        (r"So \boxed{5}.", ("[invalid]", "5"), ("5", "5")),
        ("She has twelve eggs.", ("[invalid]", "[invalid]"), (None, "12")),
        ("It costs 1/2 of it.", ("[invalid]", "2"), (None, "0.5")),
        ("It is 72, I think...", ("[invalid]", ".."), (None, "72")),
        ("It is 10:30 now.", ("[invalid]", "30"), (None, None)),
        ("#### 5\n\nQ: What is 3 + 4?\n#### 7", ("5", "7"), ("5", "5")),
    ],
)
def test_where_the_readings_differ_from_the_filters(
    text: str, harness: tuple[str, str], ours: tuple[str | None, str | None]
) -> None:
    assert (strict_match(text), flexible_extract(text)) == harness
    assert (extract(text, "number"), extract(text, "number", lenient=True)) == ours
