"""The queue that replicas share, with workers that are threads of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from selfimprove.errors import EngineError
from selfimprove.sampling import crew
from selfimprove.sampling.crew import Crew, DiedError
from selfimprove.sampling.in_order import in_order


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_LOOK", 0.01)


@dataclass
class _Workers:
    """Doubles numbers; `deadly` ones end whoever takes them, as often as is said."""

    deadly: dict[int, int] = field(default_factory=dict)
    unable: int = 0
    """Of those that are hired first, how many cannot begin."""
    early: int = 0
    """Likewise, how many die before they are ready."""
    hired: list[_Worker] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hire(self) -> _Worker:
        self.hired.append(_Worker(self, len(self.hired)))
        return self.hired[-1]


@dataclass
class _Worker:
    of: _Workers
    number: int
    left: threading.Event = field(default_factory=threading.Event)

    def join(self) -> None:
        if self.number < self.of.unable:
            raise EngineError(f"node {self.number} does not see the model")
        if self.number < self.of.unable + self.of.early:
            raise DiedError("killed while it loaded")

    def lives(self) -> bool:
        return not self.left.is_set()

    def do(self, asked: int) -> int:
        with self.of.lock:
            self.of.under_way += 1
            self.of.most = max(self.of.most, self.of.under_way)
        time.sleep(0.002)
        with self.of.lock:
            self.of.under_way -= 1
            dies = self.of.deadly.get(asked, 0) > 0
            if dies:
                self.of.deadly[asked] -= 1
        if dies or (asked < 0 and self.left.wait(10)):
            self.left.set()
            raise DiedError("killed")
        if asked == 99:
            raise ValueError("a bug")
        return 2 * asked

    def leave(self) -> None:
        self.left.set()


def _crew(workers: _Workers, wanted: Callable[[], int] = lambda: 3) -> Crew[int, int]:
    return Crew(workers.hire, wanted)


def _results(of: Crew[int, int], asked: range) -> list[int]:
    return [f.result(10) for f in [of.submit(n) for n in asked]]


def test_work_is_done_by_all_of_them_and_each_piece_once():
    workers = _Workers()
    with closing(_crew(workers)) as of:
        assert _results(of, range(60)) == [2 * n for n in range(60)]
    assert workers.most == len(workers.hired) == 3


def test_what_a_worker_that_died_had_begun_is_done_by_another_and_it_is_replaced():
    workers = _Workers(deadly={5: 2})
    with closing(_crew(workers)) as of:
        assert _results(of, range(30)) == [2 * n for n in range(30)]
        _until(lambda: of.at_once == 6)
    assert len(workers.hired) == 5


def test_work_that_every_worker_dies_of_is_given_up_and_the_rest_is_done():
    workers = _Workers(deadly={5: 99})
    with closing(_crew(workers)) as of:
        first, deadly, last = (of.submit(n) for n in (4, 5, 6))
        with pytest.raises(EngineError, match="3 replicas died over the same prompts"):
            deadly.result(10)
        assert (first.result(10), last.result(10)) == (8, 12)


def test_one_that_died_while_it_had_nothing_to_do_is_not_the_works_fault():
    workers = _Workers()
    with closing(_crew(workers, lambda: 4)) as of:
        of.wait_for_one()
        _until(lambda: of.at_once == 8)
        for worker in workers.hired:
            worker.left.set()
        assert _results(of, range(8)) == [2 * n for n in range(8)]


def test_workers_join_as_there_is_room():
    room = [1]
    workers = _Workers()
    with closing(_crew(workers, lambda: room[0])) as of:
        of.wait_for_one()
        assert of.at_once == 2
        room[0] = 4
        _until(lambda: of.at_once == 8)


def test_where_none_can_begin_the_first_reason_is_told_at_once():
    workers = _Workers(unable=99)
    with closing(_crew(workers, lambda: 1)) as of:
        with pytest.raises(EngineError, match="does not see the model"):
            of.wait_for_one()
        with pytest.raises(EngineError, match="does not see the model"):
            of.submit(1).result(10)
    assert len(workers.hired) == 1


def test_one_node_that_cannot_is_left_out_and_not_tried_again():
    workers = _Workers(unable=1)
    with closing(_crew(workers)) as of:
        assert _results(of, range(20)) == [2 * n for n in range(20)]
        time.sleep(0.1)
        assert of.at_once == 4
    assert len(workers.hired) == 3


def test_one_that_dies_while_it_loads_is_replaced_but_not_for_ever():
    workers = _Workers(early=2)
    with closing(_crew(workers, lambda: 1)) as of:
        assert _results(of, range(3)) == [0, 2, 4]
    assert len(workers.hired) == 3
    with (
        closing(_crew(_Workers(early=99), lambda: 1)) as of,
        pytest.raises(EngineError, match="while it loaded"),
    ):
        of.wait_for_one()


def test_an_error_of_the_work_itself_is_the_askers_and_ends_nobody():
    workers = _Workers()
    with closing(_crew(workers, lambda: 1)) as of:
        with pytest.raises(ValueError, match="a bug"):
            of.submit(99).result(10)
        assert of.submit(1).result(10) == 2
    assert len(workers.hired) == 1


def test_closing_ends_what_is_under_way_and_what_waits_and_leaves_no_thread():
    before = threading.active_count()
    workers = _Workers()
    of = _crew(workers, lambda: 1)
    endless, waiting = of.submit(-1), of.submit(1)
    _until(lambda: workers.most == 1)
    of.close()
    of.close()
    for future in (endless, waiting, of.submit(2)):
        with pytest.raises(EngineError, match="closed"):
            future.result(10)
    assert threading.active_count() == before


def test_a_cluster_that_is_gone_ends_the_work():
    told = iter([1])

    def wanted() -> int:
        for number in told:
            return number
        raise EngineError("the Ray cluster no longer answers")

    with (
        closing(_crew(_Workers(), wanted)) as of,
        pytest.raises(EngineError, match="no longer answers"),
    ):
        of.submit(-1).result(5)


def test_results_come_in_order_and_no_more_is_begun_than_was_asked():
    begun: list[int] = []
    taken = 0

    def items() -> Iterator[int]:
        for number in range(40):
            begun.append(number)
            yield number

    def make(number: int) -> int:
        time.sleep(0.01 if number % 4 == 0 else 0)
        return number

    for number in in_order(make, items(), lambda: 5):
        assert number == taken
        taken += 1
        assert len(begun) - taken <= 5
    assert taken == 40


def _until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.005)
