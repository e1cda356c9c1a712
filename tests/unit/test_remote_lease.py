"""One writer at a time: who beats stays, who is silent is replaced and publishes nothing more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from tests.objects_in_memory import Memory

from selfimprove.errors import LockedRunError, RemoteError
from selfimprove.remote import lease as module
from selfimprove.remote.lease import LOCK, Lease

_SECONDS = 0.2


@pytest.fixture
def place() -> Memory:
    return Memory()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_SETTLE_S", 0.02)
    yield


def _silent(_line: str) -> None:
    """Announce nothing."""


def _stopped(lease: Lease) -> None:
    """Stop a writer's signs of life, as a kill would."""
    lease._ended.set()
    assert lease._thread is not None
    lease._thread.join()


@pytest.mark.parametrize("conditional", [True, False])
def test_a_second_writer_is_refused_and_told_who_writes(*, conditional: bool) -> None:
    place = Memory(conditional=conditional)
    first, second = Lease(place, "a", _SECONDS), Lease(place, "b", _SECONDS)
    assert first.take(_silent) == 0
    with pytest.raises(LockedRunError, match=r"being written by .*process \d+.*--out"):
        second.take(_silent)
    first.require()
    first.release()


def test_what_was_given_back_is_taken_at_once(place: Memory) -> None:
    first, second = Lease(place, "a", 60.0), Lease(place, "b", 60.0)
    first.take(_silent)
    first.release()
    started = time.monotonic()
    assert second.take(_silent) == 1
    assert second.term == 2
    assert time.monotonic() - started < 1
    second.release()


def test_a_dead_writer_is_outlived_and_cannot_publish_when_it_wakes_up(place: Memory) -> None:
    first, second = Lease(place, "a", _SECONDS), Lease(place, "b", _SECONDS)
    first.take(_silent)
    _stopped(first)
    said: list[str] = []
    assert second.take(said.append) == 1
    assert "waiting up to" in said[0]
    with pytest.raises(LockedRunError, match="nothing more is published from here"):
        first.require()
    second.require()
    first.release()  # changes nothing
    assert json.loads(place.held[LOCK])["term"] == 2
    assert not json.loads(place.held[LOCK])["released"]
    second.release()


def test_a_dead_writer_of_this_working_copy_is_replaced_at_once(place: Memory) -> None:
    first = Lease(place, "a", 60.0)
    first.take(_silent)
    _stopped(first)
    again = Lease(place, "a", 60.0)
    started = time.monotonic()
    assert again.take(_silent) == 1
    assert time.monotonic() - started < 1
    again.release()


def test_a_sign_of_life_whose_answer_was_lost_is_no_loss(place: Memory) -> None:
    lease = Lease(place, "a", 60.0)
    lease.take(_silent)
    told = json.loads(place.held[LOCK])
    place.put(LOCK, json.dumps({**told, "beat": told["beat"] + 1}).encode())  # it came through
    lease.renew()
    lease.require()
    assert json.loads(place.held[LOCK])["beat"] == 2
    lease.release()


def test_who_cannot_tell_whether_it_still_writes_does_not_publish(place: Memory) -> None:
    lease = Lease(place, "a", _SECONDS)
    lease.take(_silent)
    _stopped(lease)
    time.sleep(_SECONDS)
    place.down = True
    with pytest.raises(RemoteError, match="cannot be reached"):
        lease.require()
    place.down = False
    lease.require()


def test_a_lock_that_cannot_be_read_is_named(place: Memory) -> None:
    place.put(LOCK, b"{")
    with pytest.raises(RemoteError, match=r"s3://bucket/run/lock.json is damaged.*delete it"):
        Lease(place, "a", _SECONDS).take(_silent)
