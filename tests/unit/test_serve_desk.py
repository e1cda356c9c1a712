"""The queue of the server: oldest first, so many at once, and nobody is answered who has gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.serve.asks import Answer, Ask, Gone, Line
from selfimprove.serve.desk import Busy, Desk, Ticket
from selfimprove.serve.protocol import Improve


class _Slow:
    """Echoes, once it may; notes what it was asked, in turn."""

    def __init__(self) -> None:
        self.may, self.begun = threading.Event(), threading.Event()
        self.seen: list[str] = []

    def __call__(self, ask: Ask, line: Line) -> list[Answer]:
        self.seen.append(ask.key)
        self.begun.set()
        assert self.may.wait(10)
        if ask.key == "bad":
            raise EngineError("does not fit")
        return [Answer(ask.key, "stop")]


def _ask(key: str) -> Ask:
    return Ask(key, "text", SamplingConfig(), Improve())


@pytest.fixture
def slow() -> _Slow:
    return _Slow()


@pytest.fixture
def desk(slow: _Slow) -> Iterator[Desk]:
    desk = Desk(slow, waiting=4, together=1)
    yield desk
    slow.may.set()
    desk.close()


def _blocked(desk: Desk, slow: _Slow) -> Ticket:
    """Let the thread be busy, so that what comes now waits."""
    ticket = desk.take(_ask("first"))
    assert slow.begun.wait(10)
    return ticket


def test_the_oldest_goes_first_and_a_bad_one_fails_alone(desk: Desk, slow: _Slow) -> None:
    _blocked(desk, slow)
    tickets = {key: desk.take(_ask(key)) for key in ("a", "bad", "b")}
    slow.may.set()
    with pytest.raises(EngineError, match="does not fit"):
        tickets.pop("bad").found.result(10)
    assert [t.found.result(10)[0].text for t in tickets.values()] == ["a", "b"]
    assert slow.seen == ["first", "a", "bad", "b"]


def test_as_many_are_answered_at_once_as_may(slow: _Slow) -> None:
    desk = Desk(slow, waiting=5, together=3)  # none may be taken up yet when the last one comes
    tickets = [desk.take(_ask(str(i))) for i in range(5)]
    deadline = time.monotonic() + 10
    while desk.answered < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (desk.answered, desk.waiting) == (3, 2)
    slow.may.set()
    assert [t.found.result(10)[0].text for t in tickets] == list("01234")
    desk.close()
    assert (desk.answered, desk.waiting) == (0, 0)


def test_no_more_wait_than_may_and_who_leaves_makes_room(desk: Desk, slow: _Slow) -> None:
    _blocked(desk, slow)
    tickets = [desk.take(_ask(str(i))) for i in range(4)]
    with pytest.raises(Busy, match="4 requests wait already"):
        desk.take(_ask("fifth"))
    tickets[1].cancel()
    last = desk.take(_ask("fifth"))
    slow.may.set()
    assert last.found.result(10)[0].text == "fifth"
    assert slow.seen[1:] == ["0", "2", "3", "fifth"]
    assert desk.waiting == 0


def test_who_waits_when_it_closes_is_told(desk: Desk, slow: _Slow) -> None:
    _blocked(desk, slow)
    late = desk.take(_ask("late"))
    closing = threading.Thread(target=desk.close)
    closing.start()
    with pytest.raises(CancelledError):
        late.found.result(10)
    slow.may.set()
    closing.join(10)
    assert not desk.answers
    assert slow.seen == ["first"]


def test_what_is_under_way_for_a_client_that_hangs_up_is_given_up() -> None:
    given_up = threading.Event()

    class _Draws:
        def cancel(self) -> None:
            given_up.set()

    def answering(ask: Ask, line: Line) -> list[Answer]:
        line.waits_for(_Draws())
        assert given_up.wait(10)
        line.refuse_if_gone()
        return []

    desk = Desk(answering, waiting=1, together=1)
    ticket = desk.take(_ask("a"))
    while not desk.answered:
        time.sleep(0.01)
    ticket.cancel()
    with pytest.raises(Gone):
        ticket.found.result(10)
    desk.close()
