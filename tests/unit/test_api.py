"""The library: three spellings of one config, figures of a run, and names that load when they are used."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from jsonschema import Draft202012Validator

import selfimprove as si
from selfimprove.api import methods
from selfimprove.api.methods import LmsiKeys, PitKeys, SelfRewardingKeys
from selfimprove.api.schema import recipe_schema
from selfimprove.api.spelling import spelled
from selfimprove.errors import ConfigError, DataError
from selfimprove.methods.lmsi.config import LmsiConfig
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.self_rewarding.config import SelfRewardingConfig
from selfimprove.methods.table import MethodConfig
from selfimprove.runtime.launch import config_of, read_config
from selfimprove.training.sft_config import SftConfig

_RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize(
    ("config", "keys", "stated"),
    [
        (LmsiConfig, LmsiKeys, set()),
        (SelfRewardingConfig, SelfRewardingKeys, {"seeds", "evaluation", "iterations"}),
        (PitConfig, PitKeys, {"preferences"}),
    ],
)
def test_every_key_of_a_recipe_is_an_argument(config, keys, stated) -> None:
    assert set(get_type_hints(keys)) | stated | {"method", "model"} == set(config.model_fields)


@pytest.mark.parametrize("name", ["lmsi", "self_rewarding", "pit"])
def test_every_key_is_documented(name: str) -> None:
    told = getattr(si, name).__doc__
    config = read_config(_recipe(f"{name.replace('_', '-')}-tiny"), ())
    for key, field in type(config).model_fields.items():
        assert f"    {key}: {' '.join(str(field.description).split())}" in told


def _recipe(stem: str) -> Path:
    return next(path for path in _RECIPES if path.stem == stem)


@pytest.mark.parametrize("path", _RECIPES, ids=lambda path: path.stem)
def test_a_recipe_a_command_and_a_call_are_one_config(path: Path, monkeypatch) -> None:
    config = read_config(path, ())
    assert config_of(yaml.safe_load(spelled(config, "recipe")), "test") == config

    words = shlex.split(spelled(config, "command").replace("\\\n", ""))
    assert words[:2] == ["selfimprove", "run"]
    assert read_config(Path(words[2]), words[3:]) == config

    asked: list[MethodConfig] = []
    monkeypatch.setattr(methods, "_run", lambda config, *_, **__: asked.append(config))
    exec(spelled(config, "python"), {})
    assert asked == [config]


def test_a_default_of_the_block_is_said_where_the_recipes_own_default_is_another() -> None:
    fields = {"method": "pit", "model": "tiny", "preferences": "tiny:train",
              "evaluation": {}, "sft": {"learning_rate": SftConfig().learning_rate}}  # fmt: skip
    config = config_of(fields, "test")
    assert isinstance(config, PitConfig)
    assert config.sft.learning_rate != PitConfig.model_fields["sft"].default.learning_rate
    for spelling in ("recipe", "command"):
        assert "learning_rate" in spelled(config, spelling)


@pytest.mark.parametrize(
    "value",
    ["@me", "*me", "a: b: c", "[x", "", "null", "yes", "1e-5", 1e-5, "two\nlines", "it's", {"a.b": 1},
     {"source": "x"}, [[1, "2"], None], {}],
)  # fmt: skip
def test_values_come_back_as_they_were(value: object) -> None:
    server = {"command": ["serve", "{model}", "{port}"], "extra_body": {"field": value}}
    config = config_of(
        {"method": "lmsi", "model": "tiny", "data": {"train": "tiny:train", "test": "tiny:test"},
         "engine": {"kind": "server", "server": server}}, "test"
    )  # fmt: skip
    assert config_of(yaml.safe_load(spelled(config, "recipe")), "test") == config
    words = shlex.split(spelled(config, "command").replace("\\\n", ""))
    assert read_config(Path(words[2]), words[3:]) == config


def test_a_file_with_a_colon_keeps_its_name() -> None:
    data = {"format": "gsm8k", "train": {"source": "a:b.jsonl", "skip": 3}, "test": "tiny:test"}
    config = config_of({"method": "lmsi", "model": "tiny", "data": data}, "test")
    assert config_of(yaml.safe_load(spelled(config, "recipe")), "test") == config


def test_a_models_engine_is_the_runs_and_blocks_may_be_configs() -> None:
    model = si.Model("tiny", device="cpu", dtype="float32")
    data = {"train": "tiny:train", "test": "tiny:test"}
    keys = {"data": data, "sft": SftConfig(epochs=3), "engine": {"dtype": "bfloat16"}}
    config = methods.config("lmsi", model, keys)
    assert isinstance(config, LmsiConfig)
    assert (config.engine.device, config.engine.dtype) == ("cpu", "bfloat16")
    assert config.sft == SftConfig(epochs=3)
    assert config.model == "tiny"


def test_a_wrong_key_is_told_of() -> None:
    with pytest.raises(
        ConfigError, match=r"lmsi\(\.\.\.\):\n  path: unknown key; did you mean 'paths'"
    ):
        si.lmsi("tiny", train="tiny:train", test="tiny:test", path={"m": 4})  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="dtypes: unknown key; did you mean 'dtype'"):
        si.Model("tiny", dtypes="float32")


def test_a_server_is_a_model() -> None:
    model = si.Model("http://127.0.0.1:8000/v1", served_as="llama", chat=True)
    server = model.engine.server
    assert server is not None
    assert (model.name, server.url, server.model) == ("llama", "http://127.0.0.1:8000/v1", "llama")
    with pytest.raises(ConfigError, match="served_as"):
        si.Model("http://127.0.0.1:8000/v1")
    with pytest.raises(ConfigError, match="is for a URL"):
        si.Model("tiny", served_as="llama")


def test_what_a_server_holds_stays_with_it() -> None:
    server = si.Model("http://127.0.0.1:8000/v1", served_as="llama", chat=True)
    student = server.beside(Path("models/student"))
    assert (student.engine.server, student.engine.chat) == (None, True)


def test_prompts_that_are_none_are_refused() -> None:
    model = si.Model("tiny")
    with pytest.raises(ConfigError, match="draw takes a list"):
        model.draw("Hello")
    for wrong in (["one", "two"], [{"text": "Hello"}]):
        with pytest.raises(ConfigError, match="is no turn"):
            model.generate(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="role is 'bot'"):
        model.generate([{"role": "bot", "content": "Hello"}])


def test_questions_that_could_not_be_told_apart_are_refused() -> None:
    twice = [si.Question("q", "d", "1?", "number")] * 2
    with pytest.raises(DataError, match="2 questions have the id 'q'"):
        si.vote(twice, [])


def test_public_names_can_be_completed() -> None:
    assert {"lmsi", "Model", "vote", "SelfImproveError"} <= set(dir(si))


def test_what_has_not_finished_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"method": "lmsi"}')
    with pytest.raises(DataError, match="has not finished"):
        si.Result.of(tmp_path)


def test_importing_loads_no_torch() -> None:
    asked = (
        "import selfimprove as si, sys; si.lmsi; si.Model('tiny'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lmsy'"):
        si.lmsy  # noqa: B018


@pytest.mark.parametrize("path", _RECIPES, ids=lambda path: path.stem)
def test_the_schema_takes_every_shipped_recipe(path: Path) -> None:
    assert _faults(yaml.safe_load(path.read_text())) == []


def test_the_schema_takes_null_for_what_has_a_default() -> None:
    recipe = yaml.safe_load(_recipe("lmsi-tiny").read_text())
    data = {**recipe["data"], "dev": None}
    assert _faults({**recipe, "data": data, "engine": None, "controls": None}) == []


def test_the_schema_finds_a_wrong_key_and_a_wrong_value() -> None:
    recipe = yaml.safe_load(_recipe("lmsi-tiny").read_text())
    wrongs: list[dict[str, object]] = [{"path": {}}, {"seed": "one"}, {"sft": {"epochs": -1}}]
    for wrong in wrongs:
        assert _faults({**recipe, **wrong}) != []


def _faults(recipe: object) -> list[str]:
    found = Draft202012Validator(recipe_schema()).iter_errors(recipe)
    return [fault.message for fault in found]
