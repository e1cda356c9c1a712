"""Runs of a recipe at several seeds: means, spreads and intervals that can be checked by hand."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest

from selfimprove.evaluation import intervals
from selfimprove.report.page import write
from selfimprove.report.run_folder import RunFolder, read_run
from selfimprove.report.seeds import over_the_seeds


def made(
    root: Path, seed: int, after: float, m: int = 4, trackers: tuple[str, ...] = ()
) -> tuple[str, RunFolder]:
    """Write a finished run that went from 0.5 to `after`."""
    root.mkdir(parents=True)
    change = {"difference": after - 0.5, "interval": [after - 0.6, after - 0.4]}
    recipe = {
        "method": "lmsi",
        "model": "tiny",
        "seed": seed,
        "paths": {"m": m},
        "trackers": trackers,
    }
    head = {"metric": "accuracy", "set": "test", "before": 0.5, "after": after, "n": 50, **change}
    score = {
        "set": "test",
        "mode": "cot",
        "metric": "accuracy",
        "value": after,
        "n": 50,
        "versus_base": change,
    }
    arms = [{"name": "round-1", "kind": "method", "round": 1, "scores": [score]}]
    (root / "recipe.json").write_text(json.dumps(recipe))
    (root / "summary.json").write_text(json.dumps({"headline": head, "arms": arms, "seed": seed}))
    return root.name, read_run(root)


def test_three_seeds_give_mean_spread_and_students_interval(tmp_path: Path) -> None:
    runs = dict(made(tmp_path / f"lmsi-seed{seed}", seed, 0.6 + seed / 10) for seed in (2, 0, 1))
    told = over_the_seeds(runs)
    assert told is not None
    (group,) = told["groups"]
    assert group["name"] == "lmsi"
    assert [run["seed"] for run in group["seeds"]] == [0, 1, 2]
    assert group["difference"]["mean"] == pytest.approx(0.2)
    assert group["difference"]["spread"] == pytest.approx(0.1)
    # 0.2 ± 4.3027 * 0.1 / √3
    assert group["difference"]["interval"] == pytest.approx((-0.0484, 0.4484), abs=1e-4)
    assert group["verdict"] == "no improvement shown"
    (row,) = group["measures"]
    assert row["difference"]["mean"] == pytest.approx(0.2)


def test_a_recipe_is_the_same_whatever_its_seed_and_whoever_is_told_of_it(tmp_path: Path) -> None:
    one = made(tmp_path / "a", 0, 0.6)
    other = made(tmp_path / "b", 1, 0.6, trackers=("wandb",))
    told = over_the_seeds(dict([one, other]))
    assert told is not None
    assert len(told["groups"]) == 1


def test_a_seed_twice_is_not_two_seeds_and_one_run_is_no_group(tmp_path: Path) -> None:
    runs = dict(
        [
            made(tmp_path / "a", 0, 0.6),
            made(tmp_path / "b", 0, 0.6),
            made(tmp_path / "c", 1, 0.6, m=8),
        ]
    )
    assert over_the_seeds(runs) is None


def test_recipes_are_compared_at_the_seeds_that_both_ran_with(tmp_path: Path) -> None:
    first = [made(tmp_path / f"a-seed{seed}", seed, 0.6 + seed / 10) for seed in (0, 1, 2)]
    second = [made(tmp_path / f"b-seed{seed}", seed, 0.65 + seed / 10, m=8) for seed in (1, 2, 3)]
    told = over_the_seeds(dict([*first, *second]))
    assert told is not None
    (pair,) = told["pairs"]
    assert (pair["first"], pair["second"], pair["difference"]["n"]) == ("a", "b", 2)
    assert pair["difference"]["mean"] == pytest.approx(0.05)
    assert pair["verdict"] == "improved"  # the seeds' own differences cancel: 0.05 at both
    assert [group["settings"] for group in told["groups"]] == [["paths.m: 4"], ["paths.m: 8"]]


def test_the_page_shows_the_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        made(tmp_path / f"lmsi-seed{seed}", seed, 0.6 + seed / 10)
    page = write(sorted(tmp_path.glob("lmsi-*")), tmp_path / "page.html").read_text()
    assert "Over seeds" in page
    assert "lmsi</bdi>, 2 seeds" in page


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(intervals).failed == 0
