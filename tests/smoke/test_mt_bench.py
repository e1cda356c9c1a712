"""MT-Bench end to end: the shipped model answers both turns, a scripted server rates them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from selfimprove.cli import app
from selfimprove.errors import ConfigError, DataError
from selfimprove.evaluation.mt_bench.judging import judge_prompts, judged_turns, read_rating
from selfimprove.evaluation.mt_bench.rows import TwoTurns, read_questions
from selfimprove.evaluation.mt_bench.scores import Rated, difference, figures
from selfimprove.judges.score_text import Scored, Unscored
from selfimprove.terminal_measures import show_mt_bench

ASKED = "Write about a owl in the park with kites."


@contextmanager
def judging(says: Callable[[str], str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve a judge that says something of what it is shown; give its address and its requests."""
    requests: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append(body)
            said = says(body["messages"][-1]["content"])
            choice = {"message": {"content": said}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 7, "completion_tokens": 3}
            content = json.dumps({"choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def questions(folder: Path) -> list[str]:
    """Write two questions, one of which needs a reference; return the options that name the files."""
    rows = [
        {"question_id": 1, "category": "writing", "turns": [ASKED, "Write about a cow."]},
        {"question_id": 2, "category": "math", "turns": ["What is 1 + 1?", "And 2 + 2?"]},
    ]
    (folder / "question.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reference = {"question_id": 2, "choices": [{"turns": ["It is two.", "It is four."]}]}
    (folder / "gpt-4.jsonl").write_text(json.dumps(reference))
    return [
        "--questions",
        str(folder / "question.jsonl"),
        "--references",
        str(folder / "gpt-4.jsonl"),
    ]


def rates(shown: str) -> str:
    """Rate first answers 8 and second ones 4; of the cow nothing can be read."""
    if "Write about a cow." in shown:
        return "I would rather not."
    second = "Second question" in shown
    return f"Not a [[10]]. It is fair. Rating: [[{4 if second else 8}]]"


def test_both_turns_are_answered_and_rated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with judging(rates) as (url, requests):
        words = ["eval", "mt-bench", "tiny", *questions(tmp_path), "--judge", "judge-1",
                 "judge.engine.kind=server", f"judge.engine.server.url={url}",
                 "judge.engine.server.model=judge-1", "max_tokens=24", "engine.device=cpu",
                 "--out", str(tmp_path / "said")]  # fmt: skip
        done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exception is None, done.output
    (told,) = json.loads(done.stdout)
    # Ratings: 8 and 8 of first turns; 4 of the second of math; the cow's is unscored, not 0.
    assert [t["value"] for t in told["turns"]] == [8, 4]
    assert told["mean"]["value"] == pytest.approx(20 / 3)
    assert (told["mean"]["n"], told["unscored"]) == (3, {"no rating": 1})
    assert [(c["category"], c["mean"]["value"]) for c in told["categories"]] == [
        ("writing", 8),
        ("math", 6),
    ]
    show_mt_bench([told])
    assert "1 not rated: no rating" in capsys.readouterr().out
    rows = [
        json.loads(line) for line in (tmp_path / "said" / "0-tiny.jsonl").read_text().splitlines()
    ]
    assert [(r["question_id"], r["turn"], r["score"]) for r in rows] == [
        ("1", 1, 8), ("1", 2, None), ("2", 1, 8), ("2", 2, 4),
    ]  # fmt: skip
    # The model's own answers stand in what the judge was shown: one of the first turn, both of the second.
    answers = {(r["question_id"], r["turn"]): r["answer"] for r in rows}
    of = {key: text for key, text in answers.items() if text}
    assert (("1", 1) in of) and (("1", 2) in of)
    last = [r["messages"][-1]["content"] for r in requests[:4]]
    second = next(t for t in last if "Write about a cow." in t)
    assert answers["1", 1] in second
    assert answers["1", 2] in second
    guided = [t for t in last if "It is two." in t]
    assert len(guided) == 2
    assert sum("It is four." in t for t in guided) == 1
    assert requests[0]["model"] == "judge-1"
    assert requests[0]["temperature"] == 0


# ---- ratings


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Rating: [[5]]", 5.0),
        ("Rating: [[7.5]] in all", 7.5),
        ("One might say [[3]], but: [[9]]", 9.0),
        ("Rating: [6]", 6.0),
        ("See [1] and [2]. Rating: [[8]]", 8.0),
        ("[[4]]\n\nQuestion: another one\nRating: [[10]]", 4.0),
    ],
)
def test_the_last_rating_of_the_judges_own_case_counts(text: str, score: float) -> None:
    assert read_rating(text) == Scored(score)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Rating: 5", "no rating"),
        ("", "no rating"),
        ("[[rating]]", "no rating"),
        ("Rating: [[0]]", "rating outside 1 to 10"),
        ("Rating: [[11]]", "rating outside 1 to 10"),
        ("Rating: [[５]]", "no rating"),
    ],
)
def test_what_is_no_rating_is_unscored(text: str, why: str) -> None:
    assert read_rating(text) == Unscored(why)


