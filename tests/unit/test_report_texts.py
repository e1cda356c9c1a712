"""The table of texts as data: what is joined to a text from the steps that read it, and what a page bears."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest
from tests.run_of_texts import HOSTILE, made

from selfimprove.report import links as links_module
from selfimprove.report.links import Links
from selfimprove.report.page import write
from selfimprove.report.run_folder import read_run
from selfimprove.report.sections import texts as section
from selfimprove.report.texts import steps_with_texts, texts_of


def test_a_text_knows_what_it_was_asked_scored_and_chosen_for(tmp_path: Path) -> None:
    links = Links(read_run(made(tmp_path / "run", 60)))
    assert steps_with_texts(links) == ["m1-candidates"]  # verdicts without words are no texts
    texts = list(texts_of(links, "m1-candidates"))
    assert len(texts) == 60
    assert texts[3].outcomes == {"chosen"}
    assert texts[0].outcomes == {"rejected"}
    assert texts[5].asked == "Prompt 1 of an owl"
    assert texts[6].scores == (("m1-verdicts", 1.0),)
    assert texts[49].scores == ()  # its verdict could not be read
    assert texts[5].tokens == 15


def test_what_is_said_twice_is_held_once_and_hostile_text_cannot_leave_its_script(
    tmp_path: Path,
) -> None:
    root = made(tmp_path / "run", 60)
    held = section.embedded(read_run(root))
    assert held["text"][7] == HOSTILE
    assert len(held["prompts"]) == 16  # 15 prompts and the empty one
    assert held["prompts"][held["asked"][59]] == "Prompt 14 of an owl"
    page = write([root], root / "report.html").read_text(encoding="utf-8")
    assert "<img" not in page
    (data,) = [part for part in page.split("<script type=") if "run-1-texts-data" in part[:60]]
    told = json.loads(data.partition(">")[2].partition("</script>")[0])
    assert told["text"][7] == HOSTILE


def test_a_page_holds_as_many_as_it_bears_always_the_same_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = read_run(made(tmp_path / "run", 60))
    monkeypatch.setattr(section, "_MOST_TEXTS", 10)
    first = section.embedded(run)
    assert (len(first["text"]), first["total"]) == (10, 60)
    assert section.embedded(run) == first
    monkeypatch.setattr(section, "_MOST_IN_ALL", 100)  # characters
    assert 0 < sum(map(len, section.embedded(run)["text"])) <= 100


def test_pages_of_several_runs_hold_no_texts(tmp_path: Path) -> None:
    runs = [made(tmp_path / name, 8) for name in ("one", "two")]
    assert "texts-data" not in write(runs, tmp_path / "page.html").read_text(encoding="utf-8")


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(links_module).failed == 0
