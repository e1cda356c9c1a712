"""Recipes: unknown keys are named with their nearest neighbour; overrides win."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from selfimprove.config import Config, fingerprint, load, read_recipe
from selfimprove.data.demonstrations import read_demonstrations, read_reviews
from selfimprove.data.improvement_prompts import improvement_template
from selfimprove.data.preferences import read_preferences
from selfimprove.data.read import read_questions
from selfimprove.data.sources import DataConfig, as_source, questions_of, training_questions
from selfimprove.data.user_prompts import read_prompts
from selfimprove.errors import ConfigError, DataError
from selfimprove.judges.judge_prompts import judge_prompt
from selfimprove.methods.pit.baselines import rubric
from selfimprove.runtime.launch import read_config

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


@pytest.mark.parametrize("content", ["a: &x [*x]", "a: " + "[" * 3000 + "]" * 3000])
def test_a_recipe_that_never_ends_or_is_too_deep_is_an_error(tmp_path: Path, content: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(content)
    with pytest.raises(ConfigError, match=r"recipe\.yaml is nested too deeply"):
        read_recipe(recipe)
    recipe.write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="override 'a' is nested too deeply"):
        read_recipe(recipe, [content.replace("a: ", "a=")])


@pytest.mark.parametrize("read", [judge_prompt, improvement_template, rubric])
def test_words_in_a_file_of_ones_own_are_read_as_carefully_as_a_recipe(
    tmp_path: Path, read: Callable[[str], object]
) -> None:
    file = tmp_path / "words.yaml"
    wrong = {
        "a: &x [*x]": "is nested too deeply",
        "a: " + "[" * 3000 + "]" * 3000: "is nested too deeply",
        "a: b: c": "is not a YAML file",
        "- a list": "must hold a mapping",
        "versoin: 1": "unknown key; did you mean 'version'",
    }
    for content, said in wrong.items():
        file.write_text(content)
        with pytest.raises(ConfigError, match=rf"words\.yaml[\s\S]*{said}"):
            read(str(file))
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not a YAML file"):
        read(str(file))
    with pytest.raises(ConfigError, match=r"is called 'additve': there are .*, or give a file"):
        read("additve")


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
    assert list(questions_of(config.test[1])) == read_questions("test", "tiny", limit=50)[2:5]


@pytest.mark.parametrize("read", [
    lambda s: [p.text for p in read_prompts((s,))],
    lambda s: [d.response for d in read_demonstrations((s,), 0).rows],
    lambda s: [p.chosen for p in read_preferences((s,), 0).rows],
], ids=["prompts", "demonstrations", "preferences"])  # fmt: skip
def test_a_slice_of_the_tiny_world_is_the_same_whatever_is_made_beside_it(read: Any) -> None:
    part = read(as_source("tiny:train[2:5]", ""))
    assert len(part) == 3
    assert part == read(as_source("tiny:train[:40]", ""))[2:5]


def test_reviews_that_are_balanced_as_a_whole_have_no_slices() -> None:
    with pytest.raises(DataError, match="use limit, no slice"):
        read_reviews((as_source("tiny:train[5:10]", ""),), 0)


def test_a_part_behind_the_end_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "q", "answer": "1"}\n' * 2)
    with pytest.raises(DataError, match="has no row behind its first 5"):
        list(questions_of(as_source(f"{file}[5:9]", "questions")))


def test_a_slice_is_cut_from_a_mapping_too_but_not_given_twice() -> None:
    tree = {"train": {"format": "bbh", "source": "a.json[5:9]"}, "test": "bbh:b.json"}
    assert load(DataConfig, tree, "x").train[0] == as_source("bbh:a.json[5:9]", "")
    tree["train"] = {"format": "bbh", "source": "a.json[5:9]", "limit": 2}
    with pytest.raises(ConfigError, match="given twice"):
        load(DataConfig, tree, "x")
    with pytest.raises(ConfigError, match="rows 9 to 9 are none"):
        as_source("bbh:a.json[9:9]", "")


def test_train_limit_cuts_slices_and_larger_limits_alone() -> None:
    tree = {"format": "bbh", "train": ["a.json[50:150]", {"source": "b.json", "limit": 3}],
            "test": "c.json", "train_limit": 20}  # fmt: skip
    assert [(s.skip, s.limit) for s in load(DataConfig, tree, "x").train] == [(50, 20), (0, 3)]


def test_a_block_that_an_alias_repeats_is_overridden_in_one_place_alone(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("first: &same {steps: [1]}\nsecond: *same\n")
    tree = read_recipe(recipe, ["first.steps=[2]"])
    assert tree == {"first": {"steps": [2]}, "second": {"steps": [1]}}


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
