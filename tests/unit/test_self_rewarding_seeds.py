"""Judging examples from people's rankings."""

from __future__ import annotations

import json

import pytest

from selfimprove.data.sources import Source
from selfimprove.judges.score_text import Scored, read_score
from selfimprove.methods.self_rewarding.seeds import (
    ReviewsConfig,
    SeedFilesConfig,
    agreeing_reviews,
    reviews_by_rank,
    seed_files_config,
    siblings,
    spread,
    write_seed_files,
)
from selfimprove.types import Demonstration, Ranked, Verdict


def _reviews(ranked, scores, config=None, given=()):
    verdicts = [
        Verdict(row, rank, vote, score, None if score is not None else "no score", f"S{score}")
        for (row, rank), votes in scores.items()
        for vote, score in enumerate(votes)
    ]
    return agreeing_reviews(
        ranked, siblings(ranked), verdicts, given, "tiny", config or ReviewsConfig(), 0
    )


_ROW = Ranked("a", "oasst", "Ask.", ("best", "worst"))


def test_a_ranking_that_the_scores_repeat_gives_an_example_for_each_response():
    made = _reviews([_ROW], {("a", 0): [4.0], ("a", 1): [2.0]})
    assert [(d.prompt, d.response) for d in made.rows] == [
        ("Review the response.\nInstruction: Ask.\nResponse: best", "S4.0"),
        ("Review the response.\nInstruction: Ask.\nResponse: worst", "S2.0"),
    ]


def test_a_tie_an_inversion_and_a_missing_score_are_dropped_with_their_reason():
    rows = [_ROW, Ranked("b", "oasst", "?", ("x", "y")), Ranked("c", "oasst", "!", ("x", "y"))]
    made = _reviews(
        rows,
        {("a", 0): [3.0], ("a", 1): [3.0], ("b", 0): [1.0], ("b", 1): [2.0],
         ("c", 0): [5.0], ("c", 1): [None]},
    )  # fmt: skip
    assert list(made.rows) == []
    assert {d.why: d.count for d in made.funnels[0].dropped} == {
        "scores do not rank the responses as people did": 2,
        "a response without a score": 1,
    }


def test_the_vote_nearest_to_the_mean_speaks():
    made = _reviews([_ROW], {("a", 0): [5.0, 3.0, 4.0], ("a", 1): [1.0, 1.0, 1.0]})
    assert made.rows[0].response == "S4.0"


@pytest.mark.parametrize(
    ("best", "worst", "why"),
    [
        # Means 4.33 and 3.67 rank them, but each is nearest to a vote of 4: the examples would tie.
        ([4.0, 4.0, 5.0], [4.0, 4.0, 3.0], "the verdicts to be shown do not"),
        # Means 2.33 and 2 rank them, but what is shown says 1 of the better and 2 of the worse.
        ([5.0, 1.0, 1.0], [2.0, 2.0, 2.0], "the verdicts to be shown do not"),
        # 5 and 4 are shown, but the judge's mean of both is 4: it does not prefer either.
        ([5.0, 3.0], [4.0, 4.0], "scores do not"),
    ],
)
def test_the_verdicts_that_are_shown_must_rank_the_responses_too(best, worst, why):
    made = _reviews([_ROW], {("a", 0): best, ("a", 1): worst})
    assert list(made.rows) == []
    assert [d.why for d in made.funnels[0].dropped] == [f"{why} rank the responses as people did"]


def test_with_less_agreement_the_shown_verdicts_must_reach_the_share_as_well():
    row = Ranked("a", "oasst", "Ask.", ("x", "y", "z"))
    scores = {("a", 0): [5.0], ("a", 1): [4.0, 4.0, 5.0], ("a", 2): [4.0, 4.0, 3.0]}
    # The means order all three pairs, the shown 5, 4, 4 two of them.
    assert len(_reviews([row], scores, ReviewsConfig(agreement=0.6, balance=False)).rows) == 3
    assert len(_reviews([row], scores, ReviewsConfig(agreement=0.7, balance=False)).rows) == 0


