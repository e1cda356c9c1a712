"""Code of a user's own, named in a recipe as `module:name` or `path/to/file.py:name`.

What is stored says `name@digest`, by the content of its file: rows belong to the code they were made by.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

from selfimprove.errors import ConfigError

__all__ = ["OwnCode", "load_named", "pinned"]


def load_named(name: str) -> Any:  # noqa: ANN401  whatever the user's code holds there
    """Import what a name says, with or without its digest; modules are looked for in the working folder, too.

    Raises:
        ConfigError: the name has no colon, or there is no such module or nothing of that name in it.
    """
    place, colon, what = name.partition("@")[0].rpartition(":")
    if not (colon and place and what):
        raise ConfigError(f"{name!r} must look like module:name or path/to/file.py:name")
    module = _module(place, name)
    try:
        return getattr(module, what)
    except AttributeError:
        raise ConfigError(
            f"{name}: {module.__file__ or place} holds nothing called {what!r}"
        ) from None


def _module(place: str, name: str) -> ModuleType:
    if place in sys.modules:
        return sys.modules[place]
    try:
        if place.endswith(".py"):
            return _of_file(Path(place).expanduser().resolve())
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)
        return importlib.import_module(place)
    except (ImportError, FileNotFoundError, SyntaxError) as error:
        raise ConfigError(f"{name} cannot be imported: {error}") from error


def _of_file(path: Path) -> ModuleType:
    known = f"selfimprove_own_code_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if known in sys.modules:
        return sys.modules[known]
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(known, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module  # dataclasses and pickles look themselves up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    return module


def pinned(given: str | Callable[..., object]) -> str:
    """Return what names a function or class, with the digest of its file if it has one.

    Raises:
        ConfigError: as for `load_named`; or the name has a digest, and the file is another by now.
    """
    said = given if isinstance(given, str) else f"{given.__module__}:{given.__qualname__}"
    name, _, known = said.partition("@")
    load_named(name)
    file = getattr(_module(name.rpartition(":")[0], name), "__file__", None)
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12] if file else ""
    if known and known != digest:
        raise ConfigError(
            f"{name}: its file is no longer what it was when {said} was written; leave out what "
            "stands behind the @ to use the new code"
        )
    return f"{name}@{digest}" if digest else name


def _pinned(given: object) -> object:
    if not (isinstance(given, str) or callable(given)):
        return given
    try:
        return pinned(given)
    except ConfigError as error:
        raise ValueError(str(error)) from error


OwnCode: TypeAlias = Annotated[str, BeforeValidator(_pinned)]
"""A field of a config that names code; from Python the function itself may be given."""
