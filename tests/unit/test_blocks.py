"""A block that states some of its fields keeps what its default says of the others."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

import selfimprove
from selfimprove.config import Config, apply_override, load, read_recipe
from selfimprove.errors import ConfigError
from selfimprove.evaluation.judge_on_labels import _config as config_of_judge
from selfimprove.evaluation.versus import _Versus
from selfimprove.methods.self_rewarding.seeds import SeedFilesConfig, seed_files_config
from selfimprove.runtime.launch import config_of

_SELF_REWARDING = {
    "method": "self_rewarding",
    "model": "tiny",
    "seeds": {"ift": "tiny:train"},
    "evaluation": {"prompts": "tiny:test", "scorer": "oracle"},
}
_RECIPES = Path(__file__).parents[2] / "recipes"
_PIT = {"method": "pit", "model": "tiny", "preferences": "tiny:train", "evaluation": {}}


def _all_configs() -> Iterator[type[Config]]:
    for module in pkgutil.walk_packages(selfimprove.__path__, "selfimprove."):
        importlib.import_module(module.name)
    waiting: list[type[Config]] = [Config]
    while waiting:
        children = waiting.pop().__subclasses__()
        yield from (c for c in children if c.__module__.startswith("selfimprove."))
        waiting += children


def _blocks() -> list[tuple[type[Config], str]]:
    """Return every block of every config whose default says other than its class."""
    return [
        (config, name)
        for config in _all_configs()
        for name, field in config.model_fields.items()
        if isinstance(field.default, Config)
        and field.default.model_dump() != type(field.default)().model_dump()
    ]


def test_there_are_blocks_that_say_other_than_their_class() -> None:
    assert {(c.__name__, n) for c, n in _blocks()} >= {
        ("PitConfig", "engine"), ("PitConfig", "sft"), ("SelfRewardingConfig", "engine"),
        ("SelfRewardingConfig", "sft"), ("SeedFilesConfig", "engine"), ("_Versus", "sampling"),
    }  # fmt: skip


@pytest.mark.parametrize(("config", "name"), _blocks(), ids=lambda v: getattr(v, "__name__", v))
def test_any_one_field_of_a_block_leaves_the_others_as_the_default_has_them(
    config: type[Config], name: str
) -> None:
    default = config.model_fields[name].default
    wanted = default.model_dump()
    for field in type(default).model_fields:
        laying: Any = config._over_defaults  # alone: other fields of the config may be required
        tree = laying({name: {field: wanted[field]}})
        block = load(type(default), tree[name], name)
        assert block.model_dump() == wanted, field
        # A block laid over twice is still the same, as when a stored recipe is read back.
        assert load(type(default), block.model_dump(), name) == block


class Inner(Config):
    a: int = 1
    """One."""
    b: int = 2
    """Two."""


class Middle(Config):
    inner: Inner = Inner(a=10)
    """A block in a block."""
    c: int = 3
    """Three."""


class Cat(Config):
    kind: Literal["cat"] = "cat"
    """Which one."""
    lives: int = 9
    """Its own field."""
    age: int = 0
    """Of both."""


class Dog(Config):
    kind: Literal["dog"] = "dog"
    """Which one."""
    age: int = 0
    """Of both."""


class Outer(Config):
    middle: Middle = Middle(inner=Inner(b=20), c=30)
    """Its default says something of both depths."""
    perhaps: Inner | None = Inner(a=100)
    """May be absent."""
    none: Inner | None = None
    """Is absent."""
    pet: Cat | Dog = Field(default=Cat(lives=7), discriminator="kind")
    """One of two."""
    made: Inner = Field(default_factory=lambda: Inner(b=200))
    """By a function."""


@pytest.mark.parametrize(
    ("tree", "path", "says"),
    [
        ({"middle": {"c": 4}}, "middle.inner", Inner(a=1, b=20)),
        ({"middle": {"inner": {"a": 5}}}, "middle.inner", Inner(a=5, b=20)),
        ({"middle": {"inner": {"a": 5}}}, "middle.c", 30),
        ({"perhaps": {"b": 0}}, "perhaps", Inner(a=100, b=0)),
        ({"perhaps": None}, "perhaps", None),
        ({"none": {"b": 0}}, "none", Inner(a=1, b=0)),
        ({"middle": None}, "middle.c", 30),  # `middle:` with every line commented out
        ({"pet": {"kind": "cat", "age": 3}}, "pet", Cat(lives=7, age=3)),
        ({"pet": {"kind": "dog", "age": 3}}, "pet", Dog(age=3)),
        ({"made": {"a": 0}}, "made", Inner(a=0, b=200)),
        (
            {"middle": Middle(c=5)},
            "middle.inner",
            Inner(a=10),
        ),  # a finished config is taken as it is
    ],
)
def test_blocks_of_every_shape(tree: dict[str, Any], path: str, says: object) -> None:
    found: Any = load(Outer, tree, "here")
    for name in path.split("."):
        found = getattr(found, name)
    assert found == says


def test_a_block_in_a_block_that_nothing_says_of_is_its_own_default() -> None:
    class Plain(Config):
        middle: Middle = Middle()
        """Says nothing."""

    assert load(Plain, {"middle": {"inner": {"b": 5}}}, "x").middle.inner == Inner(a=10, b=5)


@pytest.mark.parametrize(
    ("override", "path", "says"),
    [
        ("data.dev=null", "data.dev", ()),
        ("data.ood=", "data.ood", ()),  # `ood:` with every line commented out
        ("controls=null", "controls", ()),
        ("evaluation.stop=null", "evaluation.stop", ("\nQ:",)),
        ("evaluation.control_modes=null", "evaluation.control_modes", None),
    ],
)
def test_a_list_that_says_nothing_is_its_default(override: str, path: str, says: object) -> None:
    tree: dict[str, Any] = {
        "method": "lmsi", "model": "tiny", "controls": ["gold"],
        "data": {"format": "tiny", "train": "train", "dev": "dev", "test": "test", "ood": "ood"},
        "evaluation": {"stop": ["."], "control_modes": ["cot"]},
    }  # fmt: skip
    apply_override(tree, override)
    found: Any = config_of(tree, "x")
    for name in path.split("."):
        found = getattr(found, name)
    assert found == says


def test_a_wrong_key_in_a_block_still_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"engine\.dtyp: unknown key; did you mean 'dtype'"):
        config_of({**_PIT, "engine": {"dtyp": "float32"}}, "x")


@pytest.mark.parametrize("tree", [_SELF_REWARDING, _PIT], ids=["self_rewarding", "pit"])
@pytest.mark.parametrize("engine", [{"dtype": "float32"}, {"device": "cpu"}, {}, None])
def test_an_engine_of_a_method_stays_a_chat_engine(
    tree: dict[str, Any], engine: dict[str, Any] | None
) -> None:
    assert config_of({**tree, "engine": engine}, "x").engine.chat


def test_an_override_of_the_command_line_keeps_the_rest_of_a_block(tmp_path: Path) -> None:
    recipe = tmp_path / "pit.yaml"
    recipe.write_text(
        "method: pit\nmodel: tiny\npreferences: tiny:train\nevaluation: {}\nengine:\n  # chat: true\n"
    )
    tree = read_recipe(recipe, ["engine.dtype=float32", "sft.epochs=2"])
    config: Any = config_of(tree, "x")
    assert (config.engine.chat, config.engine.dtype) == (True, "float32")
    assert (config.sft.learning_rate, config.sft.epochs) == (3e-5, 2)


@pytest.mark.parametrize(
    ("run", "own", "chat", "dtype"),
    [
        ({"dtype": "float32"}, {"device": "cpu"}, True, "float32"),
        ({"dtype": "float32"}, {"dtype": "bfloat16"}, True, "bfloat16"),
        ({"chat": False}, {"device": "cpu"}, False, "auto"),
        ({"chat": False}, {"chat": True}, True, "auto"),
        # A server is another engine: of this one's fields the layout alone says something of it.
        ({"dtype": "float32"}, {"kind": "server", "server": {"url": "http://x"}}, True, "auto"),
        (
            {"kind": "server", "server": {"command": ["x", "{model}", "{port}"]}},
            {"device": "cpu"},
            True,
            "auto",
        ),
    ],
)
def test_a_judges_own_engine_is_laid_over_that_of_the_run(
    run: dict[str, Any], own: dict[str, Any], chat: bool, dtype: str
) -> None:
    judge = {"model": "tiny", "engine": own}
    measured = {**_SELF_REWARDING["evaluation"], "judge": judge}  # type: ignore[dict-item]
    tree = {**_SELF_REWARDING, "engine": run, "judge": judge, "evaluation": measured}
    config: Any = config_of(tree, "x")
    for found in (config.judge.engine, config.evaluation.judge.engine):
        assert (found.chat, found.dtype) == (chat, dtype)
        assert (found.server is None) == ("server" not in own)
    assert config_of(config.model_dump(mode="json"), "x") == config


@pytest.mark.parametrize("recipe", sorted(_RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_with_every_default_written_out_is_the_same_recipe(recipe: Path) -> None:
    config = config_of(read_recipe(recipe), "x")
    assert config_of(config.model_dump(mode="json"), "x") == config


def test_a_judge_without_an_engine_of_its_own_has_that_of_the_run() -> None:
    config: Any = config_of({**_SELF_REWARDING, "judge": {"votes": 1}}, "x")
    assert config.judge.engine is None


def test_the_commands_that_judge_keep_their_chat_engine() -> None:
    assert seed_files_config({"engine": {"dtype": "float32"}}).engine.chat
    seeds = load(SeedFilesConfig, {"judge": {"engine": {"device": "cpu"}}}, "x")
    versus = load(_Versus, {"judge": {"engine": {"device": "cpu"}}, "sampling": {"n": 2}}, "x")
    alone = config_of_judge("tiny", ["engine.device=cpu"])
    for judge in (seeds.judge, versus.judge, alone):
        assert judge.engine is not None
        assert judge.engine.chat
    assert (versus.sampling.n, versus.sampling.max_tokens) == (2, 512)