def test_the_commonest_score_is_cut_down_to_the_second():
    rows = [Ranked(str(i), "oasst", "?", ("x", "y")) for i in range(4)]
    scores: dict[tuple[str, int], list[float]] = {}
    for i in range(4):
        scores |= {(str(i), 0): [4.0], (str(i), 1): [float(i % 2)]}
    made = _reviews(rows, scores)
    assert sorted(d.response for d in made.rows) == ["S0.0", "S0.0", "S1.0", "S1.0", "S4.0", "S4.0"]
    assert len(_reviews(rows, scores, ReviewsConfig(balance=False)).rows) == 8


def test_given_examples_come_first():
    own = Demonstration("g", "file", "p", "r")
    made = _reviews([_ROW], {("a", 0): [4.0], ("a", 1): [2.0]}, given=(own,))
    assert made.rows[0] == own


def test_seed_files_of_rated_conversations(tmp_path):
    tree = {
        "message_tree_id": "t", "prompt": {"text": "Hi?", "lang": "en", "replies": [
            {"text": "Hello.", "rank": 0, "lang": "en"}, {"text": "No.", "rank": 1, "lang": "en"},
        ]},
    }  # fmt: skip
    file = tmp_path / "trees.jsonl"
    file.write_text(json.dumps(tree) + "\n")
    source = Source(source=str(file), format="oasst")
    (funnel,) = write_seed_files(source, tmp_path / "out", None, SeedFilesConfig(), 0)
    assert (funnel.given, funnel.kept) == (1, 1)
    (row,) = map(json.loads, (tmp_path / "out" / "ift.jsonl").read_text().splitlines())
    assert (row["prompt"], row["completion"]) == ("Hi?", "Hello.")
    assert not (tmp_path / "out" / "eft.jsonl").exists()


def test_no_prompt_is_in_both_seed_files(tmp_path):
    def tree(number):
        replies = [{"text": f"{word} {number}.", "rank": rank} for rank, word in enumerate("ab")]
        prompt = {"text": f"Ask about thing {number}.", "lang": "en", "replies": replies}
        return json.dumps({"message_tree_id": str(number), "prompt": prompt})

    file = tmp_path / "trees.jsonl"
    file.write_text("".join(f"{tree(n)}\n" for n in range(20)))
    source = Source(source=str(file), format="oasst")
    judge = {"prompt": "tiny", "votes": 1, "max_tokens": 32, "max_unscored": 1}
    config = seed_files_config({"judge": judge, "reviews": {"agreement": 1e-9}, "eft_share": 0.4})
    funnels = write_seed_files(source, tmp_path / "out", "tiny", config, 0)
    told = {f.name: (f.given, f.kept) for f in funnels}
    assert told["demonstrations apart from EFT"] == (20, 12)
    assert told["rankings apart from IFT"] == (20, 8)
    lines = (tmp_path / "out" / "ift.jsonl").read_text().splitlines()
    assert len({json.loads(line)["prompt"] for line in lines}) == 12
    judged = (tmp_path / "out" / "eft.jsonl").read_text()
    assert not [line for line in lines if json.loads(line)["prompt"] in judged]


def test_ranks_alone_become_scores_spread_over_the_scale() -> None:
    ranked = [Ranked("a", "oasst", "Why?", ("Good.", "Middling.", "Bad.")),
              Ranked("b", "oasst", "How?", ("Good.", "Bad."))]  # fmt: skip
    config = ReviewsConfig(words="ranks", balance=False)
    told = reviews_by_rank(ranked, (), "additive", config, 0)
    assert [d.response for d in told.rows] == [
        "Score: 5", "Score: 2", "Score: 0", "Score: 5", "Score: 0",
    ]  # fmt: skip
    assert "Response: Middling." in told.rows[1].prompt
    assert all(read_score(d.response, 0, 5) == Scored(float(d.response[-1])) for d in told.rows)
    assert [f.kept for f in told.funnels] == [5]
    balanced = reviews_by_rank(ranked[:1] * 3, (), "additive", ReviewsConfig(words="ranks"), 0)
    assert len(balanced.rows) == 9  # three of each score: there is no commonest
    assert [spread(rank, 2, 1, 5) for rank in (0, 1)] == [5, 1]
