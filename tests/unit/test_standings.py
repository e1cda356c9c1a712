"""Runs and annotation files in one order: what `selfimprove compare` shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import log10
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from selfimprove.cli import app
from selfimprove.errors import DataError
from selfimprove.evaluation.head_to_head import head_to_head
from selfimprove.report.standings import standings
from selfimprove.rows import encode
from selfimprove.types import Outcome


def outcomes(*shares: float | None) -> list[Outcome]:
    return [
        Outcome(f"p{n}#0", f"p{n}", share, "cut" if share is None else None, 30 + n, 20)
        for n, share in enumerate(shares)
    ]


def run(root: Path, *, digest: str, shares: Sequence[float | None], stored: str | None) -> Path:
    """Write the folder of a run in which `m1` met `m0`; `stored` names the step that holds the matches."""
    told = head_to_head(outcomes(*shares), first="m1", second="m0", judge="tiny", set="dev")
    arms = [{"name": n, "kind": k} for n, k in (("m0", "base"), ("m1", "method"))]
    lineage = [{"role": "base", "name": "tiny", "digest": digest},
               {"role": "student", "name": "ours", "digest": f"{root.name} trained"}]  # fmt: skip
    files: dict[str, Any] = {
        "recipe.json": {"method": "pit", "model": "tiny", "seed": 0},
        "summary.json": {"head_to_head": [told.as_dict()], "arms": arms},
        "lineage.json": lineage,
    }
    root.mkdir()
    for name, held in files.items():
        (root / name).write_text(json.dumps(held))
    if stored is not None:
        mirrored = stored.startswith("m0")
        rows = outcomes(*[None if s is None else 1 - s if mirrored else s for s in shares])
        (root / stored).mkdir()
        (root / stored / "shard-00000.parquet").write_bytes(encode(rows, Outcome))
    return root


def ratings(found: dict[str, Any]) -> dict[str, float]:
    return {s["system"]: s["rating"] for group in found["ratings"] for s in group["systems"]}


@pytest.mark.parametrize("stored", ["m1-against-m0", "m0-against-m1", None])
def test_a_run_is_rated_by_its_matches_however_they_are_stored(
    tmp_path: Path, stored: str | None
) -> None:
    # 6 won, 2 lost, one not judged: 3 to 1.
    shares: list[float | None] = [1.0] * 6 + [0.0] * 2 + [None]
    found = standings([run(tmp_path / "a", digest="d", shares=shares, stored=stored)], anchor="m0")
    assert ratings(found) == pytest.approx({"m0": 1000, "m1": 1000 + 400 * log10(3)})
    assert found["head_to_head"][0]["unscored"] == 1


def test_runs_of_one_base_meet_in_it(tmp_path: Path) -> None:
    one = run(tmp_path / "one", digest="d", shares=[1, 1, 1, 0], stored="m1-against-m0")
    other = run(tmp_path / "other", digest="d", shares=[0, 0, 1, 0], stored="m1-against-m0")
    found = standings([one, other], anchor="m0")
    assert ratings(found) == pytest.approx(
        {"one: m1": 1000 + 400 * log10(3), "m0": 1000, "other: m1": 1000 - 400 * log10(3)}
    )


def test_runs_of_different_bases_are_rated_apart(tmp_path: Path) -> None:
    one = run(tmp_path / "one", digest="d", shares=[1.0, 1.0, 1.0, 0.0], stored=None)
    other = run(tmp_path / "other", digest="e", shares=[0.0, 1.0], stored=None)
    first, second = standings([one, other], anchor="one: m0")["ratings"]
    assert {s["system"]: s["rating"] for s in first["systems"]} == pytest.approx(
        {"one: m1": 1000 + 400 * log10(3), "one: m0": 1000}
    )
    assert (first["anchor"], second["anchor"]) == ("one: m0", None)
    assert {s["system"] for s in second["systems"]} == {"other: m0", "other: m1"}
    with pytest.raises(DataError, match="'m0' is none of the systems that met: one: m0, one: m1"):
        standings([one, other], anchor="m0")


def test_where_only_counts_are_kept_draws_on_a_prompt_go_together(tmp_path: Path) -> None:
    # 80 matches on 80 prompts, or on 20 with four draws each: about twice as wide.
    shares = [1.0] * 50 + [0.0] * 30
    widths = []
    for name, prompts in (("alone", 80), ("four", 20)):
        root = run(tmp_path / name, digest="d", shares=shares, stored=None)
        told = json.loads((root / "summary.json").read_text())
        told["head_to_head"][0]["prompts"] = prompts
        (root / "summary.json").write_text(json.dumps(told))
        (group,) = standings([root], anchor="m0")["ratings"]
        low, high = group["systems"][0]["interval"]
        widths.append(high - low)
    assert 1.6 < widths[1] / widths[0] < 2.5


def test_annotation_files_of_one_baseline_are_rated_together(tmp_path: Path) -> None:
    paths = []
    for name, won in (("ours", 3), ("theirs", 1)):
        rows = [
            {"instruction": f"q{n}", "output_1": "b", "generator_1": "base", "output_2": "o" * (n + 1),
             "generator_2": name, "preference": 2 if n < won else 1}
            for n in range(4)
        ]  # fmt: skip
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(rows))
    done = CliRunner().invoke(app, ["compare", *map(str, paths), "--anchor", "base", "--json"])
    found = json.loads(done.stdout)
    assert ratings(found) == pytest.approx(
        {"ours": 1000 + 400 * log10(3), "base": 1000, "theirs": 1000 - 400 * log10(3)}
    )
    shown = CliRunner().invoke(app, ["compare", *map(str, paths), "--anchor", "base"]).stdout
    assert "base at 1000" in shown
    # 3 of 4 won: a standard error of 25 points.
    assert "75.0% │ 25.0%" in shown
