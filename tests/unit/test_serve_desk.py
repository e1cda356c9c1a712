"""The queue of the server: oldest first, of a kind together, and nobody is answered who has gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import pytest

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.serve.desk import Busy, Desk
from selfimprove.serve.protocol import Improve
from selfimprove.serve.ways import Answer, Ask


class _Slow:
    """Echoes, once it may; notes what it was asked together."""

    def __init__(self) -> None:
        self.may, self.begun = threading.Event(), threading.Event()
        self.seen: list[list[str]] = []

    def __call__(self, asks: Sequence[Ask]) -> list[list[Answer]]:
        self.seen.append([ask.key for ask in asks])
        self.begun.set()
        assert self.may.wait(10)
        if any(ask.key == "bad" for ask in asks):
            raise EngineError("does not fit")
        return [[Answer(ask.key, "stop", 1)] for ask in asks]


def _ask(key: str, method: str = "none", temperature: float = 0.0) -> Ask:
    improve = Improve.model_validate({"method": method})
    return Ask(key, "text", SamplingConfig(temperature=temperature), improve)


@pytest.fixture
def slow() -> _Slow:
    return _Slow()


@pytest.fixture
def desk(slow: _Slow) -> Iterator[Desk]:
    desk = Desk(slow, waiting=4, together=3)
    yield desk
    slow.may.set()
    desk.close()


def _blocked(desk: Desk, slow: _Slow) -> None:
    """Let the thread be busy, so that what comes now waits."""
    desk.take(_ask("first"))
    assert slow.begun.wait(10)


def test_what_is_alike_is_answered_together_and_the_oldest_first(desk: Desk, slow: _Slow) -> None:
    _blocked(desk, slow)
    asked = [_ask("a"), _ask("b", "vote"), _ask("c"), _ask("d", temperature=1.0)]
    tickets = [desk.take(ask) for ask in asked]
    slow.may.set()
    assert [t.found.result(10)[0].text for t in tickets] == ["a", "b", "c", "d"]
    assert slow.seen == [["first"], ["a", "c"], ["b"], ["d"]]


def test_no_more_wait_than_may_and_who_leaves_makes_room(desk: Desk, slow: _Slow) -> None:
    _blocked(desk, slow)
    tickets = [desk.take(_ask(str(i))) for i in range(4)]
    with pytest.raises(Busy, match="4 requests wait already"):
        desk.take(_ask("fifth"))
    tickets[1].cancel()
    last = desk.take(_ask("fifth"))
    slow.may.set()
    assert last.found.result(10)[0].text == "fifth"
    assert slow.seen[1:] == [["0", "2", "3"], ["fifth"]]
    assert desk.waiting == 0


def test_one_bad_prompt_fails_alone(desk: Desk, slow: _Slow) -> None:
    _blocked(desk, slow)
    good, bad = desk.take(_ask("good")), desk.take(_ask("bad"))
    slow.may.set()
    assert good.found.result(10)[0].text == "good"
    with pytest.raises(EngineError, match="does not fit"):
        bad.found.result(10)


def test_a_bad_prompt_costs_the_others_little(slow: _Slow) -> None:
    desk = Desk(slow, waiting=40, together=40)
    _blocked(desk, slow)
    tickets = [desk.take(_ask("bad" if i == 5 else str(i))) for i in range(32)]
    slow.may.set()
    for i, ticket in enumerate(tickets):
        assert (ticket.found.exception(10) is not None) == (i == 5)
    desk.close()
    assert len(slow.seen) <= 2 + 2 * 5


def test_two_of_one_key_are_not_drawn_together(desk: Desk, slow: _Slow) -> None:
    _blocked(desk, slow)
    tickets = [desk.take(_ask("same")), desk.take(_ask("same"))]
    slow.may.set()
    for ticket in tickets:
        ticket.found.result(10)
    assert slow.seen[1:] == [["same"], ["same"]]


def test_who_waits_when_it_closes_is_told(slow: _Slow) -> None:
    desk = Desk(slow, waiting=4, together=3)
    _blocked(desk, slow)
    late = desk.take(_ask("late"))
    closing = threading.Thread(target=desk.close)
    closing.start()
    with pytest.raises(CancelledError):
        late.found.result(10)
    slow.may.set()
    closing.join(10)
    assert not desk.answers
    assert slow.seen == [["first"]]
