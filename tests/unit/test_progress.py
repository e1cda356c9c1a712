"""Progress bars: who gets to see one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from selfimprove.progress import bar, track


def test_items_pass_unchanged_and_unseen_where_nobody_watches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert list(track(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_notebook_sees_what_is_done_and_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    assert list(track(range(3), "letters", 3)) == [0, 1, 2]
    with bar("steps", 10, done=4) as shown:
        shown.set_postfix(loss="0.123")
    said = capsys.readouterr().err
    assert "letters" in said
    assert "4/10" in said
    assert "loss=0.123" in said


def test_what_makes_the_items_ends_with_who_takes_them() -> None:
    ended: list[bool] = []

    def letters() -> Iterator[str]:
        try:
            yield from "abc"
        finally:
            ended.append(True)

    taken = track(letters(), "letters", 3)
    assert next(taken) == "a"
    taken.close()  # type: ignore[attr-defined]
    assert ended == [True]
