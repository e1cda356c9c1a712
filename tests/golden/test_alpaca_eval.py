"""AlpacaEval's own files: read, counted as published, and written back to the byte."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfimprove.data.alpaca_eval import (
    ModelOutput,
    read_outputs,
    read_preferences,
    write_outputs,
)
from selfimprove.errors import DataError
from selfimprove.evaluation.versus import recount

_ANNOTATIONS = "alpaca_eval/alpaca-7b__alpaca_eval_gpt4__annotations.json"
_OUTPUTS = ("text_davinci_003_model_outputs.json", "gpt4_1106_preview_model_outputs.json")


def annotated(tmp_path: Path, *preferences: object, **more: Any) -> Path:
    """Write annotations of two systems, one row a preference."""
    rows = [
        {"instruction": f"q{n}", "output_1": "of the base", "generator_1": "base",
         "output_2": "ours", "generator_2": "ours", "preference": preference} | more
        for n, preference in enumerate(preferences)
    ]  # fmt: skip
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    return path


# ---- the published row


def test_the_published_row_comes_out(shared_data: Callable[[str], Path]) -> None:
    with shared_data("alpaca_eval/published_rows.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    told = recount(shared_data(_ANNOTATIONS))
    assert (told["first"], told["second"]) == ("alpaca-7b", "text_davinci_003")
    assert 100 * told["win_rate"] == pytest.approx(float(row["win_rate"]), abs=1e-10)
    assert 100 * told["standard_error"] == pytest.approx(float(row["standard_error"]), abs=1e-10)
    counts = [told[name] for name in ("wins", "losses", "ties", "n")]
    assert counts == [int(row[n]) for n in ("n_wins", "n_wins_base", "n_draws", "n_total")]
    assert told["unscored"] == 0
    assert int(told["first_length"]) == int(row["avg_length"])


def test_length_hides_little_of_that_defeat(shared_data: Callable[[str], Path]) -> None:
    told = recount(shared_data(_ANNOTATIONS))
    assert told["second_length"] > told["first_length"]
    assert told["length_controlled"] == pytest.approx(0.2568, abs=1e-4)
    low, high = told["length_controlled_interval"]
    assert low == pytest.approx(0.224, abs=0.004)
    assert high == pytest.approx(0.290, abs=0.004)


def test_the_same_annotations_as_floats_are_read_alike(
    tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    rows = json.loads(shared_data(_ANNOTATIONS).read_text())
    for row in rows:
        row["preference"] = {0: 1.5, 1: 1.0, 2: 2.0}[row["preference"]]
    path = tmp_path / Path(_ANNOTATIONS).name
    path.write_text(json.dumps(rows))
    assert recount(path) == recount(shared_data(_ANNOTATIONS))


# ---- preferences


def test_preferences_are_the_share_of_the_win_of_the_second_output(tmp_path: Path) -> None:
    path = annotated(tmp_path, 1, 2, 0, 1.5, 1.0, 2.0, 1.25, 1.999, None)
    outcomes, first, second = read_preferences(path)
    assert (first, second) == ("ours", "base")
    shares = [o.preference for o in outcomes]
    assert shares[:-1] == pytest.approx([0, 1, 0.5, 0.5, 0, 1, 0.25, 0.999])
    assert (outcomes[-1].preference, outcomes[-1].unscored) == (None, "no preference")
    assert all(o.unscored is None for o in outcomes[:-1])
    assert (outcomes[0].first_length, outcomes[0].second_length) == (4, 11)


def test_weighted_preferences_make_the_rate_and_their_side_the_count(tmp_path: Path) -> None:
    told = recount(annotated(tmp_path, 1.9, 1.6, 1.1, None))
    assert told["win_rate"] == pytest.approx((0.9 + 0.6 + 0.1) / 3)
    assert [told[n] for n in ("wins", "losses", "ties", "unscored")] == [2, 1, 0, 1]


def test_annotators_of_one_instruction_share_a_prompt(tmp_path: Path) -> None:
    outcomes, _, _ = read_preferences(annotated(tmp_path, 1, 2, 2, instruction="the same"))
    assert {o.prompt_id for o in outcomes} == {"1"}
    assert [o.id for o in outcomes] == ["1", "2", "3"]


@pytest.mark.parametrize("preference", [3, 0.5, -1, 2.01, "2", True, float("nan"), [1]])
def test_any_other_preference_is_an_error_that_names_the_row(
    tmp_path: Path, preference: object
) -> None:
    with pytest.raises(DataError, match=r"annotations\.json, row 2: preference .* within 1 to 2"):
        read_preferences(annotated(tmp_path, 1, preference))


def test_rows_of_several_systems_are_not_thrown_together(tmp_path: Path) -> None:
    path = annotated(tmp_path, 1, 2)
    rows = json.loads(path.read_text())
    rows[1]["generator_2"] = "another"
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"several systems as generator_2 \(another, ours\)"):
        read_preferences(path)


# ---- model outputs


@pytest.mark.parametrize("name", _OUTPUTS)
def test_real_outputs_are_written_back_to_the_byte(
    name: str, tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    path = shared_data(f"alpaca_eval/{name}")
    found = read_outputs(path)
    assert len(found) == 805
    assert {o.generator for o in found} == {name.removesuffix("_model_outputs.json")}
    write_outputs(tmp_path / name, found)
    assert (tmp_path / name).read_bytes() == path.read_bytes()


def test_any_text_comes_back_as_it_was(tmp_path: Path) -> None:
    texts = ['a "quoted" \\ / path', "zwölf Füchse 🦊\u2028", "", "line\n\ttab\x00", "</script>\\/"]
    rows = [ModelOutput("mine", text, text[::-1], "m2") for text in texts]
    write_outputs(tmp_path / "new" / "outputs.json", rows)
    assert read_outputs(tmp_path / "new" / "outputs.json") == rows
    assert (tmp_path / "new" / "outputs.json").read_bytes().isascii()


def test_a_system_without_a_name_has_that_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "m7.json"
    path.write_text('[{"instruction": "q", "output": "a"}]')
    assert read_outputs(path) == [ModelOutput("", "q", "a", "m7")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "is no JSON file"),
        ("{}", "holds no list of rows"),
        ("[]", "holds no list of rows"),
        ("[1]", "holds no list of rows"),
        ('[{"instruction": "q"}]', "row 1: has no text 'output'; found instruction"),
        ('[{"instruction": "q", "output": null}]', "row 1: has no text 'output'"),
    ],
)
def test_a_file_of_another_kind_is_one_clear_error(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "outputs.json"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_outputs(path)
    with pytest.raises(DataError, match="there is no file"):
        read_outputs(tmp_path / "nowhere.json")
