"""What a reply states, reply by reply: the ugly ones that models really write."""

from __future__ import annotations

import pytest

from selfimprove.answers.answers import extract, reasoning_before_answer
from selfimprove.data.row import choice_text
from selfimprove.types import Question

CANNOT_TELL = "it is not possible to tell"

NUMBERS = [
    ("She has 3 + 4 = 7 eggs. The answer is 7.", "7"),
    ("The answer is $1,020.00.", "1020"),
    ("the answer is: 18 eggs", "18"),
    ("So the answer is 18 dollars for 3 days.", "18"),
    ("She makes 9 * 2 = $<<9*2=18>>18 a day.\nA: 18", "18"),
    ("A: 16 - 3 = 13 eggs are left.\nA: 13", "13"),
    ("9 * 2 = 18\n#### 18", "18"),
    ("#### $1,234", "1234"),
    (r"Hence \boxed{18}.", "18"),
    (r"The answer is $\boxed{\frac{1}{2}}$.", "0.5"),
    (r"\[ \boxed{1{,}234} \]", "1234"),
    (r"The answer is \(18\).", "18"),
    ("**Answer:** 18", "18"),
    ("**Final answer**: $18", "18"),
    ("The final answer is 5 + 3 = 8.", "8"),
    ("The answer is x = 8.", "8"),
    ("The answer is 8, because 20 = 18 + 2.", "8"),
    ("The answer is Janet makes $18.", "18"),
    ("The answer is 1/2 of a cup.", "0.5"),
    ("The answer is 5 1/2 hours.", "5.5"),
    ("The answer is −7.", "-7"),
    ("The answer is -$7.", "-7"),
    ("The answer is minus 7 degrees.", "-7"),
    ("The answer is 60%.", "60"),
    ("The answer is 2.5 million.", "2500000"),
    ("The answer is 1\u202f234.", "1234"),
    ("The answer is １８.", "18"),
    ("The answer is ½.", "0.5"),
    ("The answer is twenty-five.", "25"),
    ("The answer is five (5).", "5"),
    ("The answer is approximately 18.", "18"),
    ("The answer is .50 dollars", "0.5"),
    ("The answer is 1e3.", "1000"),
    ("The answer is\n\n18", "18"),
    ("18", "18"),
    ("$18.", "18"),
    # The last one that is stated counts.
    ("The answer is 12. Wait, 5 + 8 = 13. The answer is 13.", "13"),
    (r"\boxed{12} is too many. So the answer is 11.", "11"),
    ("The answer is 18. I am sure that the answer is correct.", "18"),
    # What follows the answer is another question's.
    ("The answer is 18.\n\nQ: What is 1 + 1?\nA: The answer is 2.", "18"),
    ("The answer is 18.</s>The answer is 3.", "18"),
    # Numbers of the reasoning are not the answer.
    ("She sells 16 - 3 = 13 eggs, 26 dollars.", None),
    ("The answer is unknown, though 18 is near.", None),
    ("The answer is somewhere between 17 and 19.", None),
    ("The answer is 17 or 18.", None),
    ("The answer is 5 hours and 30 minutes.", None),
    ("The answer is 5:30.", None),
    ("The answer is 12/14/1937.", None),
    ("The answer is 3 to 1.", None),
    ("The answer is 5-7.", None),
    ("The answer is 1,23.", None),
    ("The answer is 18, 19 and 20.", None),
    ("The answer is 1.2.3", None),
    ("The answer is 1/0.", None),
    ("", None),
    # Supposed, asked, someone else's, wrong, taken back.
    ("If the answer is 18, she sold them all. She did not.", None),
    ("Is the answer 18?", None),
    ("So the answer is 18?", None),
    ("One might think the answer is 18.", None),
    ("I don't think the answer is 18.", None),
    ("The wrong answer is 18.", None),
    ("The answer is not 18.", None),
    ("The answer isn't 18. The answer is 19.", "19"),
    ("The answer is 18. The answer is not 17.", "18"),
    ("The answer is 18. Hmm, the answer is not 18.", None),
    ("The answer cannot be 18. It is more.", None),
    ("The answer is not 18 but 19.", "19"),
    ("The answer is 18. Wait, that is wrong.", None),
    ("I think the answer is 18.", "18"),
    ("If 3 + 5 = 8, then the answer is 8.", "8"),
]

