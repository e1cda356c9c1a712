"""Expressions are compared in another process, which may hang or die without taking us along."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from selfimprove.answers import maths
from selfimprove.answers.answers import MathChecker, extract, matches, same, vote
from selfimprove.answers.maths import looks_like_maths


@pytest.fixture(scope="module")
def checker() -> Iterator[MathChecker]:
    found = MathChecker(limit_s=5.0)
    yield found
    found.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (r"2\sqrt{3}", r"\sqrt{12}", True),
        (r"\frac{\sqrt{3}}{2}", r"\sqrt{3}/2", True),
        ("10^3", "1000", True),
        (r"\pi", "3.14", False),
        (r"2\sqrt{3}", r"3\sqrt{2}", False),
        ("x+1", "1+x", True),
        ("x=1", "x=2", False),
    ],
)
def test_expressions_are_equal_by_value(checker, first: str, second: str, equal: bool) -> None:
    assert checker.same(first, second) is equal
    assert checker.same(second, first) is equal


@pytest.mark.slow
def test_it_works_outside_the_main_thread(checker: MathChecker) -> None:
    """math-verify itself raises there."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(checker.same(r"\sqrt{8}", r"2\sqrt{2}")))
    thread.start()
    thread.join(timeout=60)
    assert found == [True]


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced_and_its_pair_is_unequal() -> None:
    checker = MathChecker(limit_s=1.0)
    try:
        assert not checker.same("9^{9^{9^{9}}}", "9^{9^{9^{8}}}+1")
        assert checker.same("2^{3}", "8")
        timeouts = checker.timeouts
        assert not checker.same("9^{9^{9^{9}}}", "9^{9^{9^{8}}}+1")  # known, not tried again
        assert checker.timeouts == timeouts
    finally:
        checker.close()


@pytest.mark.slow
def test_a_worker_that_gets_no_processor_for_a_while_is_waited_for() -> None:
    checker = MathChecker(limit_s=1.0)
    try:
        assert checker.same("2^{3}", "8")
        assert checker._worker is not None
        worker = checker._worker.pid
        os.kill(worker, signal.SIGSTOP)
        threading.Timer(2.0, os.kill, (worker, signal.SIGCONT)).start()
        assert checker.same("3^{3}", "27")
        assert checker.timeouts == 0
    finally:
        checker.close()


@pytest.mark.slow
def test_a_worker_that_was_killed_is_replaced(checker: MathChecker) -> None:
    assert checker.same("3^{2}", "9")
    checker.close()
    assert checker.same("3^{3}", "27")


@pytest.mark.slow
def test_expressions_flow_through_extract_vote_and_matches() -> None:
    answers = [
        extract(text, "number")
        for text in (
            r"The answer is $\boxed{2\sqrt{3}}$.",
            r"The answer is \(\sqrt{12}\).",
            "The answer is 3.",
        )
    ]
    assert answers == [r"2\sqrt{3}", r"\sqrt{12}", "3"]
    assert vote(answers, "number").members == (0, 1)
    assert matches(r"\sqrt{12}", (r"2\sqrt{3}",), "number")


def test_plain_answers_never_start_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(first: str, second: str) -> bool:
        raise AssertionError(f"compared {first} with {second} in another process")

    monkeypatch.setattr("selfimprove.answers.equality.same_maths", refuse)
    assert same("1/2", "0.5", "number")
    assert not same("1/3", "0.3", "number")
    assert not same("18 eggs", "nineteen", "number")
    assert not same("A", "B", "choice")


def test_prose_and_very_long_texts_are_not_maths() -> None:
    assert not looks_like_maths("the red one")
    assert not looks_like_maths("x^2 + " * 100)
    assert maths.looks_like_maths("x^2")
