"""The table of texts in a real browser: what it shows, finds, sorts and opens, with 50,000 of them.

Runs where SELFIMPROVE_BROWSER is set, as `make test-browser` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.chromium import Page, browser, find
from tests.run_of_texts import HOSTILE, made

from selfimprove.report.page import write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_BROWSER" not in os.environ or find() is None,
        reason="needs Chromium and some seconds: `make test-browser`",
    ),
]

_MANY = 50_000


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.size(1100, 820)
        yield opened


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(made(tmp_path_factory.mktemp("run") / "small", 100))


def page_of(root: Path) -> Path:
    return write([root], root / "report.html")


def found(page: Page) -> str:
    return str(page.run("document.querySelector('.found').textContent"))


def column(page: Page, name: str) -> list[str]:
    return list(
        page.run(f"[...document.querySelectorAll('.rows .line .{name}')].map(e => e.textContent)")
    )


def typed(page: Page, field: str, value: str) -> None:
    page.run(f"(() => {{ const field = document.querySelector('.table-of-texts [name={field}]');"
             f"field.value = {value!r}; field.dispatchEvent(new Event('input', {{bubbles: true}})); }})()")  # fmt: skip


def test_all_texts_are_there_and_hostile_text_stays_text(page: Page, small: Path) -> None:
    page.open(small)
    assert found(page) == "100 texts"
    typed(page, "q", "onerror")
    page.wait("document.querySelector('.found').textContent.startsWith('1 of')")
    assert HOSTILE[:30] in column(page, "said")[0]
    assert page.run("document.querySelectorAll('.rows img, .rows b, .rows script').length") == 0
    assert page.complaints == []


def test_words_are_sought_in_prompts_and_texts_and_all_must_be_there(
    page: Page, small: Path
) -> None:
    page.open(small, "#run-1-texts?q=OWL%20%22")
    assert found(page) == "0 of 100 texts"
    assert page.run("document.querySelector('.nothing').textContent")
    page.open(small, "#run-1-texts?q=owl%20Text%2099:")
    assert found(page) == "1 of 100 texts"
    assert page.run("document.querySelector('.rows mark').textContent") == "owl"


def test_filters_by_step_outcome_and_score(page: Page, small: Path) -> None:
    page.open(small, "#run-1-texts?was=chosen")
    assert found(page) == "1 of 100 texts"
    assert column(page, "was") == ["chosen"]
    page.open(small, "#run-1-texts?from=3&to=3")
    assert found(page) == "20 of 100 texts"
    page.open(small, "#run-1-texts?from=4")
    assert found(page) == "18 of 100 texts"  # 20, less the two that could not be judged


def test_a_heading_sorts_both_ways_and_what_has_no_score_stands_last(
    page: Page, small: Path
) -> None:
    page.open(small)
    for clicks, first in ((1, "4"), (2, "0"), (3, "0")):
        page.run("document.querySelector('.rows .head .score button').click()")
        assert column(page, "score")[0] == first, clicks
    page.run("document.querySelector('.rows .head .score button').click()")
    assert page.run("location.hash") == "#run-1-texts?sort=-score"
    page.run("document.querySelector('.rows').focus()")
    page.press("End")
    page.wait("document.querySelector('.rows .line:last-child .score').textContent === '–'")
    assert (
        page.run("document.querySelector('.rows .head .score').getAttribute('aria-sort')")
        == "descending"
    )


def test_the_keyboard_alone_moves_opens_turns_and_closes(page: Page, small: Path) -> None:
    page.open(small)
    page.press("/")
    assert page.run("document.activeElement.name") == "q"
    page.run("document.querySelector('.rows').focus()")
    page.press("ArrowDown")
    page.press("ArrowDown")
    assert page.run("document.getElementById(document.querySelector('.rows').getAttribute('aria-activedescendant'))"
                    ".getAttribute('aria-rowindex')") == "4"  # fmt: skip
    page.press("Enter")
    assert page.run("document.querySelector('.reader').open")
    assert "Text 2" in page.run("document.querySelector('.reader .written').textContent")
    page.press("ArrowRight")
    assert "Text 3" in page.run("document.querySelector('.reader .written').textContent")
    assert "chosen" in page.run("document.querySelector('.reader header').textContent")
    page.press("Escape")
    page.wait("!document.querySelector('.reader').open")
    assert page.run("document.activeElement.className") == "rows"
    assert page.complaints == []


@pytest.mark.parametrize(("width", "dark"), [(400, False), (400, True), (1100, True)])
def test_nothing_is_wider_than_the_window(page: Page, small: Path, width: int, dark: bool) -> None:
    page.size(width, 800, dark=dark)
    page.open(small)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert column(page, "said")
    page.size(1100, 820)


def test_fifty_thousand_texts_are_searched_while_few_rows_exist(page: Page, tmp_path: Path) -> None:
    file = page_of(made(tmp_path / "many", _MANY, length=40))
    page.open(file)
    paint = page.run("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert found(page) == "50,000 texts"
    assert page.run("document.querySelectorAll('.rows .line').length") < 60
    search = page.run("(() => { const t = performance.now(); document.querySelector('[name=q]').value = '49999';"
                      "document.querySelector('.table-of-texts form').dispatchEvent(new Event('input')); return t; })()")  # fmt: skip
    page.wait("document.querySelector('.found').textContent.startsWith('1 of')")
    took = page.run(f"performance.now() - {search}")
    assert paint < 5_000  # ms; 470 ms on two busy cores
    assert took < 10_000  # ms; 560 ms there
    assert page.complaints == []
