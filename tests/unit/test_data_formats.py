"""Each dataset in each layout it is published in: one row, read to the same question."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfimprove.answers.answers import extract
from selfimprove.data.exemplars import exemplars_for, shipped_sets
from selfimprove.data.formats import FORMATS
from selfimprove.data.read import check, read_labelled
from selfimprove.data.row import choice_text, options
from selfimprove.errors import DataError
from selfimprove.types import Labelled

Find = Callable[[str], Path]


def _read(tmp_path: Path, kind: str, row: object) -> Labelled:
    path = tmp_path / "row.json"
    by_passage = isinstance(row, dict) and "p1" in row
    path.write_text(json.dumps(row if by_passage else [row]), encoding="utf-8")
    return read_labelled(path, kind)[0]


LABELS = {"text": ["ice", "fire"], "label": ["A", "B"]}
OBJECTS = [{"text": "ice", "label": "A"}, {"text": "fire", "label": "B"}]
CHOICE_ROWS: list[tuple[str, dict[str, Any]]] = [
    ("arc", {"id": "x", "question": {"stem": "Hot?", "choices": OBJECTS}, "answerKey": "B"}),
    ("arc", {"id": "x", "question": "Hot?", "choices": LABELS, "answerKey": "B"}),
    ("arc", {"id": "x", "question": "Hot?", "answerKey": "2",
             "choices": {"text": ["ice", "fire"], "label": ["1", "2"]}}),
    ("arc", {"instruction": "Please choose the correct answer to the question: Hot?\n\nAnswer1: ice "
                            "Answer2: fire\n\nAnswer format: answer1/answer2", "answer": "answer2"}),
    ("mmlu", {"question": "Hot?", "subject": "physics", "choices": ["ice", "fire"], "answer": 1}),
    ("mmlu", {"question_id": 7, "question": "Hot?", "options": ["ice", "fire"], "answer": "B",
              "answer_index": 1, "category": "physics"}),
    ("openbookqa", {"id": "x", "question_stem": "Hot?", "choices": LABELS, "answerKey": "B"}),
    ("openbookqa", {"id": "x", "question": {"stem": "Hot?", "choices": OBJECTS}, "answerKey": "B"}),
    ("openbookqa", {"ID": "x", "Question Stem": "Hot?", "Choices": "(A) ice (B) fire",
                    "Answer Key": "B"}),
    ("commonsense_qa", {"id": "x", "question": "Hot?", "question_concept": "c", "choices": LABELS,
                        "answerKey": "B"}),
    ("aqua", {"question": "Hot?", "options": ["A)ice", "B)fire"], "rationale": "It is.",
              "correct": "B"}),
    ("questions", {"question": "Hot?", "choices": ["ice", "fire"], "answer": "fire"}),
    ("bbh", {"input": "Hot?\nOptions:\n(A) ice\n(B) fire", "target": "(B)"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "row"), CHOICE_ROWS)
def test_choices_look_the_same_from_every_layout(tmp_path: Path, kind: str, row) -> None:
    read = _read(tmp_path, kind, row)
    assert read.question.text == "Hot?\nAnswer choices:\n(A) ice\n(B) fire"
    assert read.question.choices == ("A", "B")
    assert read.gold == ("B",)
    assert options(read.question.text) == {"A": "ice", "B": "fire"}


NUMBER_ROWS: list[tuple[str, dict[str, Any], str, str]] = [
    ("gsm8k", {"question": "How many?", "answer": "a\n#### 1,080"}, "How many?", "1080"),
    ("svamp", {"ID": "c", "Body": "It has 2", "Question": "How many?", "Answer": 51.0},
     "It has 2. How many?", "51"),
    ("svamp", {"ID": "c", "Body": "", "Question": "", "question_concat": "How many?",
               "Answer": "51.0"}, "How many?", "51"),
    ("multiarith", {"iIndex": 0, "sQuestion": " How many? ", "lSolutions": [39.0]}, "How many?",
     "39"),
    ("addsub", {"iIndex": 0, "sQuestion": "How many?", "lSolutions": [0.5]}, "How many?", "0.5"),
    ("multiarith", {"question": "How many?", "final_ans": "39"}, "How many?", "39"),
    ("bbh", {"input": "((1 + 2)) =", "target": "-3"}, "((1 + 2)) =", "-3"),
    ("questions", {"question": "How many?", "answer": 5}, "How many?", "5"),
    ("math", {"problem": "How many?", "level": "Level 3", "type": "Algebra",
              "solution": r"Then $\boxed{1}$ or rather $\boxed{\frac{1}{2}}$."}, "How many?", r"\frac{1}{2}"),
    ("math", {"problem": "How many?", "solution": r"So $\boxed{12}$.", "answer": "12",
              "subject": "Algebra", "level": 3, "unique_id": "test/1.json"}, "How many?", "12"),
    ("aime", {"ID": "2024-I-1", "Problem": "How many?", "Answer": 204}, "How many?", "204"),
    ("aime", {"id": 60, "problem": "How many?", "solution": "...", "answer": "204", "year": "2024"},
     "How many?", "204"),
    ("mgsm", {"question": "How many?", "answer": None, "answer_number": 18,
              "equation_solution": None}, "How many?", "18"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "row", "text", "gold"), NUMBER_ROWS)
def test_numbers_from_every_layout(tmp_path: Path, kind, row, text, gold) -> None:
    read = _read(tmp_path, kind, row)
    assert (read.question.text, read.gold) == (text, (gold,))
    assert read.question.answer_type == "number"


NONE: dict[str, Any] = {"number": "", "spans": [], "date": {"day": "", "month": "", "year": ""}}
PAIR: dict[str, Any] = {
    "query_id": "q",
    "question": "Who?",
    "answer": {**NONE, "spans": ["Weir", "Orton"]},
}
DROP_ROWS: list[tuple[object, tuple[str, ...]]] = [
    ({"p1": {"passage": "They ran.", "qa_pairs": [PAIR]}}, ("Weir and Orton",)),
    ({"p1": {"passage": "They ran.", "qa_pairs": [
        {**PAIR, "answer": {**NONE, "number": "5"},
         "validated_answers": [{**NONE, "number": "5"}, {**NONE, "spans": ["five"]}]}]}},
     ("5", "five")),
    ({"p1": {"passage": "They ran.", "qa_pairs": [
        {**PAIR, "answer": {**NONE, "date": {"day": "3", "month": "May", "year": "1904"}}}]}},
     ("3 May 1904",)),
    ({"passage": "They ran.", "question": "Who?", "query_id": "q",
      "answers_spans": {"spans": ["Weir", "Orton"], "types": ["span", "span"]}},
     ("Weir and Orton",)),
    ({"passage": "They ran.", "question": "Who?", "query_id": "q",
      "answers_spans": {"spans": ["Weir", "Weir", "Mr Weir"], "types": ["span"] * 3}}, ("Weir",)),
    ({"passage": "They ran.", "question": "Who?", "query_id": "q",
      "answers_spans": {"spans": ["5", "6"], "types": ["number"] * 2}}, ("5", "6")),
    ({"context": "Passage: They ran.\nQuestion: Who?\nAnswer:", "ref_text": "Weir|  Orton|Weir"},
     ("Weir", "Orton")),
]  # fmt: skip


@pytest.mark.parametrize(("row", "gold"), DROP_ROWS)
def test_drop_from_every_layout(tmp_path: Path, row: object, gold: tuple[str, ...]) -> None:
    read = _read(tmp_path, "drop", row)
    assert read.question.text == "Passage: They ran.\nQuestion: Who?"
    assert (read.question.answer_type, read.gold) == ("span", gold)


@pytest.mark.parametrize(
    "row",
    [
        {"uid": "u", "context": "It rains.", "statement": "It is wet.", "gold_label": "n"},
        {"uid": "u", "premise": "It rains.", "hypothesis": "It is wet.", "label": 1},
        {"uid": "u", "premise": "It rains.", "hypothesis": "It is wet.", "label": "neutral"},
    ],
)
def test_anli_from_every_layout(tmp_path: Path, row) -> None:
    read = _read(tmp_path, "anli", row)
    assert read.question.text.startswith("Premise: It rains.\nHypothesis: It is wet.\n")
    assert (read.question.id, read.gold) == ("anli-u", ("it is not possible to tell",))


@pytest.mark.parametrize(
    ("kind", "row", "gold"),
    [
        (
            "strategyqa",
            {"qid": "q", "question": "Is it?", "answer": True, "facts": ["a", "b"]},
            "yes",
        ),
        ("strategyqa", {"question": "Is it?", "answer": "no", "facts": "a b"}, "no"),
        ("coin_flip", {"question": "Is it?", "answer": "yes"}, "yes"),
        ("bbh", {"input": "not True is", "target": "False"}, "False"),
        ("questions", {"question": "Is it?", "answer": "no", "answer_type": "yes_no"}, "no"),
    ],
)
def test_yes_or_no_from_every_layout(tmp_path: Path, kind: str, row, gold: str) -> None:
    read = _read(tmp_path, kind, row)
    assert (read.question.answer_type, read.gold) == ("yes_no", (gold,))


@pytest.mark.parametrize(
    ("kind", "row", "problem"),
    [
        ("arc", {"question": "Hot?", "choices": LABELS, "answerKey": "C"}, "none of its options"),
        ("arc", {"question": "Hot?", "choices": "A", "answerKey": "A"}, "neither a list of"),
        ("arc", {"question": "Hot?", "choices": OBJECTS[:1], "answerKey": "A"}, "needs 2 to 26"),
        (
            "arc",
            {"question": "Hot?", "choices": {"text": ["a"], "label": ["A", "B"]}},
            "2 labels for 1",
        ),
        ("arc", {"instruction": "Hot?", "answer": "answer1"}, "has no 'Answer1: ..."),
        (
            "aqua",
            {"question": "Hot?", "options": ["ice", "fire"], "correct": "A"},
            "does not start",
        ),
        (
            "aqua",
            {"question": "Hot?", "options": ["A)1", "B)2"], "correct": "C"},
            "'correct' is 'C'",
        ),
        ("aqua", {"question": "Hot?", "options": "A)1", "correct": "A"}, "'options' is str"),
        ("anli", {"premise": "a", "hypothesis": "b", "label": "x"}, "its label 'x' is none of"),
        ("anli", {"premise": "a", "label": 0}, "has no 'statement' or 'hypothesis'"),
        ("strategyqa", {"question": "Is it?", "answer": "maybe"}, "neither yes nor no"),
        ("svamp", {"Body": "a", "Question": "b", "Answer": "many"}, "is not a number"),
        ("svamp", {"Body": "a", "Question": "b", "Answer": "inf"}, "not a finite number"),
        ("multiarith", {"sQuestion": "a", "lSolutions": [1, 2]}, "not a list of one number"),
        ("drop", {"context": "They ran.", "ref_text": "a"}, "its context is not"),
        ("drop", {"passage": "a", "question": "b", "answer": NONE}, "no number, no date"),
        ("drop", {"passage": "a", "question": "b", "answers_spans": ["x"]}, "is not an object"),
        (
            "drop",
            {"passage": "a", "question": "b", "answers_spans": {"spans": 0, "types": []}},
            "are not lists",
        ),
        (
            "drop",
            {"passage": "a", "question": "b", "answers_spans": {"spans": ["x"], "types": 0}},
            "are not lists",
        ),
        (
            "openbookqa",
            {"question_stem": "a", "choices": {"label": 0, "text": ["b"]}},
            "are not lists",
        ),
        ("bbh", {"input": "a\nOptions:\n(A) x\n(B) y", "target": "(C)"}, "none of its options"),
        ("questions", {"question": "a", "answer_type": "essay"}, "'answer_type' is 'essay'"),
        ("questions", {"question": "a", "choices": "x"}, "must be a JSON list"),
        ("questions", {"question": "a", "choices": 3}, "'choices' is int"),
        ("questions", {"question": "a", "answers": "x"}, "'answers' is str"),
        ("questions", {"question": "a", "answer": "b", "answer_type": "nli"}, "is none of yes, no"),
    ],
)
def test_a_row_that_does_not_fit_its_format_says_why(tmp_path: Path, kind, row, problem) -> None:
    with pytest.raises(DataError, match="row 1: ") as raised:
        _read(tmp_path, kind, row)
    assert problem in str(raised.value)


def test_a_target_of_big_bench_hard_may_be_the_text_of_an_option(tmp_path: Path) -> None:
    asked = "Find a movie similar to Shrek:\nOptions:\n(A) Monsters, Inc\n(B) Town & Country"
    named = _read(tmp_path, "bbh", {"input": asked, "target": "Monsters, Inc"})
    assert (named.question.answer_type, named.gold) == ("choice", ("A",))
    other = _read(tmp_path, "bbh", {"input": asked, "target": "Aladdin"})
    assert (other.question.answer_type, other.gold) == ("span", ("Aladdin",))


def test_published_answers_to_big_bench_hard_are_worked_answers(tmp_path: Path) -> None:
    shown = (
        "Evaluate.\n\nQ: not True is\nA: Let's think step by step.\nIt is False.\n\n"
        "Q: True and\n\nFalse is\nA: Let's think step by step.\n"
    )
    row = {"input": shown, "prediction": "One is False. So the answer is False.", "target": "False"}
    read = _read(tmp_path, "bbh", row)
    assert read.question.text == "True and\n\nFalse is"
    assert (read.gold, read.rationale) == (("False",), "One is False. So the answer is False.")


def test_unlabelled_test_files_give_questions(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    row = {"uid": "u", "premise": "a", "hypothesis": "b", "label": -1}
    path.write_text(json.dumps([row]), encoding="utf-8")
    assert check(path, "anli").unlabelled == 1


REAL = [
    ("gsm8k", "gsm8k/train.jsonl", 7473, {"number": 7473}),
    ("gsm8k", "gsm8k/test_first660.jsonl", 660, {"number": 660}),
    ("gsm8k", "gsm8k/example_model_solutions_first660.jsonl", 660, {"number": 660}),
    ("svamp", "svamp/SVAMP.json", 1000, {"number": 1000}),
    ("multiarith", "multiarith/MultiArith.json", 600, {"number": 600}),
    ("aqua", "aqua/dev.json", 254, {"choice": 254}),
    ("drop", "drop/drop_dev_part.jsonl.gz", 3904, {"span": 3904}),
    ("arc", "arc_challenge/train.json", 1119, {"choice": 1119}),
    ("arc", "arc_challenge/test_first586.json", 586, {"choice": 586}),
    ("openbookqa", "openbookqa/train.tsv", 4957, {"choice": 4957}),
    ("openbookqa", "openbookqa/dev.tsv", 500, {"choice": 500}),
    ("anli", "anli/r1_dev_part.jsonl", 616, {"nli": 616}),
    ("anli", "anli/r2_dev_part.jsonl", 612, {"nli": 612}),
    ("anli", "anli/r3_dev_part.jsonl", 702, {"nli": 702}),
    ("strategyqa", "strategyqa/strategyqa_train.tsv", 2061, {"yes_no": 2061}),
    ("coin_flip", "coin_flip/coin_flip.json", 500, {"yes_no": 500}),
    ("last_letters", "last_letters/last_letters.json", 500, {"span": 500}),
    ("bbh", "bbh/date_understanding.json", 250, {"choice": 250}),
    ("bbh", "bbh/tracking_shuffled_objects_three_objects.json", 250, {"choice": 250}),
    ("bbh", "bbh/boolean_expressions.json", 250, {"yes_no": 250}),
    ("bbh", "bbh/object_counting.json", 250, {"number": 250}),
    ("bbh", "bbh/multistep_arithmetic_two.json", 250, {"number": 250}),
    ("bbh", "bbh/word_sorting.json", 250, {"span": 250}),
]


@pytest.mark.parametrize(("kind", "name", "rows", "types"), REAL)
def test_real_files_are_read_completely(shared_data: Find, kind, name, rows, types) -> None:
    found = check(shared_data(name), kind)
    assert (found.rows, found.good, found.unlabelled, found.bad) == (rows, rows, 0, ())
    assert found.answer_types == types


def test_real_choices_are_cut_where_a_reader_would_cut_them(shared_data: Find) -> None:
    rows = read_labelled(shared_data("arc_challenge/train.json"), "arc")
    assert options(rows[0].question.text) == {
        "A": "dry palms",
        "B": "wet palms",
        "C": "palms covered with oil",
        "D": "palms covered with lotion",
    }
    sizes = [len(r.question.choices) for r in rows]
    assert {n: sizes.count(n) for n in (3, 4, 5)} == {3: 1, 4: 1117, 5: 1}


def test_the_layout_of_choices_can_be_read_back() -> None:
    named = {"A": "(B) is a trap", "B": "two\n lines", "C": "x"}
    assert options(choice_text("Q (A)?", named)) == {**named, "B": "two lines"}


@pytest.mark.parametrize("kind", [*FORMATS, "tiny"])
def test_exemplars_state_the_answer_that_their_format_reads(kind: str) -> None:
    for exemplar in exemplars_for(kind):
        letters = tuple(options(exemplar.question))
        answer_type = (
            "choice"
            if letters
            else {"drop": "span", "anli": "nli", "strategyqa": "yes_no"}.get(kind, "number")
        )
        text = f" {exemplar.reasoning} The answer is {exemplar.answer}."
        found = extract(text, answer_type, letters)
        assert found == exemplar.answer.strip("()")
        assert "answer is" not in exemplar.reasoning


def test_there_are_as_many_exemplars_as_the_paper_shows() -> None:
    counts = {"gsm8k": 8, "svamp": 8, "drop": 3, "arc": 4, "openbookqa": 4, "aqua": 4, "anli": 6,
              "strategyqa": 6, "questions": 0}  # fmt: skip
    assert {kind: len(exemplars_for(kind)) for kind in counts} == counts
    assert [s.dataset for s in shipped_sets({"tiny", "gsm8k"})] == ["gsm8k", "tiny"]
    with pytest.raises(DataError, match="no exemplars for a format 'gsm'"):
        exemplars_for("gsm")


def test_the_arithmetic_of_the_exemplars_is_right() -> None:
    """Every 'a + b = c' in the reasoning, by integer or decimal arithmetic."""
    import re
    from fractions import Fraction

    checked = 0
    for kind in ("gsm8k", "drop", "aqua"):
        for exemplar in exemplars_for(kind):
            steps = re.findall(
                r"(?<![\d.,])(?<![-+*/] )([\d.,]+) ([-+*/]) ([\d.,]+) = ([\d.,]*\d)",
                exemplar.reasoning,
            )
            for left, sign, right, result in steps:
                a, b, c = (Fraction(x.replace(",", "")) for x in (left, right, result))
                value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign]
                assert value == c, f"{left} {sign} {right} = {result}"
                checked += 1
    assert checked >= 25


def test_words_in_a_box_are_words(tmp_path: Path) -> None:
    row = {"problem": "Which day?", "solution": r"It is \boxed{\text{Monday}}."}
    read = _read(tmp_path, "math", row)
    assert (read.question.answer_type, read.gold) == ("span", ("Monday",))


@pytest.mark.parametrize(
    ("kind", "row", "problem"),
    [
        ("math", {"problem": "p", "solution": "It is 3."}, r"has no \boxed"),
        ("math", {"problem": "p", "solution": r"\boxed{3"}, "never closed"),
        ("mmlu", {"question": "q", "choices": ["a", "b"], "answer": 2}, "none of its 2 choices"),
    ],
)
def test_what_a_row_lacks_is_named(tmp_path: Path, kind: str, row: object, problem: str) -> None:
    path = tmp_path / "row.json"
    path.write_text(json.dumps([row]))
    (bad,) = check(path, kind).bad
    assert problem in bad.problem


@pytest.mark.parametrize(
    ("row", "meant"),
    [
        ({"problem": "p", "solution": r"\boxed{3}"}, "math"),
        ({"question": "q", "choices": ["a", "b"], "answer": 1}, "mmlu"),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "preferences"),
        ({"instruction": "p", "completions": [{"response": "a", "overall_score": 1},
                                              {"response": "b", "overall_score": 2}]}, "preferences"),
    ],
)  # fmt: skip
def test_a_file_of_another_format_is_told_what_it_looks_like(
    tmp_path: Path, row: object, meant: str
) -> None:
    path = tmp_path / "row.json"
    path.write_text(json.dumps([row]))
    assert meant in check(path, "svamp").looks_like
    assert check(path, meant).looks_like == ()
