"""The steps of LMSI on hand-made rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from selfimprove.answers.ballots import vote_each
from selfimprove.data.exemplars import Exemplar, ExemplarSet
from selfimprove.evaluation.label_quality import label_quality
from selfimprove.methods.lmsi.config import FormatsConfig, KeepConfig
from selfimprove.methods.lmsi.low_resource import (
    QuestionsConfig,
    Written,
    draw_questions,
    new_questions,
    seed_questions,
)
from selfimprove.methods.lmsi.plot import agreeing_paths, mixed_formats
from selfimprove.sampling import served
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.served import Served
from selfimprove.types import AnswerType, Draw, Labelled, ModelRef, Prompt, Question, ReasoningPath

QUESTION = Question("q", "d", "How many?", "number")
SETS = (ExemplarSet("d", (Exemplar("Two and two?", "2 + 2 = 4.", "4"),)),)


def paths(answers: list[str | None]) -> list[ReasoningPath]:
    return [
        ReasoningPath("q", i, f" Path {i}. The answer is {a}.", a, "stop", 5)
        for i, a in enumerate(answers)
    ]


def test_twenty_of_thirty_two_agree_and_make_eighty_rows() -> None:
    drawn = paths(["8"] * 20 + ["9"] * 8 + [None] * 4)
    (voted,) = vote_each([QUESTION], drawn)
    assert (voted.winner, voted.confidence, voted.silent) == ("8", 0.625, 4)
    kept = agreeing_paths(drawn, [voted], KeepConfig())
    assert len(kept.rows) == 20
    drops = {d.why: d.count for d in kept.funnels[0].dropped}
    assert drops == {"outvoted": 8, "states no answer": 4}
    rows = mixed_formats([QUESTION], kept.rows, SETS, FormatsConfig(), 0).rows
    assert len(rows) == 80


def test_the_four_formats_word_for_word() -> None:
    rows = mixed_formats([QUESTION], paths(["8"]), SETS, FormatsConfig(), 0).rows
    assert {r.format: (r.prompt, r.completion) for r in rows} == {
        "cot": (
            "Q: Two and two?\nA: 2 + 2 = 4. The answer is 4.\n\nQ: How many?\nA:",
            " Path 0. The answer is 8.",
        ),
        "standard": (
            "Q: Two and two?\nA: The answer is 4.\n\nQ: How many?\nA:",
            " The answer is 8.",
        ),
        "step_by_step": (
            "Q: How many?\nA: Let's think step by step.",
            " Path 0. The answer is 8.",
        ),
        "direct": ("Q: How many?\nA:", " The answer is 8."),
    }


def test_without_exemplars_the_cue_asks_for_reasoning() -> None:
    none = (ExemplarSet("d", ()),)
    rows = mixed_formats([QUESTION], paths(["8"]), none, FormatsConfig(use=("cot",)), 0).rows
    assert rows[0].prompt == "Q: How many?\nA: Let's think step by step."


def test_one_format_a_path_gives_one_row_a_path_in_all_formats() -> None:
    rows = mixed_formats([QUESTION], paths(["8"] * 200), SETS, FormatsConfig(mix="one"), 0).rows
    assert len(rows) == 200
    # Each format is drawn with probability 1/4: fewer than 20 of 200 has odds below 1e-6.
    assert all(sum(r.format == f for r in rows) > 20 for f in ("cot", "standard", "direct"))


def test_identical_rows_are_written_once_when_asked() -> None:
    config = FormatsConfig(deduplicate=True)
    made = mixed_formats([QUESTION], paths(["8", "8", "8"]), SETS, config, 0)
    assert len(made.rows) == 3 + 1 + 3 + 1
    assert made.funnels[0].dropped[0].count == 4


@pytest.mark.parametrize(
    ("keep", "left"),
    [(KeepConfig(min_confidence=0.7), 0), (KeepConfig(max_per_question=1), 1), (KeepConfig(), 2)],
)
def test_floor_and_cap(keep: KeepConfig, left: int) -> None:
    drawn = paths(["8", "8", "9"])
    assert len(agreeing_paths(drawn, vote_each([QUESTION], drawn), keep).rows) == left


def test_a_question_without_any_answer_keeps_nothing() -> None:
    drawn = paths([None, None])
    (voted,) = vote_each([QUESTION], drawn)
    assert (voted.winner, voted.confidence) == (None, 0.0)
    assert agreeing_paths(drawn, [voted], KeepConfig()).rows == []


def test_own_questions_are_new_and_are_questions() -> None:
    written = [
        Written("own-0", " How many cats?", "d", "number"),
        Written("own-1", " how many CATS?", "d", "number"),
        Written("own-2", " How many?", "d", "number"),
        Written("own-3", " There are cats.", "d", "number"),
    ]
    made = new_questions(written, (QUESTION,))
    assert [q.text for q in made.rows] == ["How many cats?"]
    assert {d.why: d.count for d in made.funnels[0].dropped} == {
        "asked before": 2,
        "not a question": 1,
    }


def test_own_questions_may_end_as_the_questions_do_that_they_follow() -> None:
    seed = Question("s", "bbh", "not ( True ) is", "yes_no")
    texts = ["not ( False ) is", "True and False", "Is it so?", "This"]
    written = [Written(f"own-{n}", text, "bbh", "yes_no") for n, text in enumerate(texts)]
    made = new_questions(written, (seed,)).rows
    assert [q.text for q in made] == ["not ( False ) is", "Is it so?"]
    other = [Written("other", "How much it is", "drop", "number")]
    assert new_questions(other, (seed,)).rows == []
    assert seed_questions([seed], 1, 0).rows == [seed]
    # A seed of one word ends in no word that shows what a question is.
    word = Question("w", "bbh", "Why", "yes_no")
    assert new_questions([Written("own", "This", "bbh", "yes_no")], (word,)).rows == []


_KINDS: tuple[tuple[str, AnswerType], ...] = (
    ("gsm8k", "number"), ("drop", "number"), ("drop", "span"), ("arc", "choice"),
)  # fmt: skip
_KNOWN = [
    Question(f"{dataset}-{kind}-{i}", dataset, f"Which {dataset} {kind} {i}?", kind)
    for dataset, kind in _KINDS
    for i in range(5)
]


def test_every_dataset_that_a_model_can_write_for_gives_its_own_seeds() -> None:
    made = seed_questions(_KNOWN, 2, 0)
    assert Counter((q.dataset, q.answer_type) for q in made.rows) == {
        ("gsm8k", "number"): 2, ("drop", "number"): 2, ("drop", "span"): 2,
    }  # fmt: skip
    assert {d.why: d.count for d in made.funnels[0].dropped} == {
        "comes with choices": 5,
        "not drawn": 9,
    }


class _Echo:
    """An engine that writes the first question it was shown, with a word before it."""

    identity: ClassVar[dict[str, str]] = {"engine": "fake"}

    def draw(self, prompts: Sequence[Prompt], *_: Any, **__: Any) -> Iterator[Draw]:
        for p in prompts:
            first = str(p.content).split("\n\n")[0].removeprefix("Q: ")
            yield Draw(p.key, 0, f"Again: {first}", "stop", 1, 1)

    def close(self) -> None: ...


def test_own_questions_belong_to_the_dataset_whose_questions_they_follow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served, "open_engine", lambda *_: _Echo())
    seeds = seed_questions(_KNOWN, 3, 0).rows
    model = ModelRef("m", "m", "")
    (batch,) = draw_questions(
        [range(9)], Served(model, EngineConfig()), seeds, QuestionsConfig(), 0
    )
    made = new_questions(batch.rows, seeds).rows
    assert made
    assert all(q.text.startswith(f"Again: Which {q.dataset} {q.answer_type} ") for q in made)
    assert {(q.dataset, q.answer_type) for q in made} == set(_KINDS[:3])


def test_votes_are_told_against_gold_as_labels() -> None:
    questions = [replace(QUESTION, id=f"q{n}") for n in range(3)]
    answers: tuple[list[str | None], ...] = (["8", "9", "8.0", None], ["9", "9", "8", "8", "9"])
    drawn = [
        replace(path, question_id=question.id)
        for question, some in zip(questions, answers, strict=False)
        for path in paths(some)
    ]
    votes = vote_each(questions[:2], drawn)
    labelled = [Labelled(question, ("8",)) for question in questions]
    kept = agreeing_paths(drawn, votes, KeepConfig(max_per_question=1)).rows
    told = label_quality(2, votes, kept, labelled)
    assert told is not None
    assert (told["round"], told["questions"]) == (2, 2)
    assert told["path"]["value"] == pytest.approx((2 / 4 + 2 / 5) / 2)
    assert told["vote"]["value"] == 0.5
    assert told["difference"]["value"] == pytest.approx(0.5 - 0.45)
    assert (told["kept_paths"], told["kept_right"]) == (2, 0.5)
    assert label_quality(1, votes, kept, [Labelled(q, ()) for q in questions]) is None
    another = [Labelled(replace(q, text="How few?"), ("8",)) for q in questions]
    assert label_quality(1, votes, kept, another) is None
