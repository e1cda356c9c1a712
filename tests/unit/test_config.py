"""Recipes: unknown keys are named with their nearest neighbour; overrides win."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import Field

from selfimprove.config import Config, fingerprint, load, read_recipe
from selfimprove.data.sources import DataConfig
from selfimprove.errors import ConfigError
from selfimprove.methods.launch import read_config

_RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


class Inner(Config):
    temperature: float = Field(default=0.7, ge=0)
    """0 is greedy."""


class Outer(Config):
    paths: Inner = Inner()
    """Drawing."""
    seed: int = 0
    """Of everything."""


def test_an_unknown_key_names_the_nearest_one() -> None:
    with pytest.raises(
        ConfigError, match=r"paths.temprature: unknown key; did you mean 'temperature'"
    ):
        load(Outer, {"paths": {"temprature": 1}}, "here")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Outer, {"paths": {"temperature": -1}, "seed": "x"}, "recipe.yaml")
    assert "recipe.yaml" in str(caught.value)
    assert "paths.temperature" in str(caught.value)
    assert "seed" in str(caught.value)


def test_overrides_win_and_are_yaml(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 1\npaths: {temperature: 0.5}\n")
    tree = read_recipe(recipe, ["paths.temperature=1.5", "seed=3"])
    config = load(Outer, tree, "recipe")
    assert (config.paths.temperature, config.seed) == (1.5, 3)


@pytest.mark.parametrize(
    ("override", "says"),
    [("seed", "key.sub=value"), ("seed.x=1", "is a value"), ("seed=[", "not YAML")],
)
def test_a_bad_override_is_explained(tmp_path: Path, override: str, says: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 1\n")
    with pytest.raises(ConfigError, match=says):
        read_recipe(recipe, [override])


@pytest.mark.parametrize("content", ["- a list", "a: b: c", "\x00"])
def test_a_file_that_is_no_recipe_is_an_error(tmp_path: Path, content: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(content)
    with pytest.raises(ConfigError, match=r"recipe\.yaml"):
        read_recipe(recipe)


def test_a_missing_recipe_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe at"):
        read_recipe(tmp_path / "none.yaml")


def test_equal_configs_have_equal_fingerprints() -> None:
    assert fingerprint(Outer()) == fingerprint(load(Outer, {"seed": 0}, "x"))
    assert fingerprint(Outer()) != fingerprint(Outer(seed=1))


def test_sources_take_defaults_and_prefixes() -> None:
    tree = {"format": "gsm8k", "train": "a.jsonl", "test": ["drop:b.gz"], "test_limit": 5}
    config = load(DataConfig, tree, "x")
    assert config.train[0].format == "gsm8k"
    assert (config.test[0].format, config.test[0].source) == ("drop", "b.gz")
    assert (config.train[0].limit, config.test[0].limit) == (None, 5)


@pytest.mark.parametrize("recipe", _RECIPES, ids=lambda p: p.stem)
def test_every_shipped_recipe_is_valid(recipe: Path) -> None:
    assert read_config(recipe, []).model
    assert yaml.safe_load(recipe.read_text())["method"].replace("_", "-") in recipe.stem


@pytest.mark.parametrize(
    ("switches", "says"),
    [
        (["questions={count: 5}", "controls=[gold]"], "no gold answers"),
        (["exemplars={sets: 5}", "paths.m=16"], "multiple of exemplars.sets"),
        (["evaluation.modes=[standard]"], "must hold cot"),
    ],
)
def test_switches_that_contradict_each_other_are_refused(switches: list[str], says: str) -> None:
    (tiny,) = [r for r in _RECIPES if r.stem == "lmsi-tiny"]
    with pytest.raises(ConfigError, match=says):
        read_config(tiny, switches)
