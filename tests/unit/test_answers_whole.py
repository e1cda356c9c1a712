"""A value is read whole or not at all, in the marks and tags that models set it in."""

from __future__ import annotations

import pytest

from selfimprove.answers.answers import extract
from selfimprove.types import AnswerType


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("He sold <<48+24=72>>72 clips.", None, "72"),
        ("The answer is <<60+12=72>>72.", "72", "72"),
        ("<answer>72</answer>", "72", "72"),
        ("<answer>\n72 clips\n</answer>", "72", "72"),
        ("48 + 24.\n<b>72</b>", None, "72"),
        ("So x<y and it is <72", None, None),
        ("Ans: 72", "72", "72"),
        ("48 + 24\n### Answer\n72", "72", "72"),
        ("### Answer\nFirst 48 + 24 = 72.\nSo 72 clips.", None, "72"),
        ('{"steps": 2, "answer": 72}', "72", "72"),
        ("The result is 72.", "72", "72"),
        ("The solution is 72.", "72", "72"),
        ("The result is 12. That makes 72 in all", None, "72"),
        ("The answer is 12. No, 13.", None, None),
        ("<final_answer>72</final_answer>", "72", "72"),
        ("The answer is 5! = 120.", "120", "120"),
        ("The answer is 72! That was easy.", "72", "72"),
        (r"\boxed{72^\circ}", "72", "72"),
        (r"\boxed{72^{\circ}}", "72", "72"),
        ("The answer is 4.<｜end▁of▁sentence｜><｜User｜>And 1? The answer is 1.", "4", "4"),
        ("The answer is 4.\n\nAssistant: The answer is 1.", "4", "4"),
    ],
)
def test_a_number_in_marks_tags_and_other_statements(
    text: str, strict: str | None, flexible: str | None
) -> None:
    assert extract(text, "number") == strict
    assert extract(text, "number", lenient=True) == flexible


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("-(5)", "-5"),
        ("-[5]", "-5"),
        ("12 - (5)", None),
        ("three quarters", "0.75"),
        ("5 fifth graders", "5"),
        # Twelve, or what was asked for in dozens? A fraction, or coins?
        ("half a dozen", None),
        ("two dozen eggs", None),
        ("2 dozen", None),
        ("3 quarters", None),
        ("5 tenths", None),
        ("5 hundredths", None),
        ("5 degrees below zero", None),
        ("sin 5", None),
        ("5i", "5i"),
        ("1010₂", None),
        ("1٬000", "1000"),
        # A recurring decimal, a power, times and a calculation that go on.
        ("0.(3)", None),
        ("2 to the 5th", None),
        ("half past five", None),
        ("ten past six", None),
        ("5! + 1", None),
        (r"x \geq 5", "x ≥ 5"),
    ],
)
def test_a_stated_number_is_no_part_of_what_is_stated(said: str, value: str | None) -> None:
    assert extract(f"The answer is {said}.", "number") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("So she needs 5, 000 dollars.", "5000"),
        ("x = 5, y = 3", "3"),
        ("It is - $5", "-5"),
        (r"It is -\frac{1}{2}", "-0.5"),
        ("It is - 1/2", "-0.5"),
        ("- 5 eggs", "5"),
        ("It is √5", None),
        ("It is 5√2", None),
        ("It is 5i", None),
        ("It is 5 of 6", None),
        ("It is 10 to the power of 3", None),
        ("It is 10^{3}", None),
        ("It is 101_{2}", None),
        (r"It is \log_{2} 8", None),
        ("It is 2 to the 5th", None),
        ("It is 5x + 7", None),
        ("It is 5! + 1", None),
        (r"It is \geq 5", None),
        ("It is 0.(3)", None),
        ("It is 3 : 2", None),
        ("It is 1 / 2 / 3", None),
        ("It is 5%–7%", None),
        ("It is 5 through 7", None),
        ("It is a 5 by 7 photo", None),
        ("It is 5 mod 3", None),
        ("It is (3, 4)", None),
        ("That makes five or six", None),
        ("5 in all. That makes ten to twelve", None),
        ("It was on 12-Mar-2020", None),
        ("It was on May 5th, 2020", None),
        ("It takes 1 gallon 2 quarts", None),
        ("It is 45°30'", None),
        ("It is 12 - (5)", None),
        ("It is -(5)", "-5"),
        ("It takes 3 and 1/3 cups", "10/3"),
        ("It is 1٬000", "1000"),
    ],
)
def test_the_last_number_is_no_part_of_a_value(text: str, value: str | None) -> None:
    assert extract(text, "number", lenient=True) == value