CHOICE = Question(
    "q",
    "arc",
    choice_text("Which?", {"A": "ice", "B": "a rock", "C": "a rock pool", "D": "12 liters"}),
    "choice",
    ("A", "B", "C", "D"),
)
CHOICES = [
    ("The answer is (B).", "B"),
    ("The answer is b)", "B"),
    ("the answer is (b)", "B"),
    ("Answer: B", "B"),
    ("Answer: B) a rock", "B"),
    ("The answer is B. a rock", "B"),
    ("The answer is option B.", "B"),
    ("the correct answer is answer2", "B"),
    ("Option B is correct.", "B"),
    ("(B) is the correct answer.", "B"),
    ("So (B) a rock is correct.", "B"),
    ("CORRECT OPTION:OPTION D", "D"),
    ("Correct answer - D", "D"),
    ("therefore x = 3.\nAnswer D", "D"),
    ("I would choose (A).", "A"),
    (r"\boxed{\text{(B)}}", "B"),
    ("B", "B"),
    ("(B)", "B"),
    # By the words of the choice.
    ("The answer is a rock.", "B"),
    ("The answer is a rock pool.", "C"),
    ("The answer is ice, since water freezes.", "A"),
    ("The answer is 12.", "D"),
    ("The answer is A rock.", "B"),
    ("The answer is a dog.", None),
    ("The answer is ice or a rock.", None),
    # Choices named on the way do not count.
    ("(A) is cold. (C) is wet. Option D is much.", None),
    ("(A) and (C) are wrong. The answer is (B) because (C) and (D) are wet.", "B"),
    ("The answer is (B), not (A).", "B"),
    ("The answer is (B) rather than (A).", "B"),
    ("The answer is not (A) but (C).", "C"),
    ("The answer is A or B.", None),
    ("The answer is either (A) or (B).", None),
    ("The answer is (A) and (C).", None),
    ("The answer is (A). No, the answer is (B).", "B"),
    ("The answer is (A). The answer is not (A).", None),
    ("The answer is not (A).", None),
    ("(A) is not the correct answer.", None),
    ("Neither (A) nor (B) is correct.", None),
    ("I doubt whether (A) is correct.", None),
    ("Is (A) correct? (A) is the best guess?", None),
    ("B: iron is the best conductor. C: wood is not.", None),
    ("If the answer is (A), it melts. So the answer is (B).", "B"),
    ("One could say the answer is (A).", None),
    ("The answer is (E).", None),
    ("The answer is none of the above.", None),
    ("Answer choices: (A) ice (B) a rock", None),
]

YES_NO = [
    ("So the answer is yes.", "yes"),
    ("The answer is no, since it sinks.", "no"),
    ("The answer is: True", "yes"),
    ("**Answer: No**", "no"),
    ("So the answer is definitely no.", "no"),
    ('The answer is "Yes".', "yes"),
    ("yes", "yes"),
    ("The answer is yes or no.", None),
    ("The answer is no longer known.", None),
    ("Yes, it has fins. But is it a fish? The answer is no.", "no"),
    ("Yes, many people say so.", None),
    ("The answer is not yes.", None),
    ("The answer is not known.", None),
]

