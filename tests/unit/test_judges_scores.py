"""Scores and choices are read from a judge's words, or they are not there: never guessed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.judges.pairwise import read_choice
from selfimprove.judges.score_text import Scored, Unscored, read_score

READ = [
    ("Score: 4", 4),
    ("score = 3", 3),
    ("Score:0", 0),
    ("**Score:** 4", 4),
    ("**Score: 4**", 4),
    ("`Score: 3`", 3),
    ("### Score: 3", 3),
    ("**Score:**\n4", 4),
    ("Score: <4>", 4),
    ("Score: 4.", 4),
    ("Score: 4, since nothing is missing", 4),
    ("Score: 4/5", 4),
    ("Score: 4 / 5", 4),
    ("Score: 4 out of 5", 4),
    ("Score: 4 (out of 5)", 4),
    ("Score: 4 points out of 5.", 4),
    ("Score: 5\nNo, I was rash.\nScore: 2", 2),
    ("Relevance score: 1. Coverage score: 1.\nTotal score: 2", 2),
    ("topic tea tea yes, item jars none no.\nScore: 1", 1),
    ("Score: 4\n\nThe response earned 4/5.", 4),
    # A turn that runs on, and reasoning.
    ("Score: 4\n\nUser: Judge this, too.\nScore: 1", 4),
    ("Score: 4\n\nHuman: And this?\n\nAssistant: Score: 1", 4),
    ("Score: 4<|im_end|>\n<|im_start|>user\nAnd this?\nScore: 1", 4),
    ("Score: 4\n### Instruction:\nJudge.\nScore: 1 or 2", 4),
    ("<think>Score: 2</think> Score: 4", 4),
    ("<think>\nIs it Score: 2?\nUser: said.\n</think>\n\nScore: 4", 4),
    ("It has Score: 2 points of form.\n</think>\nScore: 4", 4),
    ("Score: 2\nNo.\nScore: 4\n\nUser: And this?\nScore: 1", 4),
]

NO_SCORE = "no score"
NOT_WHOLE = "score is no whole number"
OUTSIDE = "score outside the scale"
OTHER = "score of another scale"
CONTRADICTED = "contradicts its own score"
UNREAD = [
    ("", NO_SCORE),
    ("A fine response.", NO_SCORE),
    ("I would give it 4 points.", NO_SCORE),
    ("underscore: 4", NO_SCORE),
    ("<score>4</score>", NO_SCORE),
    ("Score: 45", OUTSIDE),
    ("Score: 6", OUTSIDE),
    ("Score: 4.7", NOT_WHOLE),
    ("Score: 4,5", NOT_WHOLE),
    ("Score: 4½", NOT_WHOLE),
    ("Score: 4-5", NOT_WHOLE),
    ("Score: -1", NOT_WHOLE),
    ("Score: −1", NOT_WHOLE),
    ("Score: ~4", NOT_WHOLE),
    ("Score: ４", NOT_WHOLE),
    ("Score: ٤", NOT_WHOLE),
    ("Score: 4٫5", NOT_WHOLE),
    ("Score: ⑤", NOT_WHOLE),
    ("Score: four", NOT_WHOLE),
    ("Score: <points from 0 to 5>", NOT_WHOLE),
    ("Score:", NOT_WHOLE),
    ("Score: 5\nScore: \\boxed{2}", NOT_WHOLE),
    ("Score: 4/10", OTHER),
    ("Score: 4 out of 10", OTHER),
    ("Score: 4%", CONTRADICTED),
    ("Score: 4+", CONTRADICTED),
    ("Score: 4 or 5", CONTRADICTED),
    ("Score: 4 - 5", CONTRADICTED),
    ("Score: 2\nOn reflection it earns 4 points.", CONTRADICTED),
    ("Score: 2. I mean 3/5.", CONTRADICTED),
    ("<think>Score: 4", NO_SCORE),
    ("<think>Score: 4</think>", NO_SCORE),
    ("No verdict.\n\nUser: And this?\nScore: 4", NO_SCORE),
]

RUNS_ON = [
    "\nQ: another\nA: ", "\n\nQuestion: x\n\n", "\n\nPrompt: x\n", "\n\nExample 2:\n",
    "\n\n### Response:\n", "\n\nUser 2: x\n", "\n\nUser instruction: x\nResponse: y\n",
    "\n\n<question>x</question>\n<response>y</response>\n", "\n<human>: x\n<bot>: ",
    "<|tool_call|>x\n", "\n\n[User Question]\nx\n", "\n\n**Question 2:** x\n",
    "\n\nCase 2:\nx\n", "\n\nNext response: x\n",
]  # fmt: skip


@pytest.mark.parametrize("case", RUNS_ON)
def test_a_new_case_that_a_judge_invents_behind_its_decision_is_not_read(case: str) -> None:
    assert read_score(f"Clear. Score: 4{case}Score: 1", 0, 5) == Scored(4.0)
    assert read_choice(f"A is clear. Better: A{case}Better: B") == 1.0


@pytest.mark.parametrize("case", RUNS_ON[:9])
def test_such_headings_before_the_decision_are_part_of_the_review(case: str) -> None:
    assert read_score(f"My review.{case}It is clear.\nScore: 4", 0, 5) == Scored(4.0)
    assert read_choice(f"My review.{case}It is clear.\nBetter: B") == 0.0


@pytest.mark.parametrize(("text", "score"), READ)
def test_scores_that_are_read(text: str, score: int) -> None:
    assert read_score(text, 0, 5) == Scored(float(score))


@pytest.mark.parametrize(("text", "why"), UNREAD)
def test_texts_without_a_score_say_why(text: str, why: str) -> None:
    assert read_score(text, 0, 5) == Unscored(why)


def test_the_scale_is_that_of_the_prompt() -> None:
    assert read_score("Score: 0", 1, 5) == Unscored(OUTSIDE)
    assert read_score("Score: 9/10", 1, 10) == Scored(9.0)


@given(st.text())
def test_no_text_gives_a_score_off_the_scale_or_an_error(text: str) -> None:
    for said in (text, f"Score: {text}", f"{text}\nScore: 3{text}"):
        found = read_score(said, 0, 5)
        assert isinstance(found, Unscored) or found.score in range(6)
        assert read_choice(f"Better: {text}") in (None, 0.0, 0.5, 1.0)


@given(st.text(alphabet=st.characters(codec="utf-8")), st.integers(0, 5))
def test_a_last_line_of_its_own_decides_whatever_came_before(before: str, score: int) -> None:
    assert read_score(f"{before}\nScore: {score}", 0, 5) == Scored(float(score))


@given(st.characters(categories=["Nd", "Nl", "No"]))
def test_digits_of_other_scripts_are_no_score(digit: str) -> None:
    found = read_score(f"Score: {digit}", 0, 5)
    assert isinstance(found, Scored) == bool(re.fullmatch(r"[0-5]", digit, re.ASCII))


def test_reading_a_long_text_is_quick() -> None:
    assert read_score("Score: " * 20_000 + "1." * 20_000, 0, 5) == Unscored(NOT_WHOLE)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("A is vague. Better: B", 0.0),
        ("**Better:** A", 1.0),
        ("Better: Response A", 1.0),
        ("Better: <tie>", 0.5),
        ("Better: A\nNo: it is wrong.\nBetter: B.", 0.0),
        ("Better: A\n\nUser: And these?\nBetter: B", 1.0),
        ("<think>Better: B</think> Better: A", 1.0),
        ("<think>Better: B", None),
        ("Better: A or B", None),
        ("Better: A, B", None),
        ("Better: A & B", None),
        ("Better: A = B", None),
        ("Better: A < B", None),
        ("Better: A vs. B", None),
        ("Better: A > B", 1.0),
        ("Better: Apples", None),
        ("Better: <choice>", None),
        ("Better: neither", None),
        ("A is the best.", None),
        ("", None),
    ],
)
def test_choices(text: str, share: float | None) -> None:
    assert read_choice(text) == share
