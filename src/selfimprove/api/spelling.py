"""One config in its three spellings: a YAML recipe, a command line, a call in Python."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pprint import pformat
from typing import Any, Final, Literal, TypeAlias

import yaml

from selfimprove.config import Config
from selfimprove.data.sources import Source, as_source
from selfimprove.methods.table import METHODS, MethodConfig
from selfimprove.runtime.launch import config_of

__all__ = ["Spelling", "one_line", "spelled"]

Spelling: TypeAlias = Literal["recipe", "command", "python"]

_WIDTH: Final = 100
# Keys that a function takes as arguments of their own, and where a recipe has them.
_ARGUMENTS: Final = {
    "lmsi": {"train": ("data", "train"), "test": ("data", "test"), "m": ("paths", "m")}
}


def spelled(config: MethodConfig, spelling: Spelling) -> str:
    """Return what would make this config again; what is as it would be anyway is left out."""
    tree = _stated(config, None)
    if config_of(tree, "spelled") != config:
        tree = _all(config)  # e.g. a judge's engine that differs from the run's by a default
    if spelling == "recipe":
        return yaml.safe_dump(
            tree, sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=None
        ).rstrip()
    return _command(tree) if spelling == "command" else _call(tree)


def _stated(config: Config, default: object) -> dict[str, Any]:
    """Return what a config says that its default, or its fields' own defaults, do not."""
    tree = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        known = default if isinstance(default, type(config)) else None
        base = getattr(known, name) if known else field.get_default(call_default_factory=False)
        if field.is_required() or value != base:
            tree[name] = _plain(value, base)
    return tree


def _all(config: Config) -> dict[str, Any]:
    fields = ((name, getattr(config, name)) for name in type(config).model_fields)
    return {n: _all(v) if isinstance(v, Config) else _plain(v, None) for n, v in fields}


def _plain(value: Any, default: object) -> Any:  # noqa: ANN401  a field of a config
    """Return a field as YAML has it: sources as `format:file[from:to]` where that says all."""
    if isinstance(value, Source):
        return _source(value)
    if isinstance(value, Config):
        return _stated(value, default)
    if isinstance(value, tuple):
        return [_plain(one, None) for one in value]
    return value


def _source(told: Source) -> str | dict[str, Any]:
    rows = f"[{told.skip or ''}:{told.end or ''}]" if told.skip or told.end is not None else ""
    text = f"{told.format}:{told.source}{rows}" if told.format else f"{told.source}{rows}"
    return text if as_source(text, "") == told else told.model_dump(exclude_defaults=True)


def _command(tree: Mapping[str, Any]) -> str:
    words = [f"{name}={one_line(value)}" for name, value in _leaves(tree) if name != "method"]
    return " \\\n  ".join(["selfimprove run " + str(tree["method"]), *map(shlex.quote, words)])


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield key.sub and value; a block that is empty, or whose keys are no plain names, is a value."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value and all(key.isidentifier() for key in value):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def one_line(value: Any) -> str:  # noqa: ANN401  a plain value
    """Return a value as YAML reads it on one line: a word as it stands, else JSON, else YAML's own way."""
    flow = yaml.safe_dump(value, default_flow_style=True, width=sys.maxsize, allow_unicode=True)
    ways = (str(value), json.dumps(value, ensure_ascii=False), flow.removesuffix("\n...\n").strip())
    return next(text for text in ways if text and _reads(text) == (type(value), value))


def _reads(text: str) -> tuple[type, Any] | None:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return type(found), found


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
    emptied = {block for block, _ in own.values()}
    left = {n: value for n, value in keys.items() if value != {} or n not in emptied}
    arguments = [repr(tree["model"]), *(_argument(n, v) for n, v in {**taken, **left}.items())]
    said = "".join(f"    {argument},\n" for argument in arguments)
    if method not in METHODS:
        return f"import selfimprove as si\n\nsi.run(\n    {method!r},\n{said})"
    return f"import selfimprove as si\n\nsi.{method}(\n{said})"


def _argument(name: str, value: Any) -> str:  # noqa: ANN401  a plain value
    """Write name=value, over several lines where it is long."""
    lines = pformat(value, width=_WIDTH - 8 - len(name), sort_dicts=False).splitlines()
    return f"\n{' ' * (5 + len(name))}".join([f"{name}={lines[0]}", *lines[1:]])
