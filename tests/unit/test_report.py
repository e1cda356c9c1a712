"""The report: what it claims, what it holds, and that hostile text stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from selfimprove.evaluation.judge_quality import card
from selfimprove.report.figures import figures
from selfimprove.report.page import write
from selfimprove.rows import Batch, Drop, Filtered, Funnel
from selfimprove.store import Run
from selfimprove.types import Response, Verdict

HOSTILE = (
    "</script><script>alert(1)</script> <img src=x onerror=alert(2)> {{ 7 * 7 }} {% raw %} "
    "<!-- <script> &lt;b&gt; \u202elive\u202c مرحبا \u2028\u2029"
)


@dataclass(frozen=True, slots=True)
class DrawnPath:
    question_id: str
    index: int
    text: str
    answer: str | None
    finish: str
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Class:
    answer: str
    votes: int


@dataclass(frozen=True, slots=True)
class Vote:
    question_id: str
    dataset: str
    question: str
    winner: str | None
    confidence: float
    tied: bool
    paths: int
    silent: int
    agreeing: tuple[int, ...]
    classes: tuple[Class, ...]


def draw_paths(chunks: list[list[str]], paths: int) -> Iterator[Batch[DrawnPath]]:
    for chunk in chunks:
        drawn = [
            DrawnPath(q, i, f"{q} path {i} {HOSTILE}", "18", "stop", 20)
            for q in chunk
            for i in range(paths)
        ]
        yield Batch(drawn, tokens_sampled=20 * len(drawn), prompt_tokens=10 * len(drawn))


def vote(ids: list[str], paths: int) -> Filtered[Vote]:
    """Question 0 is unanimous, question 1 a split vote with a winner, question 2 a tie."""
    votes = []
    for i, q in enumerate(ids):
        classes = ((Class("18", paths),), (Class("18", 3), Class("19", 1)))[min(i, 1)]
        if i == 2:
            classes = (Class("18", 2), Class("19", 2))
        winner = None if i == 2 else "18"
        agreeing = () if i == 2 else tuple(range(paths))
        text = f"{q}: {HOSTILE}"
        votes.append(Vote(q, "tiny", text, winner, 0.5, i == 2, paths, 0, agreeing, classes))
    return Filtered(votes, (Funnel("tied <b>votes</b>", len(ids), len(ids), (Drop(HOSTILE, 1),)),))


def keep(ids: list[str]) -> Filtered[DrawnPath]:
    return Filtered([DrawnPath(q, 1, "", "18", "stop", 20) for q in ids], ())


def score(value: float, difference: float | None = None) -> dict[str, Any]:
    paired = difference and {"difference": difference, "interval": [difference, difference]}
    return {
        "set": "test", "domain": "in", "mode": "cot", "metric": "accuracy", "value": value,
        "interval": [value - 0.05, value + 0.05], "n": 500, "unanswered": 3, "mean_tokens": 31.2,
        "versus_base": paired and {**paired, "wins": 80, "losses": 20, "ties": 400},
    }  # fmt: skip


def summary(interval: tuple[float, float] = (0.08, 0.16)) -> dict[str, Any]:
    middle = sum(interval) / 2
    bins = [
        {"low": 0.0, "high": 0.5, "n": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "n": 12, "confidence": 0.8, "accuracy": 0.75},
    ]
    return {
        "method": "lmsi", "title": f"A title {HOSTILE}", "model": "tiny", "seed": 0,
        "headline": {
            "metric": "greedy accuracy", "set": "test", "before": 0.61, "after": 0.61 + middle,
            "difference": middle, "interval": list(interval), "n": 500,
        },
        "arms": [
            {"name": "base", "kind": "base", "round": 0, "scores": [score(0.61)]},
            {"name": HOSTILE, "kind": "method", "round": 1, "scores": [score(0.73, 0.12)]},
            {"name": "second draw", "kind": "control", "round": 1, "scores": [score(0.62, 0.01)]},
        ],
        "calibration": [{"arm": "base", "set": "test", "bins": bins}],
        "gate": [{"round": 1, "promoted": True, "difference": 0.1, "interval": [0.05, 0.15],
                  "n": 300, "set": "dev", "reason": HOSTILE}],
        "labels": [{"round": 1, "questions": 3, "path": {"value": 0.6, "interval": [0.4, 0.8]},
                    "vote": {"value": 0.7, "interval": [0.5, 0.9]},
                    "difference": {"value": 0.1, "interval": [0.0, 0.2]},
                    "kept_paths": 9, "kept_right": None}],
    }  # fmt: skip


LINEAGE = [{"round": 1, "role": "student", "name": HOSTILE, "digest": "ab" * 32, "parent": "cd" * 32,
            "data_step": "round-1-examples", "data_digest": "ef" * 32, "promoted": True,
            "reason": HOSTILE}]  # fmt: skip


def build(
    root: Path, told: dict[str, Any] | None = None, *, questions: int = 3, paths: int = 4
) -> Path:
    """Make a run folder as a method does; without a summary it is an unfinished one."""
    run = Run(root)
    run.write("recipe.json", {"method": "lmsi", "model": "tiny", "seed": 7, "a": {"b": HOSTILE}})
    ids = [f"q{i}" for i in range(questions)]
    run.sharded("round-1-paths", draw_paths, ids, paths, shard_items=2)
    run.rows("round-1-votes", vote, ids, paths)
    if told is not None:
        run.rows("round-1-kept", keep, ids[:2])
        run.write("lineage.json", LINEAGE)
        run.write("summary.json", told)
    run.close()
    return root


class Page(HTMLParser):
    """What a browser would see: elements, their attributes, their text, and the data blocks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)
        elif self._open != "style":
            self.text += data

    def samples(self) -> list[dict[str, Any]]:
        (block,) = [text for attrs, text in self.scripts if attrs.get("id") == "run-1-samples-data"]
        held: list[dict[str, Any]] = json.loads(block)
        return held


