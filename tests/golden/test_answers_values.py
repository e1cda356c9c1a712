"""A value is read right or not at all, never a part of it."""

from __future__ import annotations

import pytest

from selfimprove.answers.answers import extract, matches, same

RIGHT = [
    ("12 000", "12000"),
    ("$352 000", "352000"),
    ("1 234 567.89", "1234567.89"),
    ("12 000,5", "12000.5"),
    ("1.234.567", "1234567"),
    ("1.234,50", "1234.5"),
    ("1'234'567", "1234567"),
    ("12,000.50", "12000.5"),
    ("3 1/2", "3.5"),
    ("5 and a half hours", "5.5"),
    ("1e5", "100000"),
    ("1.5 x 10^5", "150000"),
    (r"1.5 \times 10^{5}", "150000"),
    (r"3 \cdot 10^{-2}", "0.03"),
    ("-5", "-5"),
    ("5%", "5"),
    ("$1,000", "1000"),
    ("US$5", "5"),
    ("Rs. 500", "500"),
    ("3k", "3000"),
    ("5 hundred thousand", "500000"),
    ("two hundred ninety-four dollars", "294"),
    ("two hundred and eighty", "280"),
    ("one hundred fifty-seven thousand four hundred", "157400"),
    ("two and a half", "2.5"),
    ("two thirds", "2/3"),
    ("minus seven", "-7"),
    ("18 dollars for 3 days", "18"),
    ("18 (20 - 2)", "18"),
    ("2200 ft^2", "2200"),
    ("12 ($12)", "12"),
    ("12 (twelve)", "12"),
    ("*18*", "18"),
    (r"\boxed{72\text{ clips}}", "72"),
    ("\\[\nx = 72\n\\]", "72"),
    ("$$\nx = 80\n$$\n\nThere are 80 students.", "80"),
]

NONE = (
    "10:30", "2-3", "2 to 3", "between 2 and 3", "15 ± 2", "5+", "15 or more", "> 5", "less than 5",
    "12/14/1937", "2020-05-04", "May 5", "4 July", "4th of July", "5 feet 3 inches", "6'2\"",
    "5h30m", "2 hours 15 minutes", "5 dollars 30 cents", "16 in the box and 9 on the table",
    "10% of 50", "half of 10", "twice 5", "the square root of 16", "5 squared", "5 less than 10",
    "3 out of 5", "3 in 5", "5 (10)", "five (6)", "five six", "two hundred or three hundred",
    "x = 5 or x = -5", "x = 5, y = 3", "3 days = 72 hours", "5 million 200 thousand", "$3M",
    "5 remainder 3", "5 R 3", "5 100 metre races", "1,5", "1,000,00", "5; 6", "25%, or 1/4", "12 (or 13)",
    "12\n000",
)  # fmt: skip

SIDE_BY_SIDE = {
    "16 in the box and 9 on the table": "9",
    "x = 5, y = 3": "3",
    "3 days = 72 hours": "72",
    "5; 6": "6",
}
"""Of these the last number is a whole value: it is the last one named, though no statement."""


@pytest.mark.parametrize(("said", "value"), RIGHT)
def test_a_number_is_read_whole(said: str, value: str) -> None:
    assert extract(f"So 7 * 2 = 14. The answer is {said}.", "number") == value


@pytest.mark.parametrize("said", NONE)
def test_what_is_no_one_number_is_not_read(said: str) -> None:
    assert extract(f"So 7 * 2 = 14. The answer is {said}.", "number") is None


@pytest.mark.parametrize("between", [" ", "\n"])
@pytest.mark.parametrize(
    "said", [*sorted({*NONE} - {*SIDE_BY_SIDE}), "20 (or 30)", "10^3", "$3, or 4 or 5"]
)
def test_the_flexible_reading_takes_no_part_and_nothing_named_before(
    said: str, between: str
) -> None:
    text = f"So 7 * 2 = 14.{between}That makes {said}."
    assert extract(text, "number", lenient=True) is None


@pytest.mark.parametrize(("said", "last"), SIDE_BY_SIDE.items())
def test_of_whole_values_side_by_side_the_flexible_reading_takes_the_last(
    said: str, last: str
) -> None:
    assert extract(f"So 7 * 2 = 14. That makes {said}.", "number", lenient=True) == last


@pytest.mark.parametrize(
    ("said", "value"),
    [row for row in RIGHT if row[0] not in ("18 dollars for 3 days", "18 (20 - 2)")]
    + [("80% of $400, or $320", "320"), ("14 for the two of them", "14"), ("five", "5")],
)
def test_the_flexible_reading_reads_the_last_number_whole(said: str, value: str) -> None:
    assert extract(f"So 7 * 2 = 14. That makes {said}.", "number", lenient=True) == value


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Therefore, the answer (arabic numerals) is 70.", "70"),
        ("Therefore, the answer (arabic numerals) is: 70 dollars", "70"),
        ("Therefore, the answer (arabic numerals) is\n\n$70.", "70"),
        ("The answer (arabic numerals) is 27. The answer (words) is twenty-eight.", "27"),
        ("The answer (in dollars) is 70.", "70"),
        ("The final answer (as a number) is 70.", "70"),
        ("The answer in dollars is 70.", "70"),
        # What is asked for is a number in figures: a calculation or words are none.
        ("Therefore, the answer (arabic numerals) is 35 + 35 = 70.", None),
        ("Therefore, the answer (arabic numerals) is seventy.", None),
        ("Therefore, the answer (arabic numerals) is 12 000.", "12000"),
    ],
)
def test_the_form_of_an_answer_may_stand_beside_it(text: str, answer: str | None) -> None:
    assert extract(text, "number") == answer


def test_the_forms_of_the_other_kinds_of_answer() -> None:
    assert extract("Therefore, the answer (Yes or No) is yes.", "yes_no") == "yes"
    assert extract("Therefore, the answer (Yes or No) is:\n\nNo", "yes_no") == "no"
    for letters in ("ABCDE", ""):
        text = "Therefore, among A through E, the answer is B."
        assert extract(text, "choice", letters) == "B"
    assert extract("Therefore, among A through F, the answer is (F).", "choice", "ABCDEF") == "F"
    assert extract("Therefore, the answer (B) is correct.", "choice", "ABC") == "B"
    assert extract("The answer is the doctor's office (C).", "choice", "ABCDE") == "C"
    assert extract("The answer is a doctor (C) or a nurse (D).", "choice", "ABCDE") is None


def test_spans_made_of_marks_are_compared_as_they_stand() -> None:
    assert same("] ]", "] ]", "span")
    assert same("]  ]", "] ]", "span")
    assert not same("] ]", "] )", "span")
    assert not same("] ]", "]", "span")
    said = extract("We need to close them. So the answer is ] } >.", "span")
    assert said is not None and matches(said, ("] } >",), "span")


def test_a_word_spelled_letter_by_letter_is_the_word() -> None:
    assert same("y a j o", "yajo", "span")
    assert not same("y a j o", "yjo", "span")
