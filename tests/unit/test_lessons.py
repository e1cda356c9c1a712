"""Rows that a model is fine-tuned on: TRL's formats, and question sets with worked answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfimprove.data.examples import Lesson, read_lessons
from selfimprove.data.sources import Source
from selfimprove.errors import ConfigError, DataError
from selfimprove.methods.one_model import config_of_words
from selfimprove.methods.warm_start import WarmStartConfig, held_out_part, training_part
from selfimprove.rows import Rows
from selfimprove.types import Message

_TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two plus two?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]


def lessons(folder: Path, *rows: Any, kind: str = "", layout: Any = "step_by_step") -> list[Lesson]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_lessons((Source(source=str(path), format=kind),), layout)


def test_text_pairs_stay_as_they_stand(tmp_path: Path) -> None:
    (found,) = lessons(tmp_path, {"prompt": "Q: 1+1\nA:", "completion": " 2\n"})
    assert (found.text, found.completion, found.is_words) == ("Q: 1+1\nA:", " 2\n", False)


def test_each_reply_of_a_conversation_is_learned_behind_what_came_before_it(tmp_path: Path) -> None:
    first, second = lessons(tmp_path, {"messages": _TALK})
    assert [m.content for m in first.turns] == ["Be brief.", "Two plus two?"]
    assert [m.content for m in second.turns] == ["Be brief.", "Two plus two?", "4", "Sure?"]
    assert (first.completion, second.completion) == ("4", "Yes.")
    assert first.id != second.id


def test_a_pair_of_turns_is_one_lesson(tmp_path: Path) -> None:
    (found,) = lessons(tmp_path, {"prompt": _TALK[:4], "completion": _TALK[4:]})
    assert (len(found.turns), found.completion) == (4, "Yes.")


def test_names_of_other_tools_are_roles_too(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    (found,) = lessons(tmp_path, {"conversations": talk})
    assert found.turns == (Message("user", "Hi"),)
    assert found.completion == "Hello"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Ask.", "response": "Say."},
        {"instruction": "Ask.", "output": "Say."},
        {"question": "Ask.", "answer": "Say."},
    ],
)
def test_a_users_words_and_a_reply(tmp_path: Path, row: dict[str, str]) -> None:
    (found,) = lessons(tmp_path, row)
    assert (found.text, found.completion, found.is_words) == ("Ask.", "Say.", True)


def test_worked_questions_are_laid_out_as_lmsi_asks_them(tmp_path: Path) -> None:
    row = {"question": "What is 2 + 3?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"}
    (steps,) = lessons(tmp_path, row, kind="gsm8k")
    assert steps.text == "Q: What is 2 + 3?\nA: Let's think step by step."
    assert steps.completion == " 2 + 3 = 5 The answer is 5."
    (direct,) = lessons(tmp_path, row, kind="gsm8k", layout="direct")
    assert (direct.text, direct.completion) == ("Q: What is 2 + 3?\nA:", " The answer is 5.")
    (shown,) = lessons(tmp_path, row, kind="gsm8k", layout="cot")
    assert shown.text.endswith("\n\nQ: What is 2 + 3?\nA:")
    assert shown.completion == steps.completion


def test_a_chain_that_states_its_answer_is_not_made_to_state_it_twice(tmp_path: Path) -> None:
    row = {"question": "Not True?", "rationale": "Not True is False. So the answer is False.",
           "answer": "False"}  # fmt: skip
    (found,) = lessons(tmp_path, row, kind="questions")
    assert found.completion == " Not True is False. So the answer is False."


def test_an_option_is_stated_by_its_letter(tmp_path: Path) -> None:
    row = {"question": "Hot?", "choices": ["ice", "fire"], "answer": "fire"}
    (found,) = lessons(tmp_path, row, kind="questions", layout="direct")
    assert found.completion == " The answer is (B)."


@pytest.mark.parametrize(
    ("row", "kind", "said"),
    [
        ({"question": "Why?", "answer": "So."}, "questions", "has no worked answer: layout=direct"),
        ({"text": "No prompt."}, "", "line 1: has no 'prompt'"),
        ({"prompt": "Ask."}, "", "line 1: has no 'response'"),
        ({"prompt": "Ask.", "completion": " "}, "", "line 1: 'completion' is empty"),
        ({"messages": _TALK[:2]}, "", "no turn of the assistant"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "", "a turn of the role 'tool'"),
        ({"messages": [{"role": "user", "content": ""}]}, "", "is empty"),
    ],
)
def test_a_row_that_teaches_nothing_is_named(
    tmp_path: Path, row: dict[str, Any], kind: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        lessons(tmp_path, row, kind=kind)


def test_words_of_the_command_line_are_fields_of_sft_unless_they_are_its_own() -> None:
    words = ["learning_rate=2e-4", "lora.r=4", "sft.epochs=5", "held_out=0.1", "chat=true"]
    config = config_of_words(WarmStartConfig, "tiny", ["gsm8k:a.jsonl", "b.jsonl"], words, 7)
    assert (config.sft.learning_rate, config.sft.epochs) == (2e-4, 5)
    assert config.sft.lora is not None
    assert config.sft.lora.r == 4
    assert (config.held_out, config.chat) == (0.1, True)
    assert [(s.format, s.source, s.limit) for s in config.data] == [
        ("gsm8k", "a.jsonl", 7), ("", "b.jsonl", 7),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        config_of_words(WarmStartConfig, "tiny", ["a.jsonl"], ["learnin_rate=1"], None)


def test_rows_of_one_prompt_are_held_out_together(tmp_path: Path) -> None:
    asked = [
        ("Why?", "a"),
        ("why ?", "b"),
        ("How?", "c"),
        ("WHY", "d"),
        ("Who?", "e"),
        ("How?", "f"),
    ]
    rows = Rows(
        tuple(lessons(tmp_path, *({"prompt": p, "response": r} for p, r in asked))), "", tmp_path
    )
    sides = set()
    for seed in range(20):
        learned, held = _parted(rows, 0.5, seed)
        assert held in ("abd", "cef")
        assert sorted(held + learned) == [*"abcdef"]
        sides.add(held)
    assert len(sides) > 1


def test_a_prompt_with_most_of_the_rows_is_learned_from(tmp_path: Path) -> None:
    asked = [{"prompt": "Why?", "response": r} for r in "abcdefgh"]
    rows = lessons(
        tmp_path, *asked, {"prompt": "How?", "response": "x"}, {"prompt": "How?", "response": "y"}
    )
    for seed in range(5):
        assert _parted(Rows(tuple(rows), "", tmp_path), 0.1, seed) == ("abcdefgh", "xy")


def _parted(rows: Rows[Lesson], share: float, seed: int) -> tuple[str, str]:
    """Return the completions of what is learned, and of what is held out."""
    learned = Rows(tuple(training_part(rows, share, seed)), "", rows.folder)
    held = held_out_part(rows, learned)
    return "".join(r.completion for r in learned), "".join(r.completion for r in held)


def test_one_prompt_alone_cannot_be_parted(tmp_path: Path) -> None:
    rows = lessons(tmp_path, *({"prompt": "Why?", "response": r} for r in "abc"))
    with pytest.raises(DataError, match="3 rows of one prompt are too few to hold out 10%"):
        list(training_part(Rows(tuple(rows), "", tmp_path), 0.1, 0))
