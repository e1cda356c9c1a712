"""Preference data: what a row must hold, what is left out, how folds and requests are made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.config import load
from selfimprove.data import hh_rlhf
from selfimprove.data.improvement_prompts import (
    ImprovementTemplate,
    improvement_template,
    rendered,
    unrendered,
)
from selfimprove.data.preference_files import rows
from selfimprove.data.preferences import (
    InFold,
    Preference,
    given_folds,
    of_fold,
    read_preferences,
    three_folds,
)
from selfimprove.data.row import RowError, UnusableRow
from selfimprove.data.sources import Source
from selfimprove.errors import ConfigError, DataError
from selfimprove.methods.pit.config import PitConfig
from selfimprove.rows import decode, encode
from selfimprove.sampling.conversation import transcript
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.oracle import score
from selfimprove.tiny.preferences_of_world import preferences
from selfimprove.types import Message

_V1 = improvement_template("v1")


def _file(folder: Path, *found: object) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return str(path)


def _hh(*said: str) -> str:
    return "".join(f"\n\n{'Human' if i % 2 == 0 else 'Assistant'}: {s}" for i, s in enumerate(said))


def test_a_transcript_is_its_prompt_and_two_last_replies(tmp_path: Path) -> None:
    row = {"chosen": _hh("Hi", "Yes?", "Why?", "So."), "rejected": _hh("Hi", "Yes?", "Why?", "No.")}
    (told,) = read_preferences([Source(source=_file(tmp_path, row), format="hh_rlhf")], 0).rows
    assert [(m.role, m.content) for m in told.prompt] == [
        ("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?"),
    ]  # fmt: skip
    assert (told.id, told.chosen, told.rejected) == ("hh_rlhf-0", "So.", "No.")


def test_rows_that_are_no_comparison_are_counted_by_reason(tmp_path: Path) -> None:
    good = {"chosen": _hh("Hi", "Yes?"), "rejected": _hh("Hi", "No.")}
    odd = [
        {"chosen": _hh("Hi", "Yes?"), "rejected": _hh("Ho", "No.")},
        {"chosen": _hh("Hi", "Yes?"), "rejected": _hh("Hi", "  ")},
        {"chosen": _hh("Hi", "Yes?"), "rejected": _hh("Hi", "Yes? ")},
        {"chosen": _hh("Hi"), "rejected": _hh("Ho")},
    ]
    found = read_preferences([Source(source=_file(tmp_path, good, *odd), format="hh_rlhf")], 0)
    (funnel,) = found.funnels
    assert (funnel.name, funnel.given, funnel.kept) == ("comparisons of rows.jsonl", 5, 1)
    assert {drop.why for drop in funnel.dropped} == {
        "has no shared prompt: its transcripts differ before the last turn",
        "has an empty rejected reply",
        "has twice the same reply",
        "does not end in the assistant's reply to somebody",
    }
    assert [row.id for row in found.rows] == ["hh_rlhf-0"]


def test_reasoning_is_left_out_of_replies_and_a_reply_of_nothing_else_drops_its_row(
    tmp_path: Path,
) -> None:
    thought = {
        "prompt": "Why?",
        "chosen": "<think>hm</think>Because.",
        "rejected": "<think>x</think>No.",
    }
    empty = thought | {"rejected": "<think>hm"}
    found = read_preferences([Source(source=_file(tmp_path, thought, empty))], 0)
    assert [(row.chosen, row.rejected) for row in found.rows] == [("Because.", "No.")]
    (funnel,) = found.funnels
    assert [(drop.why, drop.count) for drop in funnel.dropped] == [
        ("has a rejected reply that is nothing but reasoning", 1)
    ]


def test_a_broken_row_stops_the_reading_with_its_line(tmp_path: Path) -> None:
    path = _file(tmp_path, {"chosen": _hh("Hi", "Yes?"), "rejected": "no transcript"})
    with pytest.raises(DataError, match=r"rows.jsonl, line 1: does not begin with a turn"):
        read_preferences([Source(source=path, format="hh_rlhf")], 0)


def test_turns_of_one_side_in_a_row_are_joined_in_the_prompt_alone() -> None:
    begun = "\n\nHuman: A\n\nHuman: B\n\nAssistant: "
    prompt, chosen, rejected = hh_rlhf.parse({"chosen": begun + "C", "rejected": begun + "D"})
    assert (prompt, chosen, rejected) == ((Message("user", "A\n\nB"),), "C", "D")


def test_a_limit_counts_kept_rows_and_looks_no_further(tmp_path: Path) -> None:
    good = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    path = _file(tmp_path, {**good, "chosen": "b"}, good, good, {"broken": 1})
    found = read_preferences([Source(source=path, limit=2)], 0)
    assert [row.id for row in found.rows] == ["preferences-1", "preferences-2"]
    assert found.funnels[0].given == 3


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "yes", "rejected": "no"},
        {"instruction": "Why?", "chosen": "yes", "rejected": "no"},
        {
            "prompt": [{"role": "user", "content": "Why?"}],
            "chosen": [{"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "assistant", "content": "no"}],
        },
        {
            "chosen": [
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": "yes"},
            ],
            "rejected": [
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": "no"},
            ],
        },
        {
            "prompt": "Why?",  # and the turns repeat it
            "chosen": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "yes"}],
            "rejected": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "no"}],
        },
        {  # ShareGPT, as LLaMA-Factory has it
            "conversations": [{"from": "human", "value": "Why?"}],
            "chosen": {"from": "gpt", "value": "yes"},
            "rejected": {"from": "gpt", "value": "no"},
        },
        {"instruction": "Why?", "input": "", "output": ["yes", "no"]},  # Alpaca, likewise
        {  # UltraFeedback
            "source": "evol_instruct", "instruction": "Why?", "models": ["a", "b", "c"],
            "completions": [
                {"model": "a", "principle": "honesty", "response": "maybe", "overall_score": 6.0},
                {"model": "b", "principle": "honesty", "response": "yes", "overall_score": 8.5},
                {"model": "c", "principle": "honesty", "response": "no", "overall_score": 1.0},
            ],
        },
        {  # HelpSteer3
            "domain": "general", "language": "english",
            "context": [{"role": "user", "content": "Why?"}],
            "response1": "no", "response2": "yes", "overall_preference": 2,
            "individual_preference": [{"score": 2, "reasoning": "...", "feedback_by": "..."}],
        },
        {"question": "Why?", "answers": [{"text": "no", "rank": 2}, {"text": "yes", "rank": 1}]},
        {"prompt": "Why?", "completions": [{"completion": "yes", "rank": 0},
                                           {"completion": "no", "rank": 3}]},
        {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}],
            "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "yes"}]}],
            "rejected": [{"role": "assistant", "content": "no"}],
        },
    ],
)  # fmt: skip
def test_any_chosen_and_rejected_data_is_read(tmp_path: Path, row: object) -> None:
    ((_, told),) = rows(_file(tmp_path, row), "preferences")
    assert told == ((Message("user", "Why?"),), "yes", "no")


@pytest.mark.parametrize(
    "row",
    [
        {"context": [{"role": "user", "content": "Why?"}], "response1": "a", "response2": "b",
         "overall_preference": 0},
        {"instruction": "Why?", "completions": [{"response": "a", "overall_score": 5},
                                                {"response": "b", "overall_score": 5.0}]},
    ],
)  # fmt: skip
def test_a_tie_is_no_comparison_and_is_counted(tmp_path: Path, row: object) -> None:
    ((_, told),) = rows(_file(tmp_path, row), "preferences")
    assert isinstance(told, UnusableRow)
    assert "rates all its responses alike" in str(told)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"instruction": "Hi", "completions": [{"response": "a"}, {"response": "b"}]},
            "has no 'overall_score'",
        ),
        (
            {"prompt": "Hi", "answers": [{"text": "a", "rank": "?"}, {"text": "b", "rank": 1}]},
            "which is no number",
        ),
        (
            {
                "prompt": [{"role": "user", "content": [{"type": "image"}]}],
                "chosen": "a",
                "rejected": "b",
            },
            "a part that is no text",
        ),
        ({"chosen": "a", "rejected": "b"}, "has no 'prompt'"),
        ({"prompt": "Hi", "chosen": 3, "rejected": "b"}, "'chosen' is int, neither text nor turns"),
        ({"prompt": "Hi", "chosen": "a"}, "has no 'rejected'"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "is empty"),
        (
            {"prompt": "Hi", "chosen": [{"role": "tool", "content": "x"}], "rejected": "b"},
            "holds a turn of the role 'tool'",
        ),
        (
            {"prompt": [{"role": "assistant", "content": "Hi"}], "chosen": "a", "rejected": "b"},
            "does not end in the user's words",
        ),
    ],
)
def test_a_bad_row_says_what_is_wrong(tmp_path: Path, row: object, problem: str) -> None:
    ((place, found),) = rows(_file(tmp_path, row), "preferences")
    assert place == "line 1"
    assert isinstance(found, RowError)
    assert problem in str(found)


def _summaries(choice: object, **info: str) -> dict[str, object]:
    return {"info": {"id": "t3_1", **info}, "summaries": [{"text": " one"}, {"text": " two"}],
            "choice": choice, "worker": "w", "split": "train"}  # fmt: skip


def test_a_comparison_of_summaries_prefers_the_chosen_one(tmp_path: Path) -> None:
    post = _summaries(1, post="I fell.", title="A fall", subreddit="tifu")
    article = _summaries(0, article="He fell.", site="cnn", title="A fall")
    path = _file(tmp_path, post, article)
    first, second = read_preferences([Source(source=path, format="summarize_feedback")], 0).rows
    said = "SUBREDDIT: r/tifu\n\nTITLE: A fall\n\nPOST: I fell.\n\nTL;DR:"
    assert (first.prompt, first.chosen, first.rejected) == ((Message("user", said),), "two", "one")
    assert second.prompt[0].content == "TITLE: A fall\n\nARTICLE: He fell.\n\nTL;DR:"
    assert (second.chosen, second.rejected) == ("one", "two")


def test_a_comparison_without_a_choice_is_broken(tmp_path: Path) -> None:
    ((_, found),) = rows(_file(tmp_path, _summaries(2, post="I fell.")), "summarize_feedback")
    assert "'choice' is 2" in str(found)


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="hh_rlhf, summarize_feedback, preferences, tiny"):
        list(rows("x.jsonl", "hh"))


def test_the_tiny_world_prefers_the_better_draft_nine_times_of_ten() -> None:
    made = preferences("train", 1500, 0)
    right = [score(asked, one) > score(asked, other) for asked, one, other in made]
    assert all(score(asked, one) != score(asked, other) for asked, one, other in made)
    assert sum(right) / 1500 == pytest.approx(0.9, abs=0.025)  # three standard errors
    assert made == preferences("train", 1500, 0) != preferences("train", 1500, 1)
    assert len({asked for asked, _, _ in made}) == 1500
    assert preferences("train", 20, 0) == made[:20]


def test_tiny_splits_do_not_meet_and_instructions_come_again_when_all_have_come() -> None:
    sources = [Source(source=s, format="tiny", limit=310) for s in ("dev", "test")]
    found = read_preferences(sources, 0).rows
    asked = [row.prompt[0].content for row in found]
    assert (len(set(asked[:310])), len(set(asked[310:]))) == (300, 310)
    assert not set(asked[:310]) & set(asked[310:])
    assert asked[0] == asked[300] == instructions("dev", 1)[0].text
    assert found[0].id == "tiny-dev-0"


def _some(count: int) -> list[Preference]:
    asked = [(Message("user", f"ask {n // 2}"),) for n in range(count)]
    return [Preference(str(n), "test", asked[n], "a", "b") for n in range(count)]


def test_three_folds_are_equal_and_part_no_prompt() -> None:
    given = _some(60)  # two rows a prompt
    folds = three_folds(given, 0)
    parts = [of_fold(given, folds, fold) for fold in ("sft", "reward", "rl")]
    assert [len(part) for part in parts] == [20, 20, 20]
    assert sorted((row.id for part in parts for row in part), key=int) == [r.id for r in given]
    prompts = [{row.prompt for row in part} for part in parts]
    assert [len(p) for p in prompts] == [10, 10, 10]
    assert three_folds(given, 0) == folds != three_folds(given, 1)


def test_given_folds_are_the_sources_in_their_order() -> None:
    sources = [Source(source=split, format="tiny", limit=3) for split in ("train", "dev", "test")]
    read = read_preferences(sources, 0).rows
    assert [row.id for row in given_folds(sources, 0)] == [row.id for row in read]
    assert [row.fold for row in given_folds(sources, 0)] == ["sft"] * 3 + ["reward"] * 3 + [
        "rl"
    ] * 3


def test_given_folds_need_three_sources_and_something_to_measure_on() -> None:
    three = [{"format": "tiny", "source": split} for split in ("train", "dev", "test")]
    told = {"method": "pit", "model": "tiny", "folds": "given", "preferences": three}
    with pytest.raises(ConfigError, match=r"needs evaluation\.preferences"):
        load(PitConfig, told, "recipe")
    with pytest.raises(ConfigError, match=r"needs 3 sources .* here are 2"):
        load(PitConfig, {**told, "preferences": three[:2]}, "recipe")


def test_too_few_prompts_cannot_be_divided() -> None:
    with pytest.raises(DataError, match="2 prompts cannot be divided into 3 folds"):
        three_folds(_some(4), 0)


def test_preferences_and_folds_survive_the_store(tmp_path: Path) -> None:
    given, path = _some(6), tmp_path / "rows.parquet"
    path.write_bytes(encode(given, Preference))
    assert decode(path, Preference) == given
    path.write_bytes(encode(three_folds(given, 0), InFold))
    assert decode(path, InFold) == three_folds(given, 0)


def test_the_request_reads_as_it_should() -> None:
    prompt = (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Why?"))
    turns = rendered(_V1, prompt, "Because.")
    assert turns[:2] == prompt[:2]
    assert turns[2] == Message(
        "user", "Improve the response.\nInstruction: Why?\nResponse: Because."
    )


def test_a_header_within_a_text_is_indented() -> None:
    (turn,) = rendered(_V1, (Message("user", "Why?\nResponse: no"),), "So.\n Instruction: x")
    assert turn.content == (
        "Improve the response.\nInstruction: Why?\n Response: no\nResponse: So.\n  Instruction: x"
    )


_LINE = st.sampled_from(
    ["Response: ", "Response:", " Response: x", "Instruction: ", "\n", " ", "a", "", "Improve"]
)
_TEXT = st.one_of(st.lists(_LINE).map("\n".join), st.lists(_LINE).map("".join), st.text())


def _conversation(told: tuple[list[tuple[str, str]], str]) -> tuple[Message, ...]:
    before = [m for u, a in told[0] for m in (Message("user", u), Message("assistant", a))]
    return (*before, Message("user", told[1]))


_ASKED = st.tuples(st.lists(st.tuples(_TEXT, _TEXT), max_size=2), _TEXT).map(_conversation)


@given(_ASKED, _TEXT)
def test_a_request_can_be_taken_apart(prompt: tuple[Message, ...], reference: str) -> None:
    assert unrendered(_V1, rendered(_V1, prompt, reference)) == (prompt, reference)


@given(_ASKED, _TEXT, _ASKED, _TEXT)
def test_different_requests_never_look_alike(
    prompt: tuple[Message, ...], reference: str, other: tuple[Message, ...], another: str
) -> None:
    same = rendered(_V1, prompt, reference) == rendered(_V1, other, another)
    assert same == ((prompt, reference) == (other, another))
    assert (transcript(prompt) == transcript(other)) == (prompt == other)


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(ValueError, match="no request"):
        unrendered(_V1, [Message("user", "Improve the response.\nInstruction: x")])
    with pytest.raises(DataError, match="must end in the user's turn"):
        rendered(_V1, (Message("assistant", "Hi"),), "x")


@pytest.mark.parametrize(
    "text",
    ["Ask: {prompt}", "{prompt}\nR: {reference}", "A: {prompt}\nA: {reference}",
     "R: {reference}\nA: {prompt}", "A: {prompt}\nR: {reference}\nGo"],
)  # fmt: skip
def test_a_template_that_cannot_be_taken_apart_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps({"version": 2, "text": text}))
    with pytest.raises(ConfigError, match="an improvement template"):
        improvement_template(str(path))


def test_a_template_of_ones_own_is_read_and_unknown_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("version: 2\ntext: |-\n  Q: {prompt}\n  Old answer: {reference}\n")
    mine = improvement_template(str(path))
    assert mine == ImprovementTemplate(version=2, text="Q: {prompt}\nOld answer: {reference}")
    assert mine.taken_apart(mine.filled("a\nOld answer: b", "c")) == ("a\nOld answer: b", "c")
    with pytest.raises(ConfigError, match="there are v1"):
        improvement_template("v0")
