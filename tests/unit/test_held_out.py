"""Training data and what is measured on: counted, kept apart, and IFT apart from EFT."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from selfimprove.cli import app
from selfimprove.data.exemplars import exemplars_for
from selfimprove.data.overlap import same_text
from selfimprove.data.preferences import three_folds
from selfimprove.data.seed_split import deal_shared
from selfimprove.data.sources import Source, training_questions
from selfimprove.errors import DataError
from selfimprove.evaluation.accuracy import HeldOut
from selfimprove.evaluation.file_overlaps import check_against
from selfimprove.evaluation.gate import not_reported, to_learn_from
from selfimprove.evaluation.overlaps import Decontamination, held_out_questions
from selfimprove.judges.judge_prompts import judge_prompt
from selfimprove.judges.judged_prompts import judged_prompts
from selfimprove.methods.lmsi.held_out import decontamination, shown_exemplars
from selfimprove.methods.pit.held_out import held_out, learned_preferences
from selfimprove.methods.pit.plot import preferences_that_fit
from selfimprove.methods.self_rewarding.held_out import decontamination as prompts_held_out
from selfimprove.methods.self_rewarding.held_out import seed_data
from selfimprove.models import locate
from selfimprove.runtime.launch import config_of
from selfimprove.store import Run
from selfimprove.types import Demonstration, Labelled, Question

_TEST = (
    "A farmer has 12 hens and buys 7 more of them at the market in town. "
    "How many hens does the farmer have after that?"
)
_NEARLY = f"Please solve this: {_TEST}"
_OTHER = _TEST.replace("12", "13")


def _file(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _gsm8k(path: Path, *questions: str) -> str:
    return _file(path, [{"question": q, "answer": "It is.\n#### 19"} for q in questions])


@pytest.fixture
def steps(tmp_path: Path):
    run = Run(tmp_path / "run", lambda _: None)
    yield run
    run.close()


def _lmsi(tmp_path: Path, *train: str, **more: Any) -> Any:
    return config_of(
        {
            "method": "lmsi",
            "model": "tiny",
            "data": {
                "train": f"gsm8k:{_gsm8k(tmp_path / 'train.jsonl', *train)}",
                "test": f"gsm8k:{_gsm8k(tmp_path / 'test.jsonl', _TEST)}",
                "ood": "tiny:ood",
                "test_limit": 5,
            },
            **more,
        },
        "x",
    )


def _learned(config: Any, steps: Run) -> tuple[list[str], list[dict[str, Any]]]:
    apart = decontamination(config, steps)
    read = steps.rows("questions", training_questions, config.data.train)
    return [q.text for q in apart.questions("questions", read)], apart.told


def test_test_questions_are_counted_and_not_learned_from(tmp_path: Path, steps: Run) -> None:
    config = _lmsi(tmp_path, _TEST.upper(), _OTHER, _NEARLY, "Why?")
    learned, told = _learned(config, steps)
    assert learned == [_OTHER, "Why?"]
    assert told[0] == {
        "training": "questions", "held_out": "test (gsm8k test)", "rows": 4, "exact": 1, "near": 1,
        "removed": True,
    }  # fmt: skip
    assert (told[1]["held_out"], told[1]["exact"], told[1]["near"]) == ("ood (tiny ood)", 0, 0)
    (funnel,) = json.loads((steps.root / "questions-apart" / "done.json").read_text())["funnels"]
    assert {d["why"]: d["count"] for d in funnel["dropped"]} == {
        "one of test (gsm8k test)": 1,
        "nearly one of test (gsm8k test)": 1,
    }


def test_told_otherwise_they_are_counted_and_learned_from(tmp_path: Path, steps: Run) -> None:
    config = _lmsi(tmp_path, _TEST, _NEARLY, decontaminate=False)
    learned, told = _learned(config, steps)
    assert learned == [_TEST, _NEARLY]
    assert (told[0]["exact"], told[0]["near"], told[0]["removed"]) == (1, 1, False)


def test_where_nothing_is_left_an_error_says_what_to_do(tmp_path: Path, steps: Run) -> None:
    with pytest.raises(DataError, match=r"every one of the rows of questions.*decontaminate"):
        _learned(_lmsi(tmp_path, _TEST), steps)


def test_what_nearly_is_a_question_of_the_gate_is_not_learned_from() -> None:
    asked = Question("g", "gsm8k", _TEST, "number")
    gate = [HeldOut("held back", "in", Labelled(asked, ("19",)))]
    rows = [Question(str(n), "gsm8k", text, "number") for n, text in
            enumerate((_TEST.upper(), _NEARLY, _OTHER))]  # fmt: skip
    made = to_learn_from(rows, gate)
    assert [q.text for q in made.rows] == [_OTHER]
    assert {d.why: d.count for d in made.funnels[0].dropped} == {
        "held back for the gate": 1,
        "nearly a question held back for the gate": 1,
    }
    assert not not_reported(gate, gate).rows


def test_an_exemplar_that_is_a_test_question_is_not_shown(tmp_path: Path, steps: Run) -> None:
    shipped = exemplars_for("gsm8k")
    asked = shipped[0].question
    sources = (("test", (Source(source=_gsm8k(tmp_path / "t.jsonl", asked), format="gsm8k"),)),)
    held_out = steps.rows("held-out-texts", held_out_questions, sources)
    apart = Decontamination(steps, held_out, removes=True)
    questions = steps.rows("questions", training_questions,
                           (Source(source=_gsm8k(tmp_path / "q.jsonl", _OTHER), format="gsm8k"),))  # fmt: skip
    (shown,) = shown_exemplars(apart, questions)
    assert shown.exemplars == shipped[1:]
    assert apart.told[0]["exact"] == 1


def test_prompts_that_both_hold_go_to_ift_as_long_as_enough_are_left_to_judge() -> None:
    # 4 of the 5 judged prompts are in IFT; 0.2 of 5 is 1, and one is EFT's alone.
    dealt = deal_shared(["a", "b", "c", "d", "e"], ["A", "b.", "c", "d", "x"], 0.2, 0)
    assert [(s.key, s.kept_by) for s in dealt] == [(k, "ift") for k in "abcd"]
    # 0.6 of 5 is 3: two more are dealt to EFT.
    dealt = deal_shared(["a", "b", "c", "d", "e"], ["a", "b", "c", "d", "x"], 0.6, 0)
    assert sorted(s.kept_by for s in dealt) == ["eft", "eft", "ift", "ift"]
    # IFT never loses its last prompt.
    assert [s.kept_by for s in deal_shared(["a"], ["a"], 0.9, 0)] == ["ift"]


def test_a_judging_example_is_about_the_prompt_in_it_whatever_prompt_it_was_written_with() -> None:
    asked = "What rhymes\nwith orange? Response: none?"
    texts = [
        judge_prompt(name).filled("key", asked, "Door hinge.")
        for name in ("additive", "multiple_choice", "tiny")
    ]
    rows = [Demonstration(str(i), "f", text, "Score: 3") for i, text in enumerate(texts)]
    found = [p.text for p in judged_prompts(rows, "additive")]
    # The tiny prompt has no marks: its prompt ends before the first 'Response:' that begins a line.
    assert found == [asked, asked, asked]
    own = Demonstration("4", "f", "Rate this: Why?", "3")
    assert [p.text for p in judged_prompts([own], "additive")] == ["Rate this: Why?"]


def _tree(number: int) -> dict[str, Any]:
    replies = [{"text": f"{word} {number}", "rank": rank} for rank, word in enumerate(("a", "b"))]
    prompt = {"text": f"Ask about thing {number}.", "lang": "en", "replies": replies}
    return {"message_tree_id": str(number), "prompt": prompt}


def _self_rewarding(tmp_path: Path, seeds: dict[str, Any], **measured: Any) -> Any:
    evaluation = {"prompts": "tiny:test", "scorer": "oracle", **measured}
    return config_of(
        {"method": "self_rewarding", "model": "tiny", "seeds": seeds, "evaluation": evaluation}, "x"
    )


def test_one_file_of_trees_gives_ift_eft_and_a_judging_set_without_a_shared_prompt(
    tmp_path: Path, steps: Run
) -> None:
    trees = _file(tmp_path / "trees.jsonl", [_tree(n) for n in range(40)])
    config = _self_rewarding(
        tmp_path, {"ift": f"oasst:{trees}", "ranked": f"oasst:{trees}"},
        judging={"format": "oasst", "source": trees, "limit": 8},
        validation={"format": "oasst", "source": trees, "limit": 2},
    )  # fmt: skip
    apart = prompts_held_out(config, steps)
    ift, eft, ranked = seed_data(config, steps, apart)
    answered, judged = ({same_text(r.prompt) for r in rows} for rows in (ift, ranked))
    held_out = {same_text(text.text) for text in apart.held_out}
    assert len(answered) == 27
    assert len(judged) == 5  # 0.15 of 32, rounded up
    assert answered | judged | {same_text(f"Ask about thing {n}.") for n in range(8)} == {
        same_text(f"Ask about thing {n}.") for n in range(40)
    }
    assert not (answered & judged or answered & held_out or judged & held_out)
    assert len(eft) == 0
    counted = {(t["training"], t["held_out"]): t["exact"] for t in apart.told}
    assert counted["ift", "judging set (oasst trees)"] == 8
    assert counted["ranked", "validation prompts (oasst trees)"] == 2


def test_with_the_papers_limit_ift_keeps_its_prompts_and_eft_has_the_rest(
    tmp_path: Path, steps: Run
) -> None:
    trees = _file(tmp_path / "trees.jsonl", [_tree(n) for n in range(40)])
    seeds = {"ift": {"format": "oasst", "source": trees, "limit": 32}, "ranked": f"oasst:{trees}"}
    config = _self_rewarding(tmp_path, seeds)
    ift, _, ranked = seed_data(config, steps, prompts_held_out(config, steps))
    assert (len(ift), len(ranked)) == (32, 8)
    assert not {d.prompt for d in ift} & {r.prompt for r in ranked}


def test_a_limit_counts_the_prompts_that_may_be_used(tmp_path: Path, steps: Run) -> None:
    trees = _file(tmp_path / "trees.jsonl", [_tree(n) for n in range(40)])
    source = {"format": "oasst", "source": trees}
    config = _self_rewarding(
        tmp_path, {"ift": {**source, "limit": 20}, "ranked": {**source, "limit": 12}},
        judging={**source, "limit": 4},
    )  # fmt: skip
    ift, _, ranked = seed_data(config, steps, prompts_held_out(config, steps))
    assert [d.prompt for d in ift] == [f"Ask about thing {n}." for n in range(4, 24)]
    assert [r.prompt for r in ranked] == [f"Ask about thing {n}." for n in range(24, 36)]


def test_a_file_of_judging_examples_is_apart_from_ift_by_the_prompt_that_is_judged(
    tmp_path: Path, steps: Run
) -> None:
    words = judge_prompt("additive")
    eft = _file(
        tmp_path / "eft.jsonl",
        [
            {"prompt": words.filled(str(n), f"Ask about thing {n}.", "Well."), "completion": "Score: 2"}
            for n in range(10)
        ],
    )  # fmt: skip
    ift = _file(
        tmp_path / "ift.jsonl",
        [{"prompt": f"Ask about thing {n}.", "completion": "Yes."} for n in range(5)],
    )
    test = _file(tmp_path / "test.jsonl", [{"prompt": "ask about thing 9"}])
    config = _self_rewarding(tmp_path, {"ift": ift, "eft": eft}, validation=test)
    made = seed_data(config, steps, prompts_held_out(config, steps))
    assert len(made.ift) == 5
    assert [judged.id for judged in made.eft] == [f"prompts-{n}" for n in (5, 6, 7, 8)]


def test_the_tiny_worlds_seed_data_stays_as_it_is(tmp_path: Path, steps: Run) -> None:
    config = _self_rewarding(
        tmp_path,
        {"ift": {"format": "tiny", "source": "train", "limit": 400},
         "eft": {"format": "tiny", "source": "train", "limit": 600}},
        validation="tiny:dev", judging="tiny:dev",
    )  # fmt: skip
    apart = prompts_held_out(config, steps)
    made = seed_data(config, steps, apart)
    assert (len(made.ift), len(made.eft)) == (400, 600)
    assert {t["exact"] + t["near"] for t in apart.told} == {0}


def test_preferences_on_held_out_prompts_are_in_no_fold(tmp_path: Path, steps: Run) -> None:
    def told(name: str, *prompts: str) -> str:
        return _file(
            tmp_path / name, [{"prompt": p, "chosen": "Yes.", "rejected": "No."} for p in prompts]
        )

    train = told("train.jsonl", "Why is it so?", "why is it so", *(f"Ask {n}?" for n in range(9)))
    config: Any = config_of(
        {
            "method": "pit", "model": "tiny", "preferences": train,
            "evaluation": {"preferences": told("test.jsonl", "Why is it so?", "Ask 0?")},
        },
        "x",
    )  # fmt: skip
    base = locate("tiny")
    read = preferences_that_fit(config, steps, base)
    folds = steps.rows("folds", three_folds, read, 0, 0.0)
    measured_on = held_out(config, steps, read, folds)
    learned, apart = learned_preferences(config, steps, read, folds, measured_on)
    assert [p.prompt[0].content for p in learned] == [f"Ask {n}?" for n in range(1, 9)]
    assert apart.told == [
        {"training": "preferences", "held_out": "held-out preferences (test)", "rows": 11, "exact": 3,
         "near": 0, "removed": True}
    ]  # fmt: skip


def test_a_share_that_is_set_apart_shares_no_prompt_with_the_folds(
    tmp_path: Path, steps: Run
) -> None:
    rows = [
        {"prompt": p, "chosen": f"Yes {n}.", "rejected": "No."}
        for n in range(3)
        for p in (f"Ask number {n}?", f"ask number {n}")
    ] + [{"prompt": f"Say {n}.", "chosen": "Yes.", "rejected": "No."} for n in range(6)]
    config: Any = config_of(
        {
            "method": "pit", "model": "tiny", "preferences": _file(tmp_path / "p.jsonl", rows),
            "evaluation": {"held_out": 0.25},
        },
        "x",
    )  # fmt: skip
    read = preferences_that_fit(config, steps, locate("tiny"))
    folds = steps.rows("folds", three_folds, read, 0, 0.25)
    measured_on = held_out(config, steps, read, folds)
    learned, _ = learned_preferences(config, steps, read, folds, measured_on)
    asked, measured = (
        {same_text(p.prompt[0].content) for p in some}
        for some in (learned, measured_on.preferences)
    )
    assert len(measured_on.preferences) == 3
    assert asked
    assert not asked & measured


def test_data_check_counts_rows_that_another_file_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = _gsm8k(tmp_path / "train.jsonl", _TEST, _NEARLY, _OTHER)
    theirs = _gsm8k(tmp_path / "test.jsonl", _TEST)
    with pytest.raises(SystemExit) as done:
        app(["data", "check", ours, "--as", "gsm8k", "--against", theirs])
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert f"1 of 3 rows are rows of {theirs}, 1 more nearly are" in said
    assert "gsm8k-1 is one: A farmer has 12 hens" in said
    assert "gsm8k-2 nearly is one: Please solve this" in said


def test_files_of_every_kind_can_be_compared(tmp_path: Path) -> None:
    prompts = _file(tmp_path / "p.jsonl", [{"prompt": "Why is it so?"}])
    pairs = _file(
        tmp_path / "pairs.jsonl", [{"prompt": "why is it so", "chosen": "a", "rejected": "b"}]
    )
    (found,) = check_against(pairs, "preferences", [f"prompts:{prompts}"])
    assert found.exact == (("preferences-0", "why is it so"),)
    tiny, ood = check_against("dev", "tiny", ["tiny:dev", "tiny:ood"])
    assert (len(tiny.exact), tiny.rows, len(ood.exact)) == (tiny.rows, tiny.rows, 0)
