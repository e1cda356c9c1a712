"""`selfimprove init` and `selfimprove runs`: a recipe to begin with, and what came of earlier ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfimprove.api.commented import commented
from selfimprove.errors import ConfigError, DataError
from selfimprove.methods.table import METHODS
from selfimprove.report.listing import listed
from selfimprove.runtime.launch import config_of, read_config


@pytest.mark.parametrize("method", list(METHODS))
def test_a_recipe_to_begin_with_says_every_key_and_is_the_defaults(method: str) -> None:
    text = commented(method)
    tree: dict[str, Any] = yaml.safe_load(text)
    config = config_of(tree, method)
    assert tree.keys() == type(config).model_fields.keys()
    needed = {n: tree[n] for n, field in type(config).model_fields.items() if field.is_required()}
    beside = {"judge": {"prompt": "tiny"}} if method == "self_rewarding" else {}
    assert config == config_of({**needed, **beside}, method)
    assert all(len(line) < 120 for line in text.splitlines() if line.lstrip().startswith("#"))


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ConfigError, match="method is 'ppo'; known: lmsi"):
        commented("ppo")


def test_runs_are_listed_with_state_and_headline(tmp_path: Path) -> None:
    for name in ("done", "begun", "broken"):
        (tmp_path / name).mkdir()
        recipe = {"method": "lmsi", "model": "tiny", "seed": 3}
        (tmp_path / name / "recipe.json").write_text(json.dumps(recipe))
    headline = {"metric": "accuracy", "before": 0.5, "after": 0.75, "difference": 0.25,
                "interval": [0.1, 0.4], "n": 20}  # fmt: skip
    (tmp_path / "done" / "summary.json").write_text(json.dumps({"headline": headline}))
    (tmp_path / "done" / "finished.json").write_text("{}")
    (tmp_path / "broken" / "summary.json").write_text("{")
    begun, broken, done = listed(tmp_path)
    assert (begun.method, begun.seed, begun.state) == ("lmsi", 3, "0 steps done")
    assert "is damaged" in broken.state
    assert (done.state, "from 50.0% to 75.0%" in done.headline) == ("finished", True)
    with pytest.raises(DataError, match="there is no folder"):
        listed(tmp_path / "nowhere")


def test_a_recipe_that_ships_is_found_by_its_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("lmsi-tiny"), ["seed=4"]).seed == 4
    with pytest.raises(ConfigError, match="no recipe at lmsi-tinny; those that ship: lmsi-gsm8k, "):
        read_config(Path("lmsi-tinny"), [])
    Path("lmsi-tiny").write_text("method: pit\nmodel: tiny\npreferences: tiny:train\n")
    assert read_config(Path("lmsi-tiny"), []).method == "pit"  # a file of that name comes first
