"""Prompts, demonstrations, reviews and rankings: from files of many layouts and the tiny world."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from selfimprove.data.demonstrations import read_demonstrations, read_ranked, read_reviews
from selfimprove.data.sources import Source
from selfimprove.data.user_prompts import read_prompts
from selfimprove.errors import DataError
from selfimprove.evaluation.set_names import set_names
from selfimprove.evaluation.true_scores import read_rated
from selfimprove.tiny.oracle import score


def _file(tmp_path: Path, *rows: Any) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _source(file: str, name: str = "prompts", limit: int | None = None) -> Source:
    return Source(source=file, format=name, limit=limit)


_TURNS = [{"role": "user", "content": "Ask."}, {"role": "assistant", "content": "Say."}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Ask.", "completion": "Say."},
        {"prompt": _TURNS[:1], "completion": _TURNS[1:]},
        {"messages": _TURNS},
        {"conversations": [{"from": "human", "value": "Ask."}, {"from": "gpt", "value": "Say."}]},
        {"instruction": "Ask.", "input": "", "output": "Say."},
        {"question": "Ask.", "answer": "Say."},
        {"instruction": "Ask.", "instances": [{"input": "", "output": "Say."}]},
    ],
)
def test_many_layouts_say_the_same(tmp_path, row):
    (found,) = read_demonstrations((_source(_file(tmp_path, row)),), 0).rows
    assert (found.prompt, found.response) == ("Ask.", "Say.")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "no prompt"}, "line 2: has no 'prompt'"),
        (
            {"messages": [{"role": "assistant", "content": "Say."}]},
            "line 2: has no turn of the user",
        ),
        ({"prompt": ""}, "line 2: .* is empty"),
    ],
)
def test_a_row_without_a_prompt_is_named(tmp_path, row, said):
    file = _file(tmp_path, {"prompt": "Ask."}, row)
    with pytest.raises(DataError, match=said):
        read_prompts((_source(file),))


def test_an_unknown_format_lists_the_known_ones(tmp_path):
    with pytest.raises(DataError, match="no format of prompts is called 'oast'; there are oasst"):
        read_prompts((_source(_file(tmp_path, {"prompt": "Ask."}), "oast"),))


def _tree(number: int, replies: list[dict[str, Any]], lang: str = "en") -> dict[str, Any]:
    prompt = {"text": f"Ask {number}.", "lang": lang, "replies": replies}
    return {"message_tree_id": str(number), "prompt": prompt}


def _reply(text: str, rank: int | None, **more: Any) -> dict[str, Any]:
    return {"text": text, "rank": rank, **more}


def test_what_of_a_tree_is_used_and_why_the_rest_is_not(tmp_path):
    file = _file(
        tmp_path,
        _tree(1, [_reply("b", 1), _reply("a", 0), _reply("c", 2)]),
        _tree(2, [_reply("a", 0)], lang="de"),
        _tree(3, [_reply("a", 0, deleted=True), _reply("b", 1)]),
        _tree(4, [_reply("a", None), _reply("b", 0)]),
    )
    source = (_source(file, "oasst"),)
    ift, ranked = read_demonstrations(source, 0), read_ranked(source)
    assert [d.response for d in ift.rows] == ["a", "b"]
    assert {d.why: d.count for d in ift.funnels[0].dropped} == {
        "not English": 1,
        "no usable reply of rank 0": 1,
    }
    assert [r.responses for r in ranked.rows] == [("a", "b", "c")]


def test_any_rated_data_is_a_ranking(tmp_path):
    file = _file(
        tmp_path,
        {"prompt": "Ask.", "responses": ["x", "y", "z"], "scores": [1, 5, 3]},
        {"prompt": "Ask.", "responses": ["x", "y"], "ranks": [1, 0]},
    )
    assert [r.responses for r in read_ranked((_source(file),)).rows] == [
        ("y", "z", "x"),
        ("y", "x"),
    ]


@pytest.mark.parametrize(
    "rated",
    [
        {"responses": ["x"], "scores": [1]},
        {"responses": ["x", "y"], "scores": [1]},
        {"responses": ["x", 2], "scores": [1, 2]},
        {"responses": ["x", "y"], "scores": ["good", "bad"]},
        {"responses": "xy", "ranks": [0, 1]},
    ],
)
def test_a_row_that_rates_no_two_replies_is_broken(tmp_path, rated):
    bad = _file(tmp_path, {"prompt": "Ask.", **rated})
    with pytest.raises(DataError, match="two or more 'responses'"):
        read_ranked((_source(bad),))


def test_replies_are_compared_as_they_read_without_their_reasoning(tmp_path):
    thought = "<think>Hm.</think>"
    row = {"prompt": "Ask.", "scores": [1, 5, 5, 3, 2],
           "responses": ["x", f"{thought}", f"{thought}y", f"{thought}x", "z"]}  # fmt: skip
    same = {"prompt": "Ask.", "scores": [1, 2], "responses": ["x", f"{thought}x"]}
    found = read_ranked((_source(_file(tmp_path, row, same)),))
    # The best reply says nothing, the next one of its rank does; x has the better of its two ranks.
    assert [r.responses for r in found.rows] == [("y", "x", "z")]
    assert [(f.given, f.kept) for f in found.funnels] == [(2, 1)]


def test_what_is_lost_is_counted_in_the_part_that_is_read(tmp_path):
    def row(n, said):
        return {
            "prompt": f"Ask {n}.",
            "completion": said,
            "responses": ["a", said],
            "scores": [1, 2],
        }

    lost = "<think>Hm."
    rows = [row(n, said) for n, said in enumerate([lost, "w", lost, "x", lost, "y", lost, "z"])]
    part = (Source(source=str(_file(tmp_path, *rows)), skip=1, limit=2),)
    for read in (read_demonstrations(part, 0), read_reviews(part, 0), read_ranked(part)):
        assert [r.prompt for r in read.rows] == ["Ask 3.", "Ask 5."]
        # Behind the first row that is passed over, before the last one that is used.
        assert [(f.given, f.kept, f.dropped[0].count) for f in read.funnels] == [(4, 2, 2)]
    replies = [_reply("a", 0), _reply("b", 1)]
    trees = [_tree(n, replies, lang="en" if n % 2 else "de") for n in range(8)]
    part = (Source(source=str(_file(tmp_path, *trees)), format="oasst", skip=1, limit=2),)
    for read in (read_demonstrations(part, 0), read_ranked(part)):
        assert [r.id for r in read.rows] == ["oasst-3", "oasst-5"]
        assert [(f.given, f.kept, f.dropped[0].count) for f in read.funnels] == [(4, 2, 2)]


def test_two_files_may_count_alike(tmp_path):
    file = _source(_file(tmp_path, {"prompt": "Ask."}))
    assert [p.id for p in read_prompts((file, file))] == ["prompts-0", "prompts-0~2"]


def test_the_tiny_worlds_demonstrations_are_good_but_not_perfect():
    rows = read_demonstrations((_source("train", "tiny", 300),), 0).rows
    mean = sum(score(r.prompt, r.response) for r in rows) / len(rows)
    assert 3.0 < mean < 4.0  # drafts at random are at 2.5
    again = read_demonstrations((_source("train", "tiny", 300),), 0).rows
    other = read_demonstrations((_source("train", "tiny", 300),), 1).rows
    assert rows == again != other


def test_the_tiny_worlds_reviews_are_of_other_instructions_and_balanced():
    reviews = read_reviews((_source("train", "tiny", 600),), 0).rows
    shown = {p.text for p in read_prompts((_source("train", "tiny", 400),))}
    assert not any(text in r.prompt for r in reviews for text in shown)
    counts = Counter(r.response[-1] for r in reviews)
    assert max(counts.values()) <= 100
    assert set(counts) == set("012345")


def test_an_unknown_split_of_the_tiny_world_is_refused():
    with pytest.raises(DataError, match="no instructions 'ood'; there are train, dev, test"):
        read_prompts((_source("ood", "tiny"),))


def test_matches_that_people_decided_are_rankings_and_judging_sets_stay_apart(tmp_path):
    matches = [
        {"input": "Why?", "output_1": "Because.", "output_2": "No.", "label": 1},
        {"input": "How?", "output_1": "No.", "output_2": "So.", "label": 2},
    ]
    files = [tmp_path / part / "dataset.json" for part in ("Natural", "Adversarial/GPTInst")]
    for file in files:  # as LLMBar is published
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(matches))
    sources = [Source(source=str(file), format="llmbar") for file in files]
    ranked = read_ranked(sources[:1]).rows
    assert [r.responses for r in ranked] == [("Because.", "No."), ("So.", "No.")]
    rated = read_rated(sources, 0)
    assert Counter(r.set for r in rated) == {
        "llmbar Natural/dataset": 4,
        "llmbar GPTInst/dataset": 4,
    }
    assert {r.known_by for r in rated} == {"people"}
    # Two files that count their rows alike are four prompts, of two responses each.
    assert Counter(r.response.prompt_id for r in rated) == {
        "dataset-0": 2, "dataset-1": 2, "dataset-0~2": 2, "dataset-1~2": 2,
    }  # fmt: skip
    assert [(r.response.text, r.truth) for r in rated[:2]] == [("Because.", 0.0), ("No.", -1.0)]


def test_two_parts_of_one_judging_file_stay_apart_and_the_oracle_knows_the_tiny_worlds():
    parts = [Source(source="dev", format="tiny", skip=skip, limit=2) for skip in (0, 2)]
    rated = read_rated(parts, 0)
    assert Counter(r.set for r in rated) == {"tiny dev": 8, "tiny dev~2": 8}
    assert len({r.response.prompt_id for r in rated}) == 4
    assert {r.known_by for r in rated} == {"oracle"}


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/one.json", "b/two.json"], ["f one", "f two"]),
        (["a/x/one.json", "b/x/one.json"], ["f a/x/one", "f b/x/one"]),
        (["one.json", "b/one.json"], ["f one", "f b/one"]),
        (["a/one.json", "a/one.json", "b/one.json"], ["f a/one", "f a/one~2", "f b/one"]),
        (["a/one.json", "a/one.csv"], ["f one", "f one~2"]),
    ],
)
def test_a_set_is_called_by_its_file_and_by_folders_where_files_are_called_alike(files, names):
    assert set_names([Source(source=file, format="f") for file in files]) == names


def test_a_task_is_asked_with_the_input_that_its_output_answers(tmp_path):
    task = {"instruction": "Translate.", "instances": [{"input": "Tee", "output": "Tea"},
                                                      {"input": "Brot", "output": "Bread"}]}  # fmt: skip
    source = (_source(_file(tmp_path, task), "self_instruct"),)
    (found,) = read_demonstrations(source, 0).rows
    assert (found.prompt, found.response) == ("Translate.\n\nTee", "Tea")
    assert [p.text for p in read_prompts(source)] == ["Translate.\n\nTee"]


def test_reasoning_is_left_out_of_replies_and_what_is_nothing_else_is_counted(tmp_path):
    said, empty = ({"prompt": "Ask.", "completion": f"<think>Hm.</think>{x}"} for x in ("Say.", ""))
    source = (_source(_file(tmp_path, said, empty)),)
    found = read_demonstrations(source, 0)
    assert [row.response for row in found.rows] == ["Say."]
    assert [(f.given, f.kept, f.dropped[0].count) for f in found.funnels] == [(2, 1, 1)]
    reviews = read_reviews(source, 0)
    assert [row.response for row in reviews.rows] == ["Say."]
    assert reviews.funnels == found.funnels
    ranked = {"prompt": "Ask.", "scores": [1, 2]}
    rows = [ranked | {"responses": ["<think>a</think>No.", b]} for b in ("Yes.", "<think>b")]
    rated = read_ranked((_source(_file(tmp_path, *rows)),))
    assert [row.responses for row in rated.rows] == [("Yes.", "No.")]
    assert [(f.given, f.kept) for f in rated.funnels] == [(2, 1)]
