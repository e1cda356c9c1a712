"""`selfimprove data split`: parts that share no prompt, of rows as they stand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from selfimprove.data.demonstrations import read_demonstrations
from selfimprove.data.parts import shares_of_words, split_file
from selfimprove.data.preferences import read_preferences
from selfimprove.data.sources import Source
from selfimprove.errors import ConfigError, DataError


def _hh(first: str, *then: str) -> dict[str, str]:
    said = "".join(f"\n\n{'Human' if i % 2 == 0 else 'Assistant'}: {s}"
                   for i, s in enumerate((first, *then)))  # fmt: skip
    return {"chosen": f"{said}\n\nAssistant: Yes.", "rejected": f"{said}\n\nAssistant: No."}


def test_the_turns_of_one_conversation_lie_in_one_part_and_rows_stay_as_they_are(
    tmp_path: Path,
) -> None:
    rows = [row for i in range(20) for row in (_hh(f"Why {i}?"), _hh(f"why {i}", "So.", "And?"))]
    file = tmp_path / "hh.jsonl.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    parts = split_file(str(file), "hh_rlhf", {"a": 0.5, "b": 0.3, "c": 0.2}, tmp_path / "out", 0)
    assert [(p.file.name, p.rows, p.prompts) for p in parts] == [
        ("a.jsonl", 20, 10), ("b.jsonl", 12, 6), ("c.jsonl", 8, 4),
    ]  # fmt: skip
    found = [[json.loads(line) for line in p.file.read_text().splitlines()] for p in parts]
    assert sorted(json.dumps(r) for part in found for r in part) == sorted(map(json.dumps, rows))
    assert all(part == [r for r in rows if r in part] for part in found)  # in the file's order
    first = [{r["chosen"].split("?")[0].split("\n\n")[1].lower() for r in part} for part in found]
    assert not first[0] & first[1] | first[0] & first[2] | first[1] & first[2]
    again = split_file(str(file), "hh_rlhf", {"a": 0.5}, tmp_path / "again", 0)
    assert again[0].file.read_bytes() == parts[0].file.read_bytes()
    other = split_file(str(file), "hh_rlhf", {"a": 0.5}, tmp_path / "other", 1)
    assert other[0].file.read_bytes() != parts[0].file.read_bytes()


def test_a_row_that_is_no_comparison_stays_and_a_broken_one_is_named(tmp_path: Path) -> None:
    same = {
        "chosen": "\n\nHuman: Hi\n\nAssistant: Yes.",
        "rejected": "\n\nHuman: Ho\n\nAssistant: No.",
    }
    file = tmp_path / "hh.jsonl"
    file.write_text(json.dumps(same) + "\n" + json.dumps(_hh("Why?")) + "\n")
    (part,) = split_file(str(file), "hh_rlhf", {"all": 1.0}, tmp_path / "out", 0)
    assert (part.rows, part.prompts) == (2, 2)
    file.write_text(json.dumps(_hh("Why?")) + "\n" + json.dumps({"chosen": "x"}) + "\n")
    with pytest.raises(DataError, match="line 2"):
        split_file(str(file), "hh_rlhf", {"all": 1.0}, tmp_path / "out", 0)
    with pytest.raises(DataError, match="of 1 prompts none would be in a"):
        file.write_text(json.dumps(_hh("Why?")) + "\n")
        split_file(str(file), "hh_rlhf", {"a": 0.5, "b": 0.5}, tmp_path / "out", 0)
    with pytest.raises(DataError, match="gsm8k"):
        split_file(str(file), "gsm8k", {"a": 0.5}, tmp_path / "out", 0)


def test_no_part_is_empty_and_none_is_written_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(f'{{"prompt": "Why {n}?"}}\n' for n in range(3)))
    before = file.read_bytes()
    with pytest.raises(DataError, match="of 3 prompts none would be in b"):
        split_file(str(file), "prompts", {"c": 0.9, "b": 0.1}, tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="written over"):
        split_file(str(file), "prompts", {"a": 0.5, "b": 0.5}, tmp_path, 0)
    assert file.read_bytes() == before


def test_shares_are_read_or_refused() -> None:
    assert shares_of_words(["run=0.5", "judge=0.3", "test=0.2"]) == {
        "run": 0.5,
        "judge": 0.3,
        "test": 0.2,
    }
    for words in (
        ["a"],
        ["a=0"],
        ["a=x"],
        ["=0.5"],
        ["../a=0.5"],
        ["a=0.6", "b=0.5"],
        ["a=0.2", "a=0.2"],
        [],
    ):
        with pytest.raises(ConfigError):
            shares_of_words(words)


def test_real_files_come_apart_and_are_read_as_before(
    tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    trees = shared_data("oasst/en_tree.jsonl")
    parts = split_file(str(trees), "oasst", {"a": 0.6, "b": 0.4}, tmp_path, 0)
    read = [
        read_demonstrations((Source(source=str(p.file), format="oasst"),), 0).rows for p in parts
    ]
    (whole,) = (read_demonstrations((Source(source=str(trees), format="oasst"),), 0).rows,)
    assert sorted(d.id for part in read for d in part) == sorted(d.id for d in whole)
    pairs = shared_data("hh_rlhf/helpful_base_test_part.jsonl.gz")
    parts = split_file(str(pairs), "hh_rlhf", {"a": 0.5, "b": 0.5}, tmp_path, 0)
    told = [
        read_preferences((Source(source=str(p.file), format="hh_rlhf"),), 0).rows for p in parts
    ]
    assert sum(map(len, told)) == 1712
    opened = [{" ".join(p.prompt[0].content.lower().split()) for p in part} for part in told]
    assert not opened[0] & opened[1]
