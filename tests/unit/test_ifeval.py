"""IFEval's checks: a response that keeps and one that breaks every kind, and the eight readings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from selfimprove.cli import app
from selfimprove.errors import ConfigError, DataError
from selfimprove.evaluation.ifeval.checks import KINDS
from selfimprove.evaluation.ifeval.rows import (
    InstructedPrompt,
    Instruction,
    read_prompts,
    read_responses,
)
from selfimprove.evaluation.ifeval.scores import check, difference, figures
from selfimprove.evaluation.ifeval.sentences import count_sentences, tokens

ENGLISH = "the children were playing in the garden because the weather was fine that day"
# Kind, its arguments, responses that keep it, responses that break it.
CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("keywords:existence", {"keywords": ["cat", "Dog"]}, ["A CAT and a dog."], ["A cat."]),
    ("keywords:frequency", {"keyword": "ha", "relation": "at least", "frequency": 2},
     ["Ha, aha!"], ["Ha."]),
    ("keywords:frequency", {"keyword": "ha", "relation": "less than", "frequency": 2},
     ["Ha."], ["ha ha"]),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, ["Concatenate."], ["A Cat!"]),
    ("keywords:letter_frequency", {"letter": "L", "let_relation": "less than", "let_frequency": 3},
     ["Hello"], ["Hello, LL"]),
    ("keywords:letter_frequency", {"letter": "!", "let_relation": "at least", "let_frequency": 2},
     ["a! b!"], ["a!"]),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2},
     ["One. Two"], ["Mr. One"]),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 2},
     ["Only one."], ["One. Two."]),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 3},
     ["a b-c"], ["a b"]),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 3},
     ["a b"], ["it's so"]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2},
     ["a\n***\nb", "***\na *** b\n***"], ["a\n\nb", "a *** b *** c", "a\n***\n***\nb"]),
    ("length_constraints:nth_paragraph_first_word",
     {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "however"},
     ["One.\n\n'However, two."], ["One.\n\nTwo.", "However.\n\nOne.", "However",
                                 "One.\n\nHowever.\n\nThree."]),
    ("detectable_content:number_placeholders", {"num_placeholders": 2},
     ["[name], [address]"], ["[name]"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."},
     ["Bye.\nP.S. More", "p. s. more"], ["Bye. PS more"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"},
     ["Bye.\nP.P.S more"], ["Bye.\nP.S. more"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2},
     ["* a\n  - b\n**c**"], ["* a", "* a\n* b\n- c"]),
    ("detectable_format:constrained_response", {}, ["Well. My answer is maybe."], ["Maybe."]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2},
     ["*a* and **b**"], ["*a* and ** **"]),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2},
     ["SECTION 1 a SECTION2 b"], ["SECTION 1 a", "Section 1 Section 2"]),
    ("detectable_format:json_format", {}, ['```json\n{"a": [1]}\n```', "3"], ["{a: 1}"]),
    ("detectable_format:title", {}, ["<<Poem>>\nText"], ["<< >>", "<Poem>"]),
    ("combination:two_responses", {}, ["a ****** b"], ["a ****** a", "a", "a ****** b ****** c",
                                                       "a ****** ****** b"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, ["say hi. Hi!"], ["Hi!"]),
    ("startend:end_checker", {"end_phrase": "Bye."}, ['He said "bye."\n'], ["Bye. No."]),
    ("startend:quotation", {}, [' "all of it" '], ['"', '"a" b']),
    ("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 2},
     ["DO it NOW"], ["DO it Now"]),
    ("change_case:capital_word_frequency",
     {"capital_relation": "less than", "capital_frequency": 2}, ["DO it"], ["DO it NOW"]),
    ("change_case:english_capital", {}, [ENGLISH.upper()], [ENGLISH, "DAS WETTER WAR HEUTE SEHR SCHÖN"]),
    ("change_case:english_lowercase", {}, [ENGLISH], [ENGLISH.title(), "das wetter war heute sehr schön"]),
    ("language:response_language", {"language": "de"},
     ["Das Wetter war an diesem Tag sehr schön, und alle waren draußen."], [ENGLISH]),
    ("punctuation:no_comma", {}, ["None here."], ["One, here."]),
]  # fmt: skip
_DETECTED = ("change_case:english", "language:")


def prompt(*instructions: Instruction, key: str = "1") -> InstructedPrompt:
    return InstructedPrompt(key, f"prompt {key}", instructions)


def test_every_kind_has_a_case() -> None:
    assert {kind for kind, *_ in CASES} == KINDS.keys()
    assert len(KINDS) == 25


@pytest.mark.parametrize(("kind", "arguments", "keep", "break_"), CASES, ids=lambda c: str(c)[:40])
def test_a_kind_is_kept_and_broken(
    kind: str, arguments: dict[str, Any], keep: list[str], break_: list[str]
) -> None:
    if kind.startswith(_DETECTED):
        pytest.importorskip("langdetect", reason="pip install 'selfimprove[ifeval]'")
    one = prompt(Instruction(kind, arguments))
    assert [check(one, text).strict for text in keep] == [(True,)] * len(keep)
    assert [check(one, text).strict for text in break_] == [(False,)] * len(break_)


def test_loosely_first_and_last_lines_and_asterisks_may_be_too_much() -> None:
    ends = prompt(Instruction("startend:end_checker", {"end_phrase": "Bye."}))
    quoted = prompt(Instruction("startend:quotation", {}))
    json_ = prompt(Instruction("detectable_format:json_format", {}))
    for one, text in (
        (ends, "So long. Bye.\nAnything else?"),
        (ends, "**Bye.**"),
        (quoted, 'Here it is:\n"all of it"'),
        (json_, 'Here it is:\n*{"a": 1}*\nAnything else?'),
    ):
        told = check(one, text)
        assert (told.strict, told.loose) == ((False,), (True,)), text
    assert check(quoted, 'a\nb\n"c"\nd\ne').loose == (False,)


def test_an_empty_response_keeps_nothing() -> None:
    one = prompt(Instruction("punctuation:no_comma", {}))
    assert (check(one, " \n").strict, check(one, " \n").loose) == ((False,), (False,))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One", 1),
        ("One. Two! Three? Four", 4),
        ("Dr. A. Smith of the U.S. paid 3.50, i.e. too much. Yes.", 2),
        ("1. Eggs\n2. Milk. Bread.", 2),
        ('He said "No." She left.', 2),
        ("Wait... what? Oh!!!", 2),
    ],
)
def test_sentences_are_counted_as_a_person_would(text: str, count: int) -> None:
    assert count_sentences(text) == count


def test_tokens_are_cut_as_in_the_treebank() -> None:
    assert tokens("IT'S A-OK, he said") == ["IT", "'S", "A-OK", ",", "he", "said"]


def test_accuracies_are_counted_by_prompt_and_by_instruction() -> None:
    comma, quoted = Instruction("punctuation:no_comma", {}), Instruction("startend:quotation", {})
    said = ['"yes"', "yes", "a, b", '"a", b\n"c"']
    checked = [check(prompt(comma, quoted, key=str(n)), text) for n, text in enumerate(said)]
    told = figures(checked, unscored=1)
    # Kept strictly: both, one, none, one (its quotes); loosely its last line keeps both.
    assert told["prompt"]["strict"]["value"] == 1 / 4
    assert told["prompt"]["loose"]["value"] == 2 / 4
    assert told["instruction"]["strict"]["value"] == 4 / 8
    assert told["instruction"]["loose"]["value"] == 5 / 8
    assert told["instruction"]["strict"]["n"] == 8
    assert told["unscored"] == 1
    assert told["kinds"] == [
        {"kind": "punctuation:no_comma", "n": 4, "strict": 0.5, "loose": 0.75},
        {"kind": "startend:quotation", "n": 4, "strict": 0.5, "loose": 0.5},
    ]


def test_two_systems_are_paired_by_prompt() -> None:
    comma = Instruction("punctuation:no_comma", {})
    before = [check(prompt(comma, key=k), "a, b") for k in "abc"]
    after = [check(prompt(comma, key=k), "a b") for k in "bcd"]
    told = difference(before, after)
    assert (told["strict"]["difference"], told["strict"]["n"]) == (1, 2)


# ---- files


def test_every_row_of_the_real_file_is_understood(shared_data: Callable[[str], Path]) -> None:
    found = read_prompts(shared_data("ifeval/input_data_even.jsonl"))
    assert len(found) == 271
    assert {i.kind for p in found for i in p.instructions} == KINDS.keys()
    plain = [i for p in found for i in p.instructions if not i.kind.startswith(_DETECTED)]
    assert len(plain) == 380
    for i in plain:
        assert KINDS[i.kind].follows("Some text.", i.arguments) in (True, False)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"instruction_id_list": ["x:y"], "kwargs": [{}]}, "'x:y' is none of the 25 kinds"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": None}]},
         "keywords:existence needs keywords"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": []}, "two lists of one length"),
        ({"instruction_id_list": [], "kwargs": []}, "gives no instruction"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["("]}]},
         "is no regular expression"),
        ({"instruction_id_list": ["length_constraints:number_words"],
          "kwargs": [{"num_words": 3, "relation": "about"}]}, "relation is 'about'"),
    ],
)  # fmt: skip
def test_a_row_that_is_not_understood_is_named(
    tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"key": 1, "prompt": "p", **row}))
    with pytest.raises(DataError, match=f"line 1: .*{says}"):
        read_prompts(path)


def test_responses_are_measured_from_files_and_paired(tmp_path: Path) -> None:
    pytest.importorskip("langdetect", reason="pip install 'selfimprove[ifeval]'")
    data, before, after = (tmp_path / name for name in ("d.jsonl", "b.jsonl", "a.jsonl"))
    rows = [{"key": n, "prompt": f"p{n}", "instruction_id_list": ["punctuation:no_comma"],
             "kwargs": [{}]} for n in range(4)]  # fmt: skip
    data.write_text("\n".join(map(json.dumps, rows)))
    before.write_text(
        "\n".join(json.dumps({"prompt": f"p{n}", "response": "a, b"}) for n in range(4))
    )
    after.write_text("\n".join(json.dumps({"prompt": f"p{n}", "response": "ab"}) for n in range(3)))
    words = ["eval", "ifeval", str(before), str(after), "--data", str(data)]
    done = CliRunner().invoke(app, [*words, "--json"])
    first, second = json.loads(done.stdout)
    assert first["prompt"]["strict"]["value"] == 0
    assert (second["prompt"]["strict"]["value"], second["unscored"]) == (1, 1)
    assert second["versus_first"]["strict"]["n"] == 3
    assert "not answered" in CliRunner().invoke(app, words).stdout
    assert read_responses(after)["p0"] == "ab"


def test_without_the_detector_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "langdetect", None)
    one = prompt(Instruction("language:response_language", {"language": "de"}))
    with pytest.raises(ConfigError, match=r"selfimprove\[ifeval\]"):
        check(one, "Guten Tag")
