"""The tiny world: its questions and answers, its misconceptions, its texts."""

from itertools import islice, product

import pytest

from selfimprove.seeds import rng
from selfimprove.tiny import corpus
from selfimprove.tiny.problems import (
    STYLES,
    WRONG_SHARE,
    Problem,
    Split,
    Style,
    exemplars,
    habitual,
    labelled,
    misconception,
    problems,
    solve,
    split_of,
)

_SPLITS: tuple[Split, ...] = ("train", "dev", "test", "ood")
_PROBLEM = Problem("", 46, (7, -3, 5))


def test_gold_is_the_start_and_its_changes():
    problem = next(problems("dev", rng(0, "test")))
    numbers = [int(word) for word in problem.text.replace(".", " ").split() if word.isdigit()]
    assert numbers == [problem.start, *map(abs, problem.changes)]
    assert problem.answer == problem.start + sum(problem.changes)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("order", "In order: 46 + 7 = 53. 53 - 3 = 50. 50 + 5 = 55. The answer is 55."),
        ("gains", "Gains first: 46 + 7 = 53. 53 + 5 = 58. 58 - 3 = 55. The answer is 55."),
        ("losses", "Losses first: 46 - 3 = 43. 43 + 7 = 50. 50 + 5 = 55. The answer is 55."),
        ("back", "Backwards: 46 + 5 = 51. 51 - 3 = 48. 48 + 7 = 55. The answer is 55."),
        ("group", "Grouped: 7 + 5 = 12. 46 + 12 = 58. 58 - 3 = 55. The answer is 55."),
    ],
)
def test_every_style_comes_to_the_same_answer_when_nothing_is_misstated(style, text):
    assert solve(_PROBLEM, style) == text


def test_a_misconception_shifts_exactly_the_steps_of_its_cell():
    style: Style = "order"
    cells = product((1, -1), range(10), range(2, 10))
    sign, left, right = next(cell for cell in cells if misconception(style, *cell))
    problem = Problem("", 40 + left, (sign * right,))
    wrong = problem.answer + misconception(style, sign, left, right)
    random = rng(0, "test")
    said = [solve(problem, style, random).split()[-1] for _ in range(2000)]
    assert set(said) == {f"{problem.answer}.", f"{wrong}."}
    # 2,000 draws: a standard error of .0104, so .05 is missed by chance once in 10^6.
    assert said.count(f"{wrong}.") / 2000 == pytest.approx(WRONG_SHARE, abs=0.05)


def test_the_popular_style_is_the_sloppiest():
    random = rng(0, "test")
    drawn = list(islice(problems("corpus", random), 1000))
    right = {
        style: sum(solve(one, style, random).endswith(f" {one.answer}.") for one in drawn) / 1000
        for style in STYLES
    }
    assert max(STYLES, key=lambda style: STYLES[style].share) == "order"
    assert right["order"] < 0.8 < 0.9 < min(right[style] for style in STYLES if style != "order")


def test_styles_are_drawn_as_often_as_the_world_uses_them():
    random = rng(0, "test")
    drawn = [habitual(random) for _ in range(4000)]
    assert drawn.count("order") / 4000 == pytest.approx(STYLES["order"].share, abs=0.04)


def test_splits_are_disjoint_and_large_enough():
    texts = [{row.question.text for row in labelled(split, 2000)} for split in _SPLITS]
    assert [len(split) for split in texts] == [2000] * 4
    assert len(set.union(*texts)) == 8000


def test_no_held_out_question_is_in_the_pretraining_texts():
    held_out = {row.question.text for split in _SPLITS for row in labelled(split, 3000)}
    seen = 0
    for document in islice(corpus.documents(0, "step", 0), 3000):
        for line in document.removesuffix(corpus.END).split("\n"):
            if line.startswith("Q: "):
                question = line.removeprefix("Q: ").split("?")[0] + "?"
                assert split_of(question) == "corpus"
                assert question not in held_out
                seen += 1
    assert seen > 3000


def test_questions_are_the_same_ones_every_time_and_a_longer_list_begins_with_a_shorter():
    assert labelled("dev", 50)[:20] == labelled("dev", 20)


def test_exemplars_are_right_worked_and_of_different_styles():
    rows = exemplars(5)
    assert {row.rationale.split(":")[0] for row in rows if row.rationale} == {
        habit.cue.removesuffix(":") for habit in STYLES.values()
    }
    for row in rows:
        assert split_of(row.question.text) == "corpus"
        assert str(row.rationale).endswith(f" The answer is {row.gold[0]}.")


def test_equal_streams_give_equal_documents_and_others_do_not():
    first, again, other = (list(islice(corpus.documents(0, "step", step), 5)) for step in (1, 1, 2))
    assert first == again != other


def test_a_block_without_an_answer_ends_where_the_model_goes_on():
    assert corpus.block("Why?") == "Q: Why?\nA:"
    assert corpus.block("Why?", "So.") == "Q: Why?\nA: So."
