"""Recipes: unknown keys are named with their nearest neighbour; overrides win."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import Field

from selfimprove.config import Config, fingerprint, load, read_recipe
from selfimprove.data.read import read_questions
from selfimprove.data.sources import DataConfig, questions_of, training_questions
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


def test_a_slice_behind_a_source_says_which_rows() -> None:
    tree = {"format": "gsm8k", "train": ["a.jsonl[50:150]", "b.jsonl[:9]"], "test": "bbh:c.json[150:]",
            "test_limit": 5}  # fmt: skip
    config = load(DataConfig, tree, "x")
    assert [(s.source, s.skip, s.limit) for s in config.train] == [
        ("a.jsonl", 50, 100),
        ("b.jsonl", 0, 9),
    ]
    assert [(s.format, s.skip, s.limit) for s in config.test] == [("bbh", 150, 5)]
    assert list(config.train[0].part(range(200))) == list(range(50, 150))
    with pytest.raises(ConfigError, match="rows 9 to 9 are none"):
        load(DataConfig, {"train": "gsm8k:a.jsonl[9:9]", "test": "gsm8k:b.jsonl"}, "x")


def test_slices_of_one_file_share_no_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"question": "q{n}", "answer": "{n}"}}\n' for n in range(6)))
    tree = {
        "format": "questions",
        "train": f"{file}[1:4]",
        "test": [f"{file}[4:]", "tiny:test[2:5]"],
    }
    config = load(DataConfig, tree, "x")
    assert [q.text for q in training_questions(config.train)] == ["q1", "q2", "q3"]
    assert [q.text for q in questions_of(config.test[0])] == ["q4", "q5"]
    assert list(questions_of(config.test[1])) == read_questions("test", "tiny", limit=5)[2:]


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
