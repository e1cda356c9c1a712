"""Code of a user's own, named in a recipe as `module:name` or `path/to/file.py:name`.

What is stored says `name@digest`, by the content of its file: rows belong to the code they were made by.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterable
from math import isfinite, nan
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import BeforeValidator

from selfimprove.errors import ConfigError, OwnCodeError

__all__ = ["OwnCode", "called", "code_name", "load_named", "numbers_of", "pinned"]

_OF: Final = "__selfimprove_digest__"

T = TypeVar("T")


def load_named(name: str) -> Any:  # noqa: ANN401  whatever the user's code holds there
    """Import what a name says; modules are looked for in the working folder, too.

    Raises:
        ConfigError: the name has no colon, there is no such module or nothing of that name in it, or the
            name carries a digest and the code is another by now.
    """
    named, _, known = name.partition("@")
    place, colon, what = named.rpartition(":")
    if not (colon and place and what):
        raise ConfigError(f"{name!r} must look like module:name or path/to/file.py:name")
    module = _module(place, name)
    try:
        found = getattr(module, what)
    except AttributeError:
        raise ConfigError(f"{name}: {place} holds nothing called {what!r}") from None
    if known and known != _digest(module, found):
        raise ConfigError(
            f"{named}: its code is no longer what it was when {name} was written; start a new run, or "
            "leave out what stands behind the @"
        )
    return found


def _module(place: str, name: str) -> ModuleType:
    if place in sys.modules:
        return sys.modules[place]
    try:
        if place.endswith(".py"):
            return _of_file(Path(place).expanduser().resolve())
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)
        return importlib.import_module(place)
    except (ImportError, OSError, SyntaxError) as error:
        raise ConfigError(f"{name} cannot be imported: {error}") from error


def _of_file(path: Path) -> ModuleType:
    """Run a file as a module of a name of its own, for these very bytes: a changed file is another."""
    source = path.read_bytes()
    known = f"selfimprove_own_code_{_short(str(path).encode() + source)}"
    if known not in sys.modules:
        module = ModuleType(known)
        module.__file__ = str(path)
        module.__dict__[_OF] = _short(source)
        sys.modules[known] = module  # dataclasses and pickles look themselves up there
        try:
            exec(compile(source, str(path), "exec"), module.__dict__)
        except BaseException:
            del sys.modules[known]
            raise
    return sys.modules[known]


def _digest(module: ModuleType, code: object) -> str:
    """Return a digest of the file that holds code, as it was first seen; of a notebook, of the code itself."""
    if _OF not in module.__dict__:
        file = getattr(module, "__file__", None)
        if file is None or not Path(file).is_file():
            return _short(repr(_instructions(code)).encode())
        module.__dict__[_OF] = _short(Path(file).read_bytes())
    told: str = module.__dict__[_OF]
    return told


def _instructions(code: object) -> object:
    """Return what a function does, or all functions of a class; where it was typed is no part of it."""
    if isinstance(code, type):
        return [(name, _instructions(part)) for name, part in sorted(vars(code).items())
                if isinstance(part, FunctionType)]  # fmt: skip
    if isinstance(code, FunctionType):
        return _instructions(code.__code__)
    if isinstance(code, CodeType):
        return code.co_code, code.co_names, [_instructions(one) for one in code.co_consts]
    if isinstance(code, frozenset):  # of `in {...}`; its order changes from process to process
        return sorted(map(repr, code))
    return code


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def called(name: str, code: Callable[..., T], *given: object) -> T:
    """Return what the user's code makes of something.

    Raises:
        OwnCodeError: it raised; the message says what, and where in it.
    """
    try:
        return code(*given)
    except Exception as error:
        within = traceback.extract_tb(error.__traceback__)[1:]
        where = f" ({within[-1].filename}, line {within[-1].lineno})" if within else ""
        raise OwnCodeError(f"{name} raised {type(error).__name__}: {error}{where}") from error


def numbers_of(
    name: str, code: Callable[..., Any], prompts: list[str], responses: list[str]
) -> list[float | None]:
    """Return a number for each response, or None, by the user's code.

    Raises:
        OwnCodeError: it raised, or gave something else.
    """
    name = name.partition("@")[0]
    given = called(name, code, prompts, responses) if responses else []
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise OwnCodeError(
            f"{name} gave {given!r}: it must return a list, a number or None a response"
        )
    told = list(given)
    if len(told) != len(responses):
        raise OwnCodeError(f"{name} gave {len(told)} scores for {len(responses)} responses")
    return [_number(name, one) for one in told]


def _number(name: str, given: Any) -> float | None:  # noqa: ANN401
    if given is None:
        return None
    try:
        told = float(given)
    except (TypeError, ValueError):
        told = nan
    if not isfinite(told):
        raise OwnCodeError(f"{name} gave {given!r} for a response, which is no finite number")
    return told


def code_name(code: Callable[..., object]) -> str:
    """Return the name of a function; of one in a file of the user's own, with a digest of that file."""
    module = sys.modules.get(code.__module__)
    digest = vars(module).get(_OF) if module else None
    return f"{code.__name__}@{digest}" if digest else code.__name__


def pinned(given: str | Callable[..., object]) -> str:
    """Return what names a function or class, with a digest of its code.

    Raises:
        ConfigError: as for `load_named`; or it is given itself and has no name to be found by.
    """
    name = given if isinstance(given, str) else _name_of(given)
    found = load_named(name)
    if "@" in name:
        return name
    return f"{name}@{_digest(_module(name.rpartition(':')[0], name), found)}"


def _name_of(given: Callable[..., object]) -> str:
    what = getattr(given, "__qualname__", "")
    if not what.isidentifier():
        raise ConfigError(
            f"{given!r} has no name to be found by again: give a function or class defined at the top of "
            "a module or notebook"
        )
    return f"{given.__module__}:{what}"


def _pinned(given: object) -> object:
    stored = isinstance(given, str) and "@" in given  # it is looked at when it is used
    if stored or not (isinstance(given, str) or callable(given)):
        return given
    try:
        return pinned(given)
    except ConfigError as error:
        raise ValueError(str(error)) from error


OwnCode: TypeAlias = Annotated[str, BeforeValidator(_pinned)]
"""A field of a config that names code; from Python the function itself may be given."""
