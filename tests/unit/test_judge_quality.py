"""The judge card by hand, and judges against people's labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from selfimprove.data.llmbar import read_decided_matches
from selfimprove.errors import ConfigError, DataError
from selfimprove.evaluation import judge_quality
from selfimprove.evaluation.clusters import clustered
from selfimprove.evaluation.intervals import mean
from selfimprove.evaluation.judge_on_labels import evaluate_judge
from selfimprove.sampling import served
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.types import Draw, Prompt, Response, Verdict

FIELDS = {
    "responses", "votes", "parse_rate", "unscored", "self_consistency", "vote_spread",
    "pairwise_accuracy", "pairwise_accuracy_strict", "tied_pairs", "five_best", "exact_match",
    "spearman", "spearman_ties_as_zero", "kendall", "kendall_ties_as_zero", "correlated_prompts",
    "undefined_correlations", "chance", "prefers_longer", "prefers_first", "score_histogram",
}  # fmt: skip


def judged(
    *prompts: Sequence[tuple[float | None, float]],
) -> tuple[list[Response], list[Verdict], dict[tuple[str, int], float]]:
    """Make one verdict a response from (judge's score, truth), by prompt."""
    shown, said, truth = [], [], {}
    for number, group in enumerate(prompts):
        for index, (score, worth) in enumerate(group):
            name = f"p{number}"
            shown.append(Response(name, "Why?", index, "x" * (index + 1), "stop", 1))
            said.append(
                Verdict(name, index, 0, score, None if score is not None else "no score", "")
            )
            truth[name, index] = worth
    return shown, said, truth


def card(
    shown: Sequence[Response], said: Sequence[Verdict], truth: dict[tuple[str, int], float] | None
) -> dict[str, Any]:
    """Of a judge that gives up to five points."""
    return judge_quality.card(shown, said, truth, highest=5)


def test_the_metrics_of_the_paper_by_hand() -> None:
    # Truth 3 > 2 > 1: the judge swaps the last two. Then two responses that it cannot tell apart.
    told = card(*judged([(5, 3), (1, 2), (4, 1)], [(5, 1), (5, 2)]))
    assert set(told) == FIELDS
    assert told["pairwise_accuracy"]["value"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert told["pairwise_accuracy"]["n"] == 4
    assert told["five_best"]["value"] == pytest.approx(2 / 3)  # of three fives, two are the best
    assert told["exact_match"]["value"] == 0
    assert told["exact_match"]["n"] == 2
    assert told["spearman"] == pytest.approx(
        0.5
    )  # 1 - 6 * (0 + 1 + 1) / 24; the tied prompt is out
    assert told["kendall"] == pytest.approx(1 / 3)


def test_the_five_best_are_those_with_the_highest_score_that_the_judge_can_give() -> None:
    # The judge gives 10 to the best and to another, 5 to the second best.
    groups = judged([(10, 3), (5, 2), (1, 1)], [(10, 1), (5, 2)])
    of_ten = judge_quality.card(*groups, highest=10)
    assert (of_ten["five_best"]["value"], of_ten["five_best"]["n"]) == (0.5, 2)
    assert of_ten["chance"]["five_best"]["n"] == 2
    endless = judge_quality.card(*groups, highest=None)
    assert endless["five_best"] is endless["chance"]["five_best"] is None
    assert endless["pairwise_accuracy"] == of_ten["pairwise_accuracy"]


def test_prompts_without_a_correlation_are_counted_by_reason_and_ties_shown_both_ways() -> None:
    told = card(*judged(
        [(5, 3), (1, 2), (4, 1)],  # Spearman 0.5, Kendall 1/3
        [(5, 1), (5, 2)],  # one score for both
        [(2, 2), (2, 2)],  # nothing to tell apart
        [(1, 4), (5, 4)],
        [(None, 1), (3, 2)],
    ))  # fmt: skip
    assert told["correlated_prompts"] == 1
    assert told["undefined_correlations"] == {
        "one score for all responses": 1, "responses of equal truth": 2,
        "fewer than two scored responses": 1,
    }  # fmt: skip
    assert told["spearman"] == pytest.approx(0.5)
    assert told["spearman_ties_as_zero"] == pytest.approx(0.25)
    assert told["kendall_ties_as_zero"] == pytest.approx(1 / 6)
    # Three pairs of the first prompt, two of them right, and the tied one of the second.
    assert told["pairwise_accuracy"]["value"] == pytest.approx((2 + 0.5) / 4)
    assert told["pairwise_accuracy_strict"]["value"] == pytest.approx(2 / 4)
    assert told["tied_pairs"]["value"] == pytest.approx(1 / 4)


def test_a_judge_that_never_tells_two_apart_has_no_correlation_and_orders_nothing() -> None:
    told = card(*judged(*[[(3, 1), (3, 2)]] * 4))
    assert (told["spearman"], told["kendall"]) == (None, None)
    assert (told["spearman_ties_as_zero"], told["kendall_ties_as_zero"]) == (0.0, 0.0)
    assert told["pairwise_accuracy"]["value"] == 0.5
    assert told["pairwise_accuracy_strict"]["value"] == 0.0


def test_ties_within_a_prompt_follow_tau_b_and_mid_ranks() -> None:
    # Judge 5, 5, 1, truth 3, 2, 1: tau-b 2 / sqrt(3 * 2); mid-ranks 2.5, 2.5, 1: 1.5 / sqrt(1.5 * 2).
    told = card(*judged([(5, 3), (5, 2), (1, 1)]))
    assert told["kendall"] == pytest.approx(2 / 6**0.5)
    assert told["spearman"] == pytest.approx(1.5 / 3**0.5)


def test_a_perfect_judge_and_a_perfectly_wrong_one() -> None:
    right = [[(1, 1), (3, 2), (5, 3)]] * 4
    wrong = [[(5, 1), (3, 2), (1, 3)]] * 4
    for groups, value, order in ((right, 1.0, 1.0), (wrong, 0.0, -1.0)):
        told = card(*judged(*groups))
        assert told["pairwise_accuracy"]["value"] == value
        assert told["exact_match"]["value"] == value
        assert told["five_best"]["value"] == value
        assert told["spearman"] == pytest.approx(order)
        assert told["kendall"] == pytest.approx(order)
        low, high = told["pairwise_accuracy"]["interval"]
        assert low < high  # four prompts prove little, however alike


def test_ties_of_the_truth_say_nothing_of_the_judge() -> None:
    told = card(*judged([(1, 2), (5, 2)]))
    assert told["pairwise_accuracy"] is None
    assert told["exact_match"] is None
    assert told["spearman"] is None
    told = card(*judged([(1, 2), (5, 2), (0, 0)]))
    assert told["pairwise_accuracy"]["n"] == 2
    assert told["exact_match"]["value"] == 1  # either order of the equal two is people's order


def test_responses_of_different_prompts_are_never_compared() -> None:
    told = card(*judged([(5, 1)], [(1, 5)]))
    assert told["pairwise_accuracy"] is None
    assert told["prefers_longer"] is None


def test_what_has_no_score_is_counted_and_not_compared() -> None:
    told = card(*judged([(None, 3), (2, 2), (1, 1)]))
    assert told["parse_rate"] == pytest.approx(2 / 3)
    assert told["unscored"] == {"no score": 1}
    assert told["pairwise_accuracy"]["n"] == 1
    empty = card(*judged([(None, 3), (None, 2)]))
    assert empty["pairwise_accuracy"] is None
    assert empty["score_histogram"] == []


def test_without_a_truth_the_rest_of_the_card_stands() -> None:
    shown, said, _ = judged([(2, 0), (3, 0)])
    told = card(shown, said, None)
    assert [told[m] for m in ("pairwise_accuracy", "five_best", "exact_match", "kendall")] == [
        None
    ] * 4
    assert told["prefers_longer"]["value"] == 1.0
    json.dumps(told)


def test_votes_that_agree_and_votes_that_do_not() -> None:
    shown, _, truth = judged([(0, 1), (0, 2)])
    votes = [Verdict("p0", i, n, s, None, "") for i, row in enumerate([(4, 4, 4), (1, 2, 3)])
             for n, s in enumerate(row)]  # fmt: skip
    told = card(shown, votes, truth)
    assert told["votes"] == 3
    assert told["self_consistency"] == 0.5
    assert told["vote_spread"] == pytest.approx((2 / 3) ** 0.5 / 2)
    single = card(shown, votes[::3], truth)
    assert (single["votes"], single["self_consistency"], single["vote_spread"]) == (1, None, None)


def test_the_histogram_rounds_halves_up_and_shows_gaps() -> None:
    told = card(*judged([(0.5, 1), (2.5, 1), (4.9, 1)]))
    assert told["score_histogram"] == [
        {"score": 1, "count": 1}, {"score": 2, "count": 0}, {"score": 3, "count": 1},
        {"score": 4, "count": 0}, {"score": 5, "count": 1},
    ]  # fmt: skip


def test_the_longer_of_two_is_the_one_with_more_characters() -> None:
    told = card(*judged([(3, 0), (1, 0)], [(1, 0), (3, 0)], [(2, 0), (2, 0)]))
    assert told["prefers_longer"]["value"] == 0.5
    assert told["prefers_longer"]["n"] == 2


def test_intervals_resample_prompts_not_pairs() -> None:
    alike = [[1.0] * 6] * 30 + [[0.0] * 6] * 20
    wide, narrow = clustered(alike), mean([v for cluster in alike for v in cluster])
    assert wide is not None
    assert wide.value == narrow.value == 0.6
    assert wide.n == 300
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert clustered([[], []]) is None
    assert clustered([[1.0], [0.0], []]) == mean([1.0, 0.0])


# Against people's labels.


class _Judge:
    """Prefers what holds GOOD; `biased` always takes what it is shown first."""

    def __init__(self, biased: bool) -> None:
        self.biased = biased

    identity: ClassVar[dict[str, str]] = {"engine": "fake"}

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        for prompt in prompts:
            text = prompt.content if isinstance(prompt.content, str) else prompt.content[0].content
            for vote in range(sampling.n):
                yield Draw(prompt.key, vote, self._says(text), "stop", 1, 1)

    def _says(self, text: str) -> str:
        if "Response B: " not in text:
            return f"Score: {3 + text.count('GOOD')}" if "MUTE" not in text else "I cannot tell."
        first_is_good = "GOOD" in text.split("Response A: ")[1].split("Response B: ")[0]
        return "Better: A" if self.biased or first_is_good else "Better: B"

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    def patch(biased: bool) -> None:
        monkeypatch.setattr(served, "open_engine", lambda _folder, _config: _Judge(biased))

    return patch


def _file(tmp_path: Path, *rows: dict[str, Any]) -> str:
    path = tmp_path / "bar.json"
    path.write_text(json.dumps(list(rows)))
    return str(path)


def _row(first: str, second: str, label: int) -> dict[str, Any]:
    return {"input": "Why?", "output_1": first, "output_2": second, "label": label}


ROWS = (
    _row("GOOD", "bad, at length", 1),
    _row("bad", "GOOD", 2),
    _row("GOOD", "bad", 2),
    _row("x", "y", 1),
)


def test_a_judge_that_scores_is_measured_once(tmp_path: Path, use: Any) -> None:
    use(False)
    told = evaluate_judge(_file(tmp_path, *ROWS), "tiny", ["votes=1"], limit=None, seed=0)
    assert (told["matches"], told["judged"], told["ties"]) == (4, 4, 1)
    assert told["accuracy"]["value"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert told["accuracy_strict"]["value"] == pytest.approx((1 + 1 + 0 + 0) / 4)
    assert told["consistency"] is told["accuracy_swapped"] is told["prefers_first"] is None
    assert told["prefers_longer"]["value"] == pytest.approx(2 / 3)
    json.dumps(told)


def test_a_judge_of_pairs_is_measured_in_both_orders(tmp_path: Path, use: Any) -> None:
    data = _file(tmp_path, *ROWS[:3])
    use(False)
    fair = evaluate_judge(data, "tiny", ["kind=pairwise", "votes=1"], limit=None, seed=0)
    assert [fair[k]["value"] for k in ("accuracy", "accuracy_in_order", "accuracy_swapped")] == (
        pytest.approx([2 / 3] * 3)
    )
    assert (fair["consistency"]["value"], fair["prefers_first"]["value"]) == (1.0, 0.5)
    use(True)
    biased = evaluate_judge(data, "tiny", ["kind=pairwise", "votes=1"], limit=None, seed=0)
    assert biased["accuracy"]["value"] == 0.5
    assert biased["accuracy_in_order"]["value"] == pytest.approx(1 / 3)
    assert biased["accuracy_swapped"]["value"] == pytest.approx(2 / 3)
    assert (biased["consistency"]["value"], biased["prefers_first"]["value"]) == (0.0, 1.0)
    assert (biased["ties"], biased["both_orders"]["value"]) == (3, 0.0)


def test_a_judge_that_says_nothing_has_no_accuracy(tmp_path: Path, use: Any) -> None:
    use(False)
    rows = [_row("MUTE", "GOOD", 2)] * 9 + [_row("GOOD", "bad", 1)]
    told = evaluate_judge(_file(tmp_path, *rows), "tiny", ["votes=1"], limit=None, seed=0)
    assert (told["judged"], told["unscored"]) == (1, {"no score": 9})
    assert told["prefers_longer"]["n"] == told["people_prefer_longer"]["n"] == 1
    none = evaluate_judge(_file(tmp_path, *rows), "tiny", ["votes=1"], limit=2, seed=0)
    assert (none["matches"], none["accuracy"]) == (2, None)


@pytest.mark.parametrize(("name", "rows"), [("Natural", 100), ("MT-Bench_human_part", 103)])
def test_a_random_judge_knows_nothing_of_llmbar(
    shared_data: Callable[[str], Path], name: str, rows: int
) -> None:
    path = shared_data(f"llmbar/{name}.json")
    told = evaluate_judge(str(path), "random", [], limit=None, seed=0)
    assert (told["matches"], told["judged"], told["ties"]) == (rows, rows, 0)
    assert 0.3 < told["accuracy"]["value"] < 0.7
    assert told["people_prefer_longer"]["value"] > 0.5


def test_labels_are_read_as_they_stand(shared_data: Callable[[str], Path]) -> None:
    found = read_decided_matches(shared_data("llmbar/Natural.json"))
    assert sum(one.first_is_better for one in found) == 42
    assert len({one.match.id for one in found}) == 100


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([_row("a", "b", 3)], "row 1.*label is 3"),
        ([_row("a", "b", 1), {"input": "Why?", "output_1": "a", "label": 1}], "row 2.*output_2"),
        ([], "no rows"),
    ],
)
def test_broken_files_name_the_row(tmp_path: Path, rows: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_decided_matches(Path(_file(tmp_path, *rows)))


@pytest.mark.parametrize(("judge", "override"), [("self", "votes=1"), ("tiny", "votse=1")])
def test_a_judge_that_cannot_be_measured_is_refused(
    tmp_path: Path, judge: str, override: str
) -> None:
    with pytest.raises(ConfigError):
        evaluate_judge(_file(tmp_path, *ROWS), judge, [override], limit=None, seed=0)
