"""What a step was made from, as plain data that can be compared, and the circumstances beside it."""

from __future__ import annotations

import inspect
import resource
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

from selfimprove.config import IDENTITY, Config, fingerprint
from selfimprove.rows import Rows
from selfimprove.types import ModelRef

__all__ = ["circumstances", "difference", "inputs_of", "plain"]

_LONG = 16  # longer lists are written as their digest
_PACKAGES = ("torch", "transformers", "trl", "peft", "pyarrow", "selfimprove")


def inputs_of(make: Callable[..., Any], inputs: Sequence[object]) -> dict[str, Any]:
    """Give each input the name of the parameter it goes to, so that a difference can be named."""
    parameters = inspect.signature(make).parameters.values()
    names = [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    if len(inputs) == len(names) + 1:  # a sharded step's shard size comes last
        names.append("shard_items")
    told: dict[str, Any] = {}
    for name, value in zip(names, inputs, strict=True):
        several = getattr(value, "inputs", None)  # such as a model behind an engine
        for part, held in (several or {name: value}).items():
            told[part] = _identity_of(held)
    return told


def _identity_of(value: object) -> Any:  # noqa: ANN401  plain JSON data
    if isinstance(value, Rows):
        return {"rows": value.digest}
    if isinstance(value, ModelRef):
        return {"model": value.name, "weights": value.digest}
    if isinstance(value, list | tuple):
        told = [_identity_of(v) for v in value]
        return {"values": len(told), "digest": fingerprint(told)} if len(told) > _LONG else told
    return plain(value)


def plain(value: object) -> Any:  # noqa: ANN401  plain JSON data
    """Return `value` as JSON data; refuse what has no stable form."""
    if isinstance(value, Config):
        return value.model_dump(mode="json", context=IDENTITY)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(type(value), "__dataclass_fields__"):
        return plain(asdict(value))  # type: ignore[call-overload]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} has no stable form and cannot identify a step")


def difference(found: Any, wanted: Any, place: str = "") -> str:  # noqa: ANN401  JSON data
    """Name the first place where two identities differ, with both values."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            if found.get(key) != wanted.get(key):
                return difference(found.get(key), wanted.get(key), f"{place}.{key}".lstrip("."))
    return f"{place} was {found!r}, now {wanted!r}"


def circumstances() -> dict[str, Any]:
    """What is recorded beside a result, without being part of its identity."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "peak_memory_mib": peak // 1024,
        "versions": _versions(),
    }


@cache
def _versions() -> dict[str, str]:
    """Return the versions of what is installed; reading them takes milliseconds each."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