NLI = [
    ("The answer is yes.", "yes"),
    ("The answer is no.", "no"),
    ("The answer is it is not possible to tell.", CANNOT_TELL),
    ("So the answer is: It's impossible to say.", CANNOT_TELL),
    ("The answer is not possible to tell.", CANNOT_TELL),
    ("The answer is that we cannot tell.", CANNOT_TELL),
    ("The answer is neutral.", CANNOT_TELL),
    ("The answer is: entailment", "yes"),
    ("Answer: contradiction", "no"),
    ("The answer is cannot be determined.", CANNOT_TELL),
    ("It is not possible to tell at first, but then it says so. The answer is yes.", "yes"),
    ("The answer is not entailment.", None),
    ("The answer is yes or it is not possible to tell.", None),
    ("There is no contradiction here.", None),
]

SPANS = [
    ("So the answer is Sam Weir.", "Sam Weir"),
    ('The answer is **"St. Louis"**, because it was last.', "St. Louis"),
    ("The answer is Maj. Gen. Robert W. Grow. He came later.", "Maj. Gen. Robert W. Grow"),
    ("The answer is under the age of 18 and 25 to 44.", "under the age of 18 and 25 to 44"),
    ("Sam Weir caught it.", None),
    ("The answer is not Sam Weir but Dale Orton.", "Dale Orton"),
]


@pytest.mark.parametrize(("text", "answer"), NUMBERS)
def test_numbers(text: str, answer: str | None) -> None:
    assert extract(text, "number") == answer


@pytest.mark.parametrize(("text", "answer"), CHOICES)
def test_choices(text: str, answer: str | None) -> None:
    assert extract(text, CHOICE) == answer


@pytest.mark.parametrize(("text", "answer"), YES_NO)
def test_yes_or_no(text: str, answer: str | None) -> None:
    assert extract(text, "yes_no") == answer


@pytest.mark.parametrize(("text", "answer"), NLI)
def test_inference(text: str, answer: str | None) -> None:
    assert extract(text, "nli") == answer


@pytest.mark.parametrize(("text", "answer"), SPANS)
def test_spans(text: str, answer: str | None) -> None:
    assert extract(text, "span") == answer


def test_without_the_question_a_choice_is_known_by_its_letter_alone() -> None:
    assert extract("The answer is (B).", "choice", ("A", "B")) == "B"
    assert extract("The answer is (C).", "choice", ("A", "B")) is None
    assert extract("The answer is a rock.", "choice", ("A", "B")) is None


@pytest.mark.parametrize(
    ("text", "kind", "answer"),
    [
        ("She sells 13 eggs for 26 dollars.", "number", "26"),
        ("I like (A), but (B) is larger", "choice", "B"),
        ("No, I would say no", "yes_no", "no"),
        ("It was thrown.\nSam Weir", "span", "Sam Weir"),
        ("nothing here", "number", None),
    ],
)
def test_lenient_falls_back_to_the_last_thing_seen(text, kind, answer) -> None:
    assert extract(text, kind, ("A", "B"), lenient=True) == answer
    if kind != "span":
        assert extract(text, kind, ("A", "B")) is None


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("3 + 4 = 7. The answer is 7.", "3 + 4 = 7."),
        ("3 + 4 = 7, so the answer is 7.", "3 + 4 = 7."),
        ("Ice is cold.\nSo, the final answer is (A).", "Ice is cold."),
        ("3 + 4 = 7\n#### 7", "3 + 4 = 7."),
        ("The answer is 7.", ""),
        ("3 + 4 = 7.", "3 + 4 = 7."),
    ],
)
def test_the_reasoning_is_what_stands_before_the_answer(text: str, reasoning: str) -> None:
    assert reasoning_before_answer(text) == reasoning


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        "the answer is ",
        "answer is not ",
        "\\boxed{",
        "(A) ",
        " ",
        "\n",
        "#### ",
        "answer for ",
        "1,111",
    ],
)
def test_a_hostile_reply_takes_time_in_proportion_to_its_length(unit: str) -> None:
    """Each of these took seconds or minutes before its quadratic part was found."""
    import time

    text = f"The answer is{unit * 5000}"
    start = time.process_time()
    for kind in ("number", "choice", "nli", "span"):
        extract(text, kind, ("A", "B"))
    assert time.process_time() - start < 4.0
