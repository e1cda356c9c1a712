"""One config in its three spellings: a YAML recipe, a command line, a call in Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pprint import pformat
from typing import Any, Final, Literal, TypeAlias

import yaml

from selfimprove.config import Config
from selfimprove.methods.launch import config_of
from selfimprove.methods.table import MethodConfig

__all__ = ["Spelling", "spelled"]

Spelling: TypeAlias = Literal["recipe", "command", "python"]

_WIDTH: Final = 100
# Keys that a function takes as arguments of their own, and where a recipe has them.
_ARGUMENTS: Final = {
    "lmsi": {"train": ("data", "train"), "test": ("data", "test"), "m": ("paths", "m")}
}


def spelled(config: MethodConfig, spelling: Spelling) -> str:
    """Return what would make this config again; what is as it would be anyway is left out."""
    tree = _brief(_stated(config, None))
    if (
        config_of(tree, "spelled") != config
    ):  # e.g. a judge's engine that differs from the run's by a default
        tree = _brief(config.model_dump(mode="json"))
    if spelling == "recipe":
        return yaml.safe_dump(
            tree, sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=None
        ).rstrip()
    return _command(tree) if spelling == "command" else _call(tree)


def _stated(config: Config, default: object) -> dict[str, Any]:
    """Return what a config says that its default, or its fields' own defaults, do not."""
    dumped, tree = config.model_dump(mode="json"), {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        known = default if isinstance(default, type(config)) else None
        base = getattr(known, name) if known else field.get_default(call_default_factory=False)
        if field.is_required() or value != base:
            tree[name] = _stated(value, base) if isinstance(value, Config) else dumped[name]
    return tree


def _brief(value: Any) -> Any:  # noqa: ANN401  a tree of plain values
    """Write sources as `format:file[from:to]`, and a list of one as that one."""
    if isinstance(value, Mapping):
        if "source" in value and value.keys() <= {"source", "format", "skip", "limit"}:
            return _source(value)
        return {name: _brief(sub) for name, sub in value.items()}
    if isinstance(value, list):
        return [_brief(sub) for sub in value]
    return value


def _source(told: Mapping[str, Any]) -> str:
    skip, limit = told.get("skip") or 0, told.get("limit")
    rows = (
        ""
        if not skip and limit is None
        else f"[{skip or ''}:{'' if limit is None else skip + limit}]"
    )
    named = f"{told['format']}:" if told.get("format") else ""
    return f"{named}{told['source']}{rows}"


def _command(tree: Mapping[str, Any]) -> str:
    words = [f"{name}={_yaml(value)}" for name, value in _leaves(tree) if name != "method"]
    return " \\\n  ".join(["selfimprove run " + str(tree["method"]), *map(shlex.quote, words)])


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield key.sub and value; an empty block is a value."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _yaml(value: Any) -> str:  # noqa: ANN401  a plain value
    """Return a value as YAML reads it on one line: JSON, but for words that need no quotes."""
    text = json.dumps(value, ensure_ascii=False)
    bare = text.strip('"')
    return bare if isinstance(value, str) and yaml.safe_load(bare or "''") == value else text


def _call(tree: Mapping[str, Any]) -> str:
    method = str(tree["method"])
    keys = {name: value for name, value in tree.items() if name not in ("method", "model")}
    own = _ARGUMENTS.get(method, {})
    taken = {
        name: keys[block][key] for name, (block, key) in own.items() if key in keys.get(block, {})
    }
    for block, key in own.values():
        rest = {name: value for name, value in keys.get(block, {}).items() if name != key}
        keys = {name: rest if name == block else value for name, value in keys.items()}
    left = {name: value for name, value in keys.items() if value != {}}
    arguments = [repr(tree["model"]), *(_argument(n, v) for n, v in {**taken, **left}.items())]
    said = "".join(f"    {argument},\n" for argument in arguments)
    return f"import selfimprove as si\n\nsi.{method}(\n{said})"


def _argument(name: str, value: Any) -> str:  # noqa: ANN401  a plain value
    """Write name=value, over several lines where it is long."""
    lines = pformat(value, width=_WIDTH - 8 - len(name), sort_dicts=False).splitlines()
    return f"\n{' ' * (5 + len(name))}".join([f"{name}={lines[0]}", *lines[1:]])
