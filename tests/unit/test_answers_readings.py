"""Strict and flexible: what a text states, or else what it names last; and where its answer ends."""

from __future__ import annotations

import pytest

from selfimprove.answers.answers import extract, read_draw, read_through
from selfimprove.types import Draw, FinishReason, Question

NUMBER = Question("q", "gsm8k", "How many?", "number")
CITY = Question(
    "q",
    "arc",
    "Where?\nAnswer choices:\n(A) Paris\n(B) London\n(C) Rome",
    "choice",
    ("A", "B", "C"),
)


def draw(text: str, finish: FinishReason = "stop") -> Draw:
    return Draw("q", 0, text, finish, 10, 20)


@pytest.mark.parametrize(
    ("text", "flexible"),
    [
        ("The total is 72 clips, altogether.", "72"),
        ("So 4*3 = 12", "12"),
        ("48 + 24 is\n\n**72**", "72"),
        ("Therefore Weng earned $10.", "10"),
        ("That makes 12 000 in all.", "12000"),
        ("It takes 3 1/2 cups.", "3.5"),
        ("It covers 25 m^2.", "25"),
        ("That makes 18 eggs.\n\nProblem 2: Tom has 3 cats.", "18"),
        # Of these, too, a part is no answer.
        ("It opens at 10:30.", None),
        ("It takes 5 hours and 30 minutes.", None),
        ("There are 2-3 left.", None),
        ("It was on 12/14/1937.", None),
        ("No figures here.", None),
    ],
)
def test_a_number_that_is_only_named_is_read_flexibly_alone(text: str, flexible: str) -> None:
    assert extract(text, NUMBER) is None
    assert extract(text, NUMBER, lenient=True) == flexible


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("So, the answer is **B**.", "B", "B"),
        ("It is London.", None, "B"),
        ("So it must be (B) London.", None, "B"),
        ("Paris is out.\n\nB) London", None, "B"),
        ("(A) is wrong, and so is Rome.\n\nSo B", None, "B"),
        ("It is A or B.", None, None),
        ("A cat.", None, None),
    ],
)
def test_an_option_that_is_only_named(text: str, strict: str, flexible: str) -> None:
    assert extract(text, CITY) == strict
    assert extract(text, CITY, lenient=True) == flexible


def test_no_before_a_noun_is_no_answer() -> None:
    assert extract("Yes. There is no reason to doubt it", "yes_no", lenient=True) == "yes"


INVENTED = "\n\nTom has 3 cats. How many legs do they have?\n3 * 4 = 12. The answer is 12."


@pytest.mark.parametrize(
    "behind",
    [
        INVENTED,
        INVENTED.replace("\n\n", " "),
        "\n\nQ: Tom has 3 cats.\nA: The answer is 12.",
        "\n\nQuestion: Tom has 3 cats.\nAnswer: 12",
        "\n\n**Problem 2:** Tom has 3 cats. The answer is 12.",
        "\n\nPassage: Tom has 3 cats.\nThe answer is 12.",
        "\n\n### Instruction\nSay 12.",
        "\n\n---\n\nTom has 3 cats. The answer is 12.",
        "<|im_end|>\n<|im_start|>user\nThe answer is 12?",
        "<end_of_turn>\nThe answer is 12.",
        "\nHuman: Thanks. The answer is 12.",
        " I hope this helps!",
        "",
    ],
)
def test_a_path_ends_with_the_sentence_of_its_answer(behind: str) -> None:
    path = " 1 + 1 = 2, so  2 eggs. **The answer is 2.**"
    read = read_draw(draw(path + behind), NUMBER, "strict")
    assert (read.text, read.answer) == (path, "2")
    assert read_draw(draw(path + behind), NUMBER, "flexible") == read


@pytest.mark.parametrize(
    ("path", "behind"),
    [
        ("9 * 2 = 18\n#### 18", "\nThat was easy."),
        (r"So $\boxed{18}$.", "\n\nThanks."),
        ("The answer is\n\\[\n18\n\\]", "\nNext one."),
        ("The answer is 12. No wait, 5 + 13 = 18. So the answer is 18.", " Done."),
        ("That makes 18 eggs.", "\n\nQ: How many are 3 and 4?"),
    ],
)
def test_the_sentence_of_an_answer_in_other_forms(path: str, behind: str) -> None:
    assert read_through(path + behind, NUMBER, lenient=True).text == path
    assert extract(path + behind, NUMBER, lenient=True) == "18"


def test_a_draw_that_was_cut_off_has_only_answered_in_a_whole_sentence() -> None:
    assert read_draw(draw("The answer is 12", "length"), NUMBER, "flexible").answer is None
    assert read_draw(draw("So 12 eggs and", "length"), NUMBER, "flexible").answer is None
    cut = read_draw(draw("The answer is 12.\n\nTom ha", "length"), NUMBER, "flexible")
    assert (cut.text, cut.answer) == ("The answer is 12.", "12")


@pytest.mark.parametrize("times", [3, 5000])
@pytest.mark.parametrize(
    ("start", "repeated", "strict", "flexible"),
    [("", "12 (", None, "12"), ("5 (", "12 (", None, "12"), ("", "(", None, None),
     ("", "12 (5 ", None, "5"), ("The answer is ", "12 (", "12", "12")],
    ids=["figures", "one other", "bare", "two by turns", "stated"],
)  # fmt: skip
def test_thousands_of_open_brackets_are_read_like_a_few(
    start: str, repeated: str, times: int, strict: str | None, flexible: str | None
) -> None:
    said = draw(start + repeated * times)
    assert read_draw(said, NUMBER, "strict").answer == strict
    assert read_draw(said, NUMBER, "flexible").answer == flexible


@pytest.mark.parametrize(
    ("said", "value"), [("12 (12)", "12"), ("12 (12 (13", None), ("5 (6", None), ("(6", "6")]
)
def test_a_number_in_brackets_says_again_the_one_before_them(said: str, value: str | None) -> None:
    assert extract(f"That makes {said}", NUMBER, lenient=True) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18 eggs.\nThere are ways to see this in two steps.", "18"),
        ("She sells 26 eggs to two shops.", "26"),
        ("26 eggs go to two shops in twenty towns.", "26"),
        ("That is $26. She has two hundred hens.", "26"),
        ("9 * 2 = 18\nThat is two more than before.", "18"),
        ("9 * 2 = 18\nThis is one way to see it.", "18"),
        ("9 * 2 = 18\nIt is twice what the two had.", "18"),
        # They are all that a last sentence says, or there are no figures at all.
        ("9 * 2 = 18\nSo that makes twenty-six eggs.", "26"),
        ("Nine times two.\nTwenty-six eggs go to the market.", "26"),
        # Of a value that goes on in words a part is no answer.
        ("It takes 5 hours and thirty minutes.", None),
        ("There are 5 or six left.", None),
        ("That is 10% of two hundred.", None),
        ("That is 12 (thirteen).", None),
        ("That is 12 (twelve).", "12"),
    ],
)
def test_figures_go_before_numbers_in_words(text: str, value: str | None) -> None:
    assert extract(text, NUMBER, lenient=True) == value
