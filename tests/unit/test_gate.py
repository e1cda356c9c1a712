"""The gate's questions: never those that are reported, and none that is learned from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from selfimprove.config import load
from selfimprove.data.sources import DataConfig, training_questions
from selfimprove.errors import DataError
from selfimprove.evaluation import scoreboard
from selfimprove.evaluation.accuracy import Answered, AskConfig, HeldOut
from selfimprove.evaluation.scoreboard import EvaluationConfig, Scoreboard
from selfimprove.report.figures import figures
from selfimprove.report.page import write
from selfimprove.rows import Batch, Rows
from selfimprove.sampling.served import Served
from selfimprove.store import Run
from selfimprove.terminal import show_outcome
from selfimprove.types import ModelRef, Question

BASE, STUDENT = (ModelRef(name, f"/{name}", name) for name in ("base", "student"))
Start = Callable[..., Scoreboard]


def file_of(folder: Path, name: str, numbers: range, gold: range | None = None) -> str:
    """Write GSM8K rows 'What is n?'; those outside `gold` have no answer."""
    rows = [
        {"question": f"What is {n}?"}
        | ({"answer": f"It is {n}.\n#### {n}"} if gold is None or n in gold else {})
        for n in numbers
    ]
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"gsm8k:{path}"


def asked(
    chunks: Sequence[Sequence[HeldOut]],
    served: Served,
    ask: AskConfig,
    seed: int,
) -> Iterator[Batch[Answered]]:
    """Answer n to 'What is n?'; `worse` says 0, `naming` names n and states nothing."""
    for chunk in chunks:
        rows = []
        for item in chunk:
            question, number = item.labelled.question, item.labelled.question.text[8:-1]
            said = "0" if served.model.name == "worse" else number
            for mode in ask.modes:
                for index in range(ask.votes if mode == "self_consistency" else 1):
                    stated, right = served.model.name != "naming", said in item.labelled.gold
                    rows.append(Answered(question.id, item.set, item.domain, mode, index, said,
                                         said if stated else None, "number", item.labelled.gold,
                                         stated and right, 1, said, right))  # fmt: skip
        yield Batch(rows)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(scoreboard, "answer_questions", asked)
    with closing(Run(tmp_path / "run")) as run:
        run.write("recipe.json", {"method": "lmsi", "model": "base", "seed": 0})

        def made(**data: Any) -> Scoreboard:
            data = {"test": file_of(tmp_path, "test", range(1000, 1005)), **data}
            ask = EvaluationConfig(votes=2, modes=("cot",))
            sets = load(DataConfig, data, "data")
            return Scoreboard(run, sets, ask, lambda _name, model: model)

        yield made


def learned(board: Scoreboard, sampler: ModelRef = BASE) -> Rows[Question]:
    questions = board.steps.rows("questions", training_questions, board.data.train)
    return board.hold_back(questions, sampler)


def gate(board: Scoreboard, child: ModelRef = STUDENT) -> dict[str, Any]:
    """Run one round, and return the gate's row in the summary."""
    board.measure("base", BASE)
    board.measure("round-1", child, parent=BASE, round_number=1)
    board.promote("round-1", parent=BASE, child=child)
    board.summarise("lmsi", "LMSI", "base")
    told: dict[str, Any] = json.loads((board.steps.root / "summary.json").read_text())["gate"][0]
    return told


def asked_by_gate(board: Scoreboard) -> set[str]:
    import pyarrow.parquet as pq

    shards = sorted((board.steps.root / "gate-base").glob("*.parquet"))
    return {row["gold"][0] for shard in shards for row in pq.read_table(shard).to_pylist()}


def test_without_dev_a_tenth_of_the_training_questions_is_held_back_from_training(
    start: Start, tmp_path: Path
) -> None:
    board = start(train=file_of(tmp_path, "train", range(400)))
    left = {q.text for q in learned(board)}
    told = gate(board)
    assert (told["n"], told["set"]) == (40, "held-back training questions")
    assert len(left) == 360
    assert not {f"What is {n}?" for n in asked_by_gate(board)} & left


def test_the_gate_keeps_a_parent_by_the_questions_held_back(start: Start, tmp_path: Path) -> None:
    board = start(train=file_of(tmp_path, "train", range(1, 101)))
    learned(board)
    told = gate(board, ModelRef("worse", "/worse", "worse"))
    assert not told["promoted"]
    assert (told["difference"], told["n"]) == (-1.0, 16)


