"""A recipe to begin with: every key of a method, with its default and what is said of it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic.fields import FieldInfo

from selfimprove.api.spelling import one_line
from selfimprove.config import Config
from selfimprove.methods.table import METHODS, method_of

__all__ = ["commented"]

_WIDTH: Final = 110

_BEGIN: Final[Mapping[str, Mapping[str, Any]]] = {
    "lmsi": {"data": {"train": ["tiny:train[:400]"], "test": ["tiny:test[:200]"]}},
    "self_rewarding": {
        "seeds": {
            "ift": [{"source": "train", "format": "tiny", "limit": 200}],
            "eft": [{"source": "train", "format": "tiny", "limit": 200}],
        },
        "evaluation": {"prompts": ["tiny:test[:100]"], "scorer": "oracle"},
        "judge": {"prompt": "tiny"},
    },
    "pit": {"preferences": ["tiny:train[:600]"]},
}
"""What has no default: the embedded world, to be replaced by data of one's own."""


def commented(method: str) -> str:
    """Return a recipe of a method as YAML that runs as it stands, on the tiny model.

    A block of keys that was explained before is written short.

    Raises:
        ConfigError: there is no such method.
    """
    kind = method_of(method).config
    given = {"method": method, "model": "tiny", **_BEGIN.get(method, {})}
    known = method if method in METHODS else f"of {method}"
    head = f"# {known}: every key with its default. `selfimprove run THIS_FILE --dry-run` tells what it would cost.\n"
    return head + "".join(f"{line}\n" for line in _lines(kind, None, given, "", set()))


def _lines(
    kind: type[Config],
    block: Config | None,
    given: Mapping[str, Any],
    indent: str,
    explained: set[type[Config]],
) -> Iterator[str]:
    """Yield the lines of a block, whose values are `given`, else the default block's, else the fields' own."""
    explained.add(kind)
    fields = ((n, f) for n, f in kind.model_fields.items() if n not in kind.derived)
    for name, field in fields:
        if not indent:
            yield ""
        said = " ".join((field.description or "").split())
        yield from textwrap.wrap(said, _WIDTH, initial_indent=f"{indent}# ",
                                 subsequent_indent=f"{indent}# ")  # fmt: skip
        yield from _field(name, field, block, given.get(name), indent, explained)


def _field(
    name: str,
    field: FieldInfo,
    block: Config | None,
    given: Any,  # noqa: ANN401  a plain value, or a mapping of them
    indent: str,
    explained: set[type[Config]],
) -> Iterator[str]:
    value = (
        getattr(block, name) if block is not None else field.get_default(call_default_factory=True)
    )
    nested = value if isinstance(value, Config) else None
    kind = type(nested) if nested is not None else field.annotation
    if isinstance(kind, type) and issubclass(kind, Config) and kind not in explained:
        yield f"{indent}{name}:"
        yield from _lines(kind, nested, given or {}, f"{indent}  ", explained)
    elif given is not None:
        yield f"{indent}{name}: {one_line(given)}"
    elif nested is not None:
        yield f"{indent}{name}: {one_line(_stated(nested))}  # keys as above"
    elif field.is_required() and block is None:
        yield f"{indent}{name}:  # required"
    else:
        yield f"{indent}{name}: {one_line(_plain(value))}"


def _plain(value: Any) -> Any:  # noqa: ANN401  a field of a config
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.model_dump(mode="json") if isinstance(value, Config) else value


def _stated(block: Config) -> dict[str, Any]:
    return block.model_dump(mode="json", exclude_unset=True)
