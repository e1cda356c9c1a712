"""Real conversations and prompt sets, read as seeds and as evaluation prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from selfimprove.data.demonstrations import read_demonstrations, read_ranked
from selfimprove.data.read import check
from selfimprove.data.sources import Source
from selfimprove.data.user_prompts import read_prompts

Find = Callable[[str], Path]


def test_openassistant_trees_become_demonstrations_and_rankings(shared_data: Find) -> None:
    source = Source(source=str(shared_data("oasst/en_tree.jsonl")), format="oasst")
    ift, ranked = read_demonstrations((source,), 0), read_ranked((source,))
    assert (ift.funnels[0].given, ift.funnels[0].kept) == (94, 93)
    assert (ranked.funnels[0].given, ranked.funnels[0].kept) == (94, 93)
    first = ift.rows[0]
    assert first.prompt == "How can I find the best 401k plan for my needs?"
    assert first.response.startswith("The first step is to research your options.")
    of = {row.id: row for row in ranked.rows}
    assert of[first.id].responses[0] == first.response
    assert sum(len(row.responses) for row in ranked.rows) == 312
    assert len({row.id for row in ranked.rows}) == 93


@pytest.mark.parametrize(
    ("name", "file", "count", "begins"),
    [
        ("self_instruct", "self_instruct/seed_tasks.jsonl", 175, "Is there anything I can eat"),
        ("alpaca_eval", "alpaca_eval/text_davinci_003_model_outputs.json", 805, "What are the"),
        ("mt_bench", "mt_bench/question.jsonl", 80, "Compose an engaging travel blog post"),
        ("alpaca", "llms_from_scratch/instruction-data.json", 1100, "Evaluate the following"),
        ("oasst", "oasst/en_tree.jsonl", 94, "How can I find the best 401k plan"),
    ],
)
def test_prompt_sets_are_read_whole(
    shared_data: Find, name: str, file: str, count: int, begins: str
) -> None:
    path = str(shared_data(file))
    prompts = read_prompts((Source(source=path, format=name),))
    assert len({p.id for p in prompts}) == len(prompts) == count
    assert prompts[0].text.startswith(begins)
    found = check(path, name)
    assert (found.rows, found.good, found.bad) == (count, count, ())


def test_an_instruction_with_an_input_holds_both(shared_data: Find) -> None:
    path = str(shared_data("llms_from_scratch/instruction-data.json"))
    first = read_prompts((Source(source=path, format="alpaca", limit=1),))[0]
    assert first.text.endswith("\n\nfreind --> friend")