def test_test_questions_among_the_training_questions_are_not_asked_by_the_gate(
    start: Start, tmp_path: Path
) -> None:
    same = file_of(tmp_path, "train", range(40))
    board = start(train=[same, file_of(tmp_path, "more", range(100, 180))], test=same)
    learned(board)
    gate(board)
    assert min(int(n) for n in asked_by_gate(board)) >= 100


def test_questions_without_answers_are_gated_by_the_vote_of_the_model_that_draws(
    start: Start, tmp_path: Path
) -> None:
    board = start(train=file_of(tmp_path, "train", range(1, 101), gold=range(0)))
    assert len(learned(board)) == 84
    told = gate(board)
    assert told["set"] == "held-back training questions, agreement with the vote of base"
    assert (told["promoted"], told["n"], told["difference"]) == (True, 16, 0.0)


def test_only_questions_with_an_answer_are_held_back_where_enough_have_one(
    start: Start, tmp_path: Path
) -> None:
    board = start(train=file_of(tmp_path, "train", range(200), gold=range(30)))
    learned(board)
    assert gate(board)["set"] == "held-back training questions"
    assert max(int(n) for n in asked_by_gate(board)) < 30


def test_too_few_training_questions_leave_no_gate_and_the_page_says_so(
    start: Start, tmp_path: Path
) -> None:
    board = start(train=file_of(tmp_path, "train", range(31)))
    assert len(learned(board)) == 31
    told = gate(board, ModelRef("worse", "/worse", "worse"))
    assert (told["promoted"], told["n"], told["set"]) == (True, None, None)
    assert "no gate" in told["reason"]
    assert "No gate chose" in figures(tmp_path / "run")["headline"]["sentence"]
    page = write([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert "There was no gate" in page
    assert not (tmp_path / "run" / "gate-base").exists()


@pytest.mark.parametrize(("base", "flexible"), [("base", None), ("naming", [1.0, 1.0])])
def test_the_flexible_reading_of_the_headline_is_told_where_it_says_something_else(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], base: str, flexible: object
) -> None:
    board, model = start(train=file_of(tmp_path, "train", range(31))), ModelRef(base, base, base)
    board.measure("base", model)
    board.measure("round-1", STUDENT, parent=model, round_number=1)
    board.promote("round-1", parent=model, child=STUDENT)
    board.summarise("lmsi", "LMSI", "base")
    run = tmp_path / "run"
    head = figures(run)["headline"]
    assert (head["before"], head["after"]) == (float(base == "base"), 1.0)
    told = head["flexible"]
    assert (told and [told["before"], told["after"]]) == flexible
    page = write([run], tmp_path / "report.html").read_text()
    (run / "finished.json").write_text('{"model": "round-1/model"}')
    show_outcome(run, was_finished=False)
    assert ("By the flexible reading" in page) == (flexible is not None)
    assert ("by the flexible reading" in capsys.readouterr().out) == (flexible is not None)


def test_dev_questions_that_are_reported_are_left_out_of_the_gate(
    start: Start, tmp_path: Path
) -> None:
    board = start(
        train=file_of(tmp_path, "train", range(400)),
        dev=file_of(tmp_path, "dev", range(995, 1003)),  # 1000 to 1002 are test questions
    )
    assert len(learned(board)) == 400
    told = gate(board)
    assert (told["n"], told["set"]) == (5, "dev")
    assert asked_by_gate(board) == {str(n) for n in range(995, 1000)}


def test_a_dev_set_that_is_the_test_set_is_refused(start: Start, tmp_path: Path) -> None:
    same = file_of(tmp_path, "same", range(20))
    board = start(train=file_of(tmp_path, "train", range(100, 200)), dev=same, test=same)
    with pytest.raises(
        DataError, match=r"data\.dev: each of its 20 questions is one of data\.test"
    ):
        learned(board)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"test": []}, r"data\.test holds no question"),
        ({"test": "gsm8k:missing.jsonl"}, "missing.jsonl"),
    ],
)
def test_a_run_that_has_nothing_to_report_ends_before_the_first_token(
    start: Start, tmp_path: Path, data: dict[str, Any], said: str
) -> None:
    board = start(train=file_of(tmp_path, "train", range(100)), **data)
    with pytest.raises(DataError, match=said):
        board.prepare(())


def test_a_gold_arm_without_gold_answers_ends_before_the_first_token(
    start: Start, tmp_path: Path
) -> None:
    board = start(train=file_of(tmp_path, "train", range(100), gold=range(0)))
    board.prepare(("unfiltered",))
    with pytest.raises(DataError, match="has no answer, which is needed here"):
        board.prepare(("gold",))