def test_hostile_text_adds_no_element_and_no_handler_and_is_not_a_template(tmp_path: Path) -> None:
    page = Page(write([build(tmp_path / "run", summary())], tmp_path / "page.html"))
    assert len(page.scripts) == 3  # data of samples and of texts, and the page's own script
    assert not {"img", "iframe", "object", "link"} & {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert "<img src=x onerror=alert(2)> {{ 7 * 7 }} {% raw %}" in page.text
    assert page.samples()[0]["question"] == f"q0: {HOSTILE}"


def test_the_page_may_run_its_own_script_and_fetch_nothing(tmp_path: Path) -> None:
    page = Page(write([build(tmp_path / "run", summary())], tmp_path / "page.html"))
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    (script,) = [text for attrs, text in page.scripts if not attrs.get("type")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}';" in policy
    assert not {"src", "srcset", "action"} & {name for _, attrs in page.tags for name in attrs}
    links = [a["href"] for _, a in page.tags if "href" in a]
    assert all(link is not None and link.startswith("#") for link in links)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|fetch", script)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.001, 0.16), "improved"),
        ((0.0, 0.16), "no improvement shown"),
        ((-0.02, 0.06), "no improvement shown"),
        ((-0.16, -0.08), "worse"),
    ],
)
def test_improved_is_said_only_where_the_interval_is_wholly_above_zero(
    tmp_path: Path, interval: tuple[float, float], verdict: str
) -> None:
    run = build(tmp_path / "run", summary(interval))
    headline = figures(run)["headline"]
    text = Page(write([run], tmp_path / "page.html")).text.lower()
    assert headline["verdict"] == verdict
    assert headline["sentence"].lower().startswith(f"{verdict}: greedy accuracy on test went from")
    assert headline["sentence"].lower() in text
    assert ("improved" in text) == (verdict == "improved")


def test_figures_are_plain_data_with_the_headline_of_the_summary(tmp_path: Path) -> None:
    told = summary()
    held = json.loads(json.dumps(figures(build(tmp_path / "run", told))))
    assert {k: held["headline"][k] for k in told["headline"]} == told["headline"]
    assert held["samples"]["rounds"] == [
        {"round": 1, "questions": 3, "tied": 1, "split": 2, "kept": 2}
    ]
    assert held["cost"]["total"]["tokens_sampled"] == 3 * 4 * 20
    assert held["funnels"][0]["given"] == 3
    assert held["recipe"]["values"]["a.b"] == HOSTILE
    assert held["labels"] == told["labels"]


def test_samples_say_which_questions_and_which_of_their_paths_were_kept(tmp_path: Path) -> None:
    page = Page(write([build(tmp_path / "run", summary())], tmp_path / "page.html"))
    samples = page.samples()
    assert [s["kept"] for s in samples] == [True, True, False]
    assert [p["kept"] for p in samples[0]["drawn"]] == [False, True, False, False]
    assert [p["agrees"] for p in samples[2]["drawn"]] == [False] * 4


