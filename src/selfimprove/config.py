"""Recipes: YAML in, frozen and strictly checked values out, resolved JSON written with the run.

A field is a type, a range and one doc line, in one place. An unknown key is an error that names
the nearest known one. `key.sub=value` on the command line overrides a recipe. A block that states
some of its fields keeps what its default says of the others; `null` for a block or a list is its default.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Final, Literal, TypeVar, cast, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from selfimprove.errors import ConfigError

__all__ = [
    "IDENTITY",
    "Config",
    "apply_override",
    "described",
    "fingerprint",
    "load",
    "over",
    "overridden",
    "read_recipe",
    "read_yaml",
    "shipped_or_given",
]


IDENTITY: Final = "identity"
"""The context in which a config is written as a part of what a result was made from."""


class Config(BaseModel):
    """Base of every config: frozen, no unknown keys, docs from the line under each field.

    A mapping given for a block is laid over the block's default: `engine: {dtype: float32}` leaves
    `chat` as the method has it. A finished config, as Python may give one, is taken as it is.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )

    derived: ClassVar[frozenset[str]] = frozenset()
    """Fields that are filled in from the others, and so never carried over from a default."""

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came later: no part of an identity while they are at their default, so that what was
    made before stays good."""

    aside: ClassVar[frozenset[str]] = frozenset()
    """Fields that change nothing that is made: never a part of an identity."""

    @model_serializer(mode="wrap")
    def _serialised(
        self, serialised: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        tree: dict[str, Any] = serialised(self)
        return self.identifying(tree) if info.context == IDENTITY else tree

    def identifying(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return what of the config, as `tree`, says what is made by it."""
        default = {name: type(self).model_fields[name].default for name in self.later}
        unsaid = {
            name for name, value in default.items() if getattr(self, name) == value
        } | self.aside
        return {name: value for name, value in tree.items() if name not in unsaid}

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, tree: Any) -> Any:  # noqa: ANN401  raw YAML, or a finished config
        if not isinstance(tree, Mapping):
            return tree
        filled = dict(tree)
        for name, field in cls.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            if name in tree and isinstance(default, Config | tuple):
                filled[name] = _over_default(field, default, tree[name])
        return filled


def _over_default(field: FieldInfo, default: Config | tuple[object, ...], given: object) -> object:
    """Return a list as it was given, a block laid over its default; what says nothing is the default."""
    if given is None and NoneType not in get_args(field.annotation):
        return default
    if isinstance(default, Config) and isinstance(given, Mapping):
        return over(default, given)
    return given


def over(default: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `given`, and those that `default` states and `given` does not.

    Nothing is carried over where `given` is another kind of block, of those that a field may hold.
    """
    if not _is_same_kind(default, given):
        return dict(given)
    filled = dict(given)
    for name in default.model_fields_set - default.derived:
        stated, new = getattr(default, name), given.get(name)
        if name not in given:
            filled[name] = stated
        elif isinstance(stated, Config) and isinstance(new, Mapping):
            filled[name] = over(stated, new)
    return filled


def _is_same_kind(default: Config, given: Mapping[str, Any]) -> bool:
    fields = type(default).model_fields
    tags = [n for n, f in fields.items() if get_origin(f.annotation) is Literal
            and len(get_args(f.annotation)) == 1]  # fmt: skip
    return set(given) <= set(fields) and all(
        given[tag] == getattr(default, tag) for tag in tags if tag in given
    )


C = TypeVar("C", bound=Config)

_TOO_DEEP = "is nested too deeply, or an alias (`*name`) stands within what it repeats"


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML recipe and apply `key.sub=value` overrides (values are YAML).

    Raises:
        ConfigError: the file is missing or not a YAML mapping, or an override has no '='.
    """
    try:
        tree = read_yaml(path)
    except FileNotFoundError:
        raise ConfigError(f"no recipe at {path}") from None
    return overridden(tree, overrides)


def overridden(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a tree after `key.sub=value` overrides.

    Raises:
        ConfigError: an override has no '=', its value is not YAML, or a parent key holds a value.
    """
    for override in overrides:
        apply_override(tree, override)
    return tree


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: it does not.
    """
    try:
        tree = _apart(yaml.safe_load(path.read_text(encoding="utf-8")))
    except RecursionError:
        raise ConfigError(f"{path} {_TOO_DEEP}") from None
    except (yaml.YAMLError, ValueError, IsADirectoryError) as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values")
    return cast("dict[str, Any]", tree)


def shipped_or_given(folder: Path, name: str, what: str) -> Path:
    """Return the shipped YAML file of a name, or the file that the name is; `what` it holds, in words.

    Raises:
        ConfigError: there is none.
    """
    shipped = folder / f"{name}.yaml"
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"no {what} is called {name!r}: there are {known}, or give a file")
    return path


def _apart(node: Any) -> Any:  # noqa: ANN401  raw YAML
    """Copy a tree so that a block that YAML's `*name` repeats can be overridden in one of its places."""
    if isinstance(node, dict):
        return {key: _apart(value) for key, value in node.items()}
    return [_apart(value) for value in node] if isinstance(node, list) else node


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set `key.sub=value` in a tree of plain values; a mapping replaces what the tree had there.

    Raises:
        ConfigError: there is no '=', the value is not YAML, or a parent key holds a value.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"override {override!r} must look like key.sub=value")
    *parents, leaf = path.split(".")
    node = tree
    for parent in parents:
        child = node.get(parent)
        if child is None:  # not there, or a block without a line
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {parent!r} is a value, it has no keys")
        node = child
    try:
        node[leaf] = _apart(yaml.safe_load(text))
    except RecursionError:
        raise ConfigError(f"override {path!r} {_TOO_DEEP}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"override {override!r}: the value is not YAML: {error}") from error


def load(kind: type[C], tree: Mapping[str, Any], source: str) -> C:
    """Validate `tree` as a `kind`; `source` names where it came from in the error.

    Raises:
        ConfigError: every problem found, each with its key, and the nearest name for a wrong key.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = "\n".join(f"  {_problem(kind, e)}" for e in error.errors())
        raise ConfigError(f"{source}:\n{problems}") from None


def described(kind: type[Config]) -> str:
    """Return a line for each field of a config: its name and what it says of itself."""
    return "\n".join(
        f"    {name}: {' '.join((field.description or '').split())}"
        for name, field in kind.model_fields.items()
    )


def _problem(kind: type[BaseModel], error: Any) -> str:  # noqa: ANN401  pydantic's ErrorDetails
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "value_error":  # raised by a check of our own over several fields
        return str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{place}: is required, it has no default"
    if error["type"] != "extra_forbidden":
        return f"{place}: {error['msg']} (got {error['input']!r})"
    near = difflib.get_close_matches(str(error["loc"][-1]), sorted(_field_names(kind)), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{place}: unknown key{hint}"


def _field_names(kind: type[BaseModel]) -> set[str]:
    """All field names of a config and of the configs within it: any may be what was meant."""
    names = set(kind.model_fields)
    for field in kind.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                names |= _field_names(part)
    return names


def fingerprint(value: object) -> str:
    """Return a digest of a config or of plain JSON data: equal values, equal digests.

    Raises:
        TypeError: the value has no stable serialisation (a function, an open file, an object).
    """
    plain = (
        value.model_dump(mode="json", context=IDENTITY) if isinstance(value, BaseModel) else value
    )
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
