"""Numbers: equal ones are equal however they are written, unequal ones never are."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.answers.answers import extract, matches, same
from selfimprove.answers.numerals import canonical, exact
from selfimprove.answers.quantities import read_number

INTEGERS = st.integers(min_value=-(10**12), max_value=10**12)
DECIMALS = st.decimals(min_value=-(10**9), max_value=10**9, places=3, allow_nan=False)


@given(INTEGERS)
def test_an_integer_is_the_same_in_every_way_of_writing_it(n: int) -> None:
    minus = f"\N{MINUS SIGN}{abs(n)}" if n < 0 else str(n)
    wide = "".join(chr(ord("０") + int(c)) if c.isdigit() else c for c in str(n))
    for written in (f"{n:,}", f"{n}.0", f"{n:,}.00", minus, wide, f"{n}/1", f"${n:,}", f"{n}%"):
        assert same(written, str(n), "number"), written
        assert extract(f"The answer is {written}.", "number") == str(n), written


@given(INTEGERS, INTEGERS)
def test_different_integers_are_never_the_same(a: int, b: int) -> None:
    assert same(f"{a:,}", f"{b}.0", "number") == (a == b)


@given(DECIMALS)
def test_a_decimal_survives_reading_and_writing(value) -> None:
    found = read_number(f"{value} liters")
    assert found is not None
    assert exact(found) == Fraction(value)
    assert canonical(Fraction(value)) == found


@given(st.fractions(max_denominator=10_000))
def test_the_canonical_form_is_exact_and_unique(value: Fraction) -> None:
    assert exact(canonical(value)) == value
    assert exact(f"{value.numerator}/{value.denominator}") == value


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    found = extract(f"The answer is {text}", "number")
    assert found is None or found
    for kind in ("choice", "yes_no", "nli", "span"):
        extract(f"{text} the answer is {text}", kind, ("A", "B"))


@given(st.text(alphabet="0123456789.,-/%$ex^ ()", max_size=12))
def test_what_is_read_is_one_of_the_numbers_that_are_written(text: str) -> None:
    found = read_number(text)
    value = None if found is None else exact(found)
    if value is not None and value.denominator == 1 and not set("e/=%") & set(text):
        digits = str(abs(value.numerator)).rstrip("0") or "0"
        assert digits in text.replace(",", "").replace(" ", "")


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ("1/2", "0.5", True),
        ("5 1/2", "5.5", True),
        ("1/3", "0.333", False),
        ("60%", "0.6", False),  # a percent sign is dropped
        ("60%", "60", True),
        ("1e3", "1,000", True),
        ("-0", "0", True),
        ("", "", False),
        ("18", "18.01", False),
    ],
)
def test_equality_of_numbers_is_exact(first: str, second: str, equal: bool) -> None:
    assert same(first, second, "number") is equal


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("The Browns", ("browns",), True),
        ("three-yard", ("3-yard",), True),
        ("3 yards", ("3",), True),
        ("3 of the 5", ("3",), True),
        ("3 million", ("3",), False),
        ("3,420 people", ("3420",), True),
        ("yards 3", ("3",), False),
        ("5", ("five days", "5"), True),
        ("Weir and Orton", ("Orton and Weir",), True),
        ("Weir, Orton", ("Orton and Weir",), True),
        ("Weir", ("Orton and Weir",), False),
        ("Orton", ("Weir", "Pike"), False),
        ("1,939", ("1939",), True),
        ("", ("",), False),
    ],
)
def test_spans_match_as_drop_compares_them(answer: str, accepted, right: bool) -> None:
    assert matches(answer, accepted, "span") is right


@pytest.mark.parametrize(
    ("answer", "gold", "kind", "right"),
    [
        ("B", "B", "choice", True),
        ("b", "(B)", "choice", True),
        ("A", "B", "choice", False),
        ("yes", "True", "yes_no", True),
        ("no", "True", "yes_no", False),
        ("no", "it is not possible to tell", "nli", False),
        ("it is not possible to tell", "it is not possible to tell", "nli", True),
    ],
)
def test_the_other_types_match_by_meaning(answer, gold, kind, right) -> None:
    assert matches(answer, (gold,), kind) is right