def test_at_most_300_questions_and_16_paths_are_embedded_and_the_page_says_so(
    tmp_path: Path,
) -> None:
    run = build(tmp_path / "run", summary(), questions=320, paths=17)
    page = Page(write([run], tmp_path / "page.html"))
    assert len(page.samples()) == 300
    assert {len(s["drawn"]) for s in page.samples()} == {16}
    assert "300 of 320 questions" in page.text
    assert "at most the first 16 paths" in page.text


def test_the_same_run_gives_the_same_page_to_the_byte(tmp_path: Path) -> None:
    run = build(tmp_path / "run", summary(), questions=310, paths=1)
    first = write([run], tmp_path / "1.html").read_bytes()
    assert write([run], tmp_path / "new" / "2.html").read_bytes() == first


def test_an_unfinished_run_that_is_being_written_gives_what_is_there(tmp_path: Path) -> None:
    root = build(tmp_path / "run")
    (root / "round-1-votes" / "done.json").unlink()
    writer = Run(root)  # holds the lock
    page = Page(write([root], tmp_path / "page.html"))
    held = figures(root)
    writer.close()
    assert "This run is not finished" in page.text
    assert "Begun: round-1-votes." in held["notice"]
    assert held["headline"] is None
    assert held["samples"] is None  # half of the votes is not a vote
    assert [(s["step"], s["done"]) for s in held["cost"]["steps"]] == [
        ("round-1-paths", True),
        ("round-1-votes", False),
    ]


def test_several_runs_stand_side_by_side_under_names_that_tell_them_apart(tmp_path: Path) -> None:
    good = build(tmp_path / "a" / "run", summary())
    bad = build(tmp_path / "b" / "run", summary((-0.16, -0.08)))
    part = build(tmp_path / "c" / "run")
    page = write([good, bad, part], tmp_path / "page.html").read_text(encoding="utf-8")
    top = page[: page.index('id="run-1"')]
    assert all(f"<bdi>{name}/run</bdi>" in top for name in "abc")
    assert re.findall(r'class="pill [a-z]+">([a-z ]+)<', top) == ["improved", "worse"]
    assert "not finished: no result yet" in top
    assert len(re.findall(r'<article class="run"', page)) == 3


@pytest.mark.parametrize("known", [True, False])
def test_the_judges_card_explains_the_rows_that_it_has(tmp_path: Path, known: bool) -> None:
    shown = [Response("a", "Why?", i, "x" * i, "stop", 1) for i in (0, 1)]
    said = [Verdict("a", i, 0, float(i), None, "") for i in (0, 1)]
    truth = {("a", 0): 1.0, ("a", 1): 2.0} if known else None
    held = {"arm": "m1", "set": "its own candidates", "truth": "the oracle" if known else None,
            **card(shown, said, truth, highest=5)}  # fmt: skip
    page = Page(write([build(tmp_path / "run", {**summary(), "judge_cards": [held]})],
                      tmp_path / "report.html"))  # fmt: skip
    for words in ("is the control", "Rank correlations are means"):
        assert (words in page.text) == known
    assert page.text.count("its scores, dealt at random") == (2 if known else 0)  # a row, its note


def test_the_judges_card_shows_what_is_undefined_and_ties_both_ways(tmp_path: Path) -> None:
    shown = [Response(p, "Why?", i, "x" * i, "stop", 1) for p in ("a", "b") for i in (0, 1)]
    scores = [5.0, 1.0, 3.0, 3.0]
    said = [
        Verdict(r.prompt_id, r.index, 0, s, None, "") for r, s in zip(shown, scores, strict=True)
    ]
    truth = {(r.prompt_id, r.index): float(-r.index) for r in shown}
    held = {"arm": "m1", "set": "held-out responses", "truth": "people's rankings",
            **card(shown, said, truth, highest=5)}  # fmt: skip
    page = Page(write([build(tmp_path / "run", {**summary(), "judge_cards": [held]})],
                      tmp_path / "report.html"))  # fmt: skip
    assert "agreement is with people's rankings" in page.text
    assert "1: one score for all responses" in page.text
    for share in ("75.0%", "50.0%", "1.00", "0.50"):  # pairs either way, correlations either way
        assert share in page.text
