"""Published outputs of models, with their published accuracy: read alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from selfimprove.answers.answers import extract, matches
from selfimprove.data import bbh
from selfimprove.types import AnswerType, Question

Find = Callable[[str], Path]

_ROW = re.compile(
    r"_th_sampling\nQ: (?P<question>.*?)\nA: Let's think step by step\.(?P<text>.*?)"
    r"\npred_before : .*?\nGT : (?P<gold>.*)",
    re.DOTALL,
)

ZERO_SHOT: list[tuple[str, AnswerType, str, int]] = [
    ("gsm8k", "number", "", 1319),
    ("aqua", "choice", "ABCDE", 254),
    ("aqua", "choice", "", 254),
    ("coin_flip", "yes_no", "", 500),
]


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(("name", "kind", "letters", "count"), ZERO_SHOT)
def test_zero_shot_chains_of_thought_are_as_right_as_published(
    shared_data: Find, name: str, kind: AnswerType, letters: str, count: int, lenient: bool
) -> None:
    log = shared_data(f"zero_shot_cot/{name}.log").read_text(encoding="utf-8")
    published = float(re.findall(r"^accuracy : ([\d.]+)", log, re.MULTILINE)[-1])
    rows = [m for part in log.split("*" * 25 + "\n") if (m := _ROW.search(part))]
    right = 0
    for row in rows:
        answer = extract(row["text"], kind, letters, lenient=lenient)
        gold = row["gold"].strip().replace(",", "")
        right += answer is not None and matches(answer, (gold,), kind)
    assert len(rows) == count
    assert 100 * right / count == pytest.approx(published, abs=0.5)


TASKS = (
    "boolean_expressions",
    "date_understanding",
    "logical_deduction_three_objects",
    "multistep_arithmetic_two",
    "navigate",
    "object_counting",
    "reasoning_about_colored_objects",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_three_objects",
    "web_of_lies",
    "word_sorting",
)


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_big_bench_hard_comes_out_as_published_to_the_digit(
    shared_data: Find, task: str, lenient: bool
) -> None:
    outputs = json.loads(shared_data(f"bbh_outputs/{task}.json").read_text(encoding="utf-8"))
    metrics = shared_data(f"bbh_outputs/{task}.metrics.jsonl").read_text(encoding="utf-8")
    right = 0
    for row in outputs["outputs"]:
        asked = row["input"].rsplit("\n\nQ: ", 1)[-1].rsplit("\nA: Let's think", 1)[0]
        item = bbh.parse({"input": asked, "target": row["target"]})
        question = Question("q", "bbh", item.text, item.answer_type, item.choices)
        answer = extract(row["prediction"], question, lenient=lenient)
        right += answer is not None and matches(answer, item.gold, item.answer_type)
    assert 100 * right / 250 == pytest.approx(json.loads(metrics)["accuracy"])