@pytest.mark.parametrize(
    ("text", "kind", "answer"),
    [
        ("<answer>B</answer>", "choice", "B"),
        ("<answer>Yes</answer>", "yes_no", "yes"),
        ("The answer is <b>B</b>.", "choice", "B"),
        ("It is 50 + 3.\n(B) 53", "choice", "B"),
        ("Option B.", "choice", "B"),
        ("My choice: B", "choice", "B"),
        ("The answer is A. No, B.", "choice", None),
        ("The answer is 'B'.", "choice", "B"),
        ("The answer is a resounding no.", "yes_no", "no"),
    ],
)
def test_choices_and_verdicts_in_marks_and_tags(
    text: str, kind: AnswerType, answer: str | None
) -> None:
    letters = ("A", "B", "C") if kind == "choice" else ()
    assert extract(text, kind, letters) == answer
    assert extract(text, kind, letters, lenient=True) == answer


def test_options_that_are_listed_are_no_answer() -> None:
    assert extract("(A) 52\n(B) 53", "choice", ("A", "B")) is None


@pytest.mark.parametrize(
    ("behind", "answer"),
    [
        ("Tom has 3 cats and 4 dogs. Find the number of animals. The answer is 7.", "2"),
        ("Calculate 3 + 4. The answer is 7.", "2"),
        ("Write a program that adds. The answer is 7.", "2"),
        ("Here is another one: 3 + 4. The answer is 7.", "2"),
        ("## Question 2\n3 + 4. The answer is 7.", "2"),
        ("Next: 3 + 4. The answer is 7.", "2"),
        ("Given: 3 cats. The answer is 7.", "2"),
        ("Solve: 3 + 4. The answer is 7.", "2"),
        ("Let's try another problem: 3 + 4. The answer is 7.", "2"),
        ("Now, let us consider a similar one: 3 + 4. The answer is 7.", "2"),
        ("Is the number of 3 cats and 4 dogs odd? 3 + 4 = 7. The answer is 7.", "2"),
        # What looks back, or goes on with the same problem, does not end there.
        ("To verify, 3 + 4 = 7. Therefore the final answer is 7.", "7"),
        ("Wait, 3 + 4 = 7. Find the error. The answer is 7.", "7"),
        ("Step 2: Find the total. 3 + 4 = 7. The answer is 7.", "7"),
        ("2. Find the total. 3 + 4 = 7. The answer is 7.", "7"),
        ("Let's try a different approach: 3 + 4 = 7. The answer is 7.", "7"),
        ("Is the answer right? No: 3 + 4 = 7. The answer is 7.", "7"),
    ],
)
def test_what_a_model_goes_on_with_behind_its_answer(behind: str, answer: str) -> None:
    assert extract(f"1 + 1 = 2. The answer is 2.\n\n{behind}", "number") == answer


def test_the_last_line_of_a_solution_of_gsm8k_ends_it() -> None:
    assert extract("1 + 1 = 2\n#### 2\n\nTom has 3 cats.\n#### 3", "number") == "2"
    assert extract("1 + 1 = 2\n#### 2\n\nWait, 1 + 2 = 3.\n#### 3", "number") == "3"
