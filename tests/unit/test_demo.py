"""The demo's order: which runs are begun, which stand beside each other, and what is said when one fails."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from selfimprove.cli_demo import demo


def _calling(
    called: list[list[str]], fails: Callable[[list[str]], bool]
) -> Callable[..., SimpleNamespace]:
    def run(words: Sequence[str], *, env: Any, stdout: Any, **_: Any) -> SimpleNamespace:
        assert env["OMP_NUM_THREADS"] == "1"
        told = list(words[3:])
        called.append(told)
        if stdout is not None:
            stdout.write("first line\nlast line\n")
        return SimpleNamespace(returncode=int(fails(told)))

    return run


def test_every_recipe_is_run_and_the_page_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", _calling(called, lambda _: False))
    demo(tmp_path)
    recipes = [words[1] for words in called if words[0] == "run"]
    assert sorted(recipes) == ["lmsi-tiny", "lmsi-tiny", "pit-tiny", "self-rewarding-tiny"]
    assert called[-1][0] == "report"
    assert called[-1][-1] == str(tmp_path / "report.html")
    assert "first line" in (tmp_path / "control.log").read_text()
    assert "report.html" in capsys.readouterr().out


def test_a_run_that_fails_beside_the_others_ends_the_demo_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", _calling([], lambda words: "pit-tiny" in words))
    with pytest.raises(typer.Exit):
        demo(tmp_path)
    assert "last line" in capsys.readouterr().err


def test_a_run_that_fails_in_front_ends_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", _calling([], lambda words: "lmsi-tiny" in words))
    with pytest.raises(typer.Exit):
        demo(tmp_path)
