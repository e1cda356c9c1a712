"""The public HH-RLHF pairs: every row parses into turns, and the odd ones are listed and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from selfimprove.data.hh_rlhf import turns
from selfimprove.data.preference_files import rows
from selfimprove.data.preferences import of_fold, read_preferences, three_folds
from selfimprove.data.read import check
from selfimprove.data.row import RowError, UnusableRow
from selfimprove.data.sources import Source
from selfimprove.data.tables import records

Find = Callable[[str], Path]

_PARTS = {
    "hh_rlhf/harmless_base_test_part.jsonl.gz": (1777, {"empty": 4, "shared": 3}),
    "hh_rlhf/helpful_base_test_part.jsonl.gz": (1719, {"empty": 3, "shared": 4}),
}


@pytest.mark.parametrize("name", _PARTS)
def test_every_transcript_parses_into_turns_that_give_it_back(shared_data: Find, name: str) -> None:
    count = 0
    sides = {"user": "Human", "assistant": "Assistant"}
    for record in records(shared_data(name), lambda tree: tree):
        assert record.fields is not None
        for transcript in (record.fields["chosen"], record.fields["rejected"]):
            said = turns(transcript)
            again = "".join(f"\n\n{sides[m.role]}: {m.content}" for m in said)
            assert "".join(again.split()) == "".join(transcript.split())
            assert (said[0].role, said[-1].role) == ("user", "assistant")
        count += 1
    assert count == _PARTS[name][0]


@pytest.mark.parametrize("name", _PARTS)
def test_the_odd_rows_are_listed_with_their_line(shared_data: Find, name: str) -> None:
    told = list(rows(str(shared_data(name)), "hh_rlhf"))
    odd = [(place, str(row)) for place, row in told if isinstance(row, RowError)]
    assert all(isinstance(row, UnusableRow) for _, row in told if isinstance(row, RowError))
    kinds = Counter(next(k for k in ("empty", "shared") if k in why) for _, why in odd)
    assert (len(told), dict(kinds)) == _PARTS[name]
    if "helpful" in name:
        assert [place for place, _ in odd] == [
            f"line {n}" for n in (88, 421, 562, 756, 873, 905, 1082)
        ]


def test_they_are_read_and_divided_for_training(shared_data: Find) -> None:
    sources = [Source(source=str(shared_data(name)), format="hh_rlhf") for name in _PARTS]
    found = read_preferences(sources, 0)
    assert [(f.given, f.kept) for f in found.funnels] == [(1777, 1770), (1719, 1712)]
    assert len({row.id for row in found.rows}) == len(found.rows) == 3482
    for row in found.rows:
        assert row.chosen != row.rejected
        assert row.prompt[-1].role == "user"
        roles = [turn.role for turn in row.prompt]
        assert all(one != two for one, two in pairwise(roles))
    folds = three_folds(found.rows, 0)
    sizes = [len(of_fold(found.rows, folds, fold)) for fold in ("sft", "reward", "rl")]
    assert max(sizes) - min(sizes) <= 5


def test_a_conversation_of_the_helpful_half_reads_as_it_was_held(shared_data: Find) -> None:
    path = str(shared_data("hh_rlhf/helpful_base_test_part.jsonl.gz"))
    first = read_preferences([Source(source=path, format="hh_rlhf", limit=1)], 0).rows[0]
    assert [turn.role for turn in first.prompt] == ["user", "assistant"] * 2 + ["user"]
    assert first.prompt[2].content == "I am in Oregon."
    assert first.chosen.startswith("About 150 species of butterflies live in Oregon")
    assert first.rejected.startswith("Are you interested in just the common butterflies?")


@pytest.mark.parametrize("name", _PARTS)
def test_data_check_lists_the_odd_rows_and_calls_none_broken(shared_data: Find, name: str) -> None:
    found = check(str(shared_data(name)), "hh_rlhf")
    assert (found.rows, found.bad) == (_PARTS[name][0], ())
    assert len(found.left_out) == sum(_PARTS[name][1].values()) == found.rows - found.good