def rated(question: str, turn: int, score: float | None) -> Rated:
    of = TwoTurns(question, "stem", ("a", "b"), None)
    return Rated(of, turn, score, None if score is not None else "no rating", "", "")


def test_two_models_are_paired_by_question_on_the_turns_that_both_have() -> None:
    before = [rated("1", 0, 5), rated("1", 1, 7), rated("2", 0, None), rated("2", 1, 2)]
    after = [rated("1", 0, 6), rated("1", 1, 8), rated("2", 0, 9), rated("2", 1, 2)]
    told = difference(before, after)
    assert told is not None
    # Question 1: 6 -> 7; question 2: 2 -> 2, its first turn left out.
    assert (told["difference"], told["n"], told["wins"], told["ties"]) == (0.5, 2, 1, 1)
    assert figures([rated("1", 0, None)])["mean"] is None
    assert difference([rated("1", 0, None)], [rated("1", 0, 3)]) is None


# ---- files


def test_the_published_files_and_prompts_are_read(shared_data: Callable[[str], Path]) -> None:
    found = read_questions(
        shared_data("mt_bench/question.jsonl"), shared_data("mt_bench/reference_answer/gpt-4.jsonl")
    )
    assert (len(found), sum(q.reference is not None for q in found)) == (80, 30)
    published = judge_prompts(shared_data("mt_bench/judge_prompts.jsonl"))
    for prompts in (published, judge_prompts(None)):
        for question in (found[0], next(q for q in found if q.reference)):
            for turn in (0, 1):
                answers = ("first {answer}", "second {question}")[: turn + 1]
                shown = judged_turns(prompts, question, answers, turn)[-1].content
                assert all(text in shown for text in (*answers, question.turns[turn]))
                assert (question.reference or ("", ""))[turn] in shown
                assert "{ref" not in shown and "{question_" not in shown


def test_a_question_without_its_reference_is_named(tmp_path: Path) -> None:
    questions(tmp_path)
    with pytest.raises(DataError, match=r"line 2: question 2 is of math, .*--references"):
        read_questions(tmp_path / "question.jsonl")
    (tmp_path / "p.yaml").write_text("single-v1: {system: s, template: t}")
    with pytest.raises(ConfigError, match="has no judge prompt single-math-v1"):
        judge_prompts(tmp_path / "p.yaml")


@pytest.mark.parametrize("word", ["judge=x", "judge.prompt=additive", "judge.max_unscored=1"])
def test_what_this_judge_does_not_know_is_refused_before_a_token(tmp_path: Path, word: str) -> None:
    words = ["eval", "mt-bench", "tiny", *questions(tmp_path), "--judge", "tiny", word]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, ConfigError)
