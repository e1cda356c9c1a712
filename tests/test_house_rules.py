"""The project's own rules, kept by tests: sizes, live and documented knobs, the gold fence."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import selfimprove
from selfimprove.config import Config

_SOURCE = Path(selfimprove.__file__).parent
_FILES = sorted(_SOURCE.rglob("*.py"))
_MAX_LINES = 400
_MAY_READ_GOLD = ("data", "tiny", "evaluation")


def _relative(path: Path) -> str:
    return str(path.relative_to(_SOURCE))


def _modules() -> list[str]:
    found = pkgutil.walk_packages(selfimprove.__path__, "selfimprove.")
    return ["selfimprove", *(module.name for module in found)]


@pytest.mark.parametrize("path", _FILES, ids=_relative)
def test_no_file_is_too_long_to_be_read_at_once(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= _MAX_LINES


@pytest.mark.parametrize("name", _modules())
def test_every_module_imports_and_says_what_it_is(name: str) -> None:
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize("name", _modules())
def test_all_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert [n for n in listed if not hasattr(module, n)] == []


def _configs() -> list[type[Config]]:
    for name in _modules():
        importlib.import_module(name)
    found: list[type[Config]] = []
    waiting = [Config]
    while waiting:
        children = waiting.pop().__subclasses__()
        found += children
        waiting += children
    return [c for c in found if c.__module__.startswith("selfimprove.")]


def _attributes_read() -> set[str]:
    return {
        node.attr
        for path in _FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def test_every_config_field_has_a_doc_line() -> None:
    undocumented = [
        f"{config.__name__}.{name}"
        for config in _configs()
        for name, field in config.model_fields.items()
        if not field.description
    ]
    assert undocumented == []


def test_every_config_field_is_read_somewhere() -> None:
    # Read from the raw recipe, before there is a config: which method, and defaults of sources.
    raw = {"method", "train_limit", "test_limit"}
    read = _attributes_read() | raw
    dead = [f"{c.__name__}.{n}" for c in _configs() for n in c.model_fields if n not in read]
    assert dead == []


def _reads_gold(path: Path) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr in ("gold", "rationale"))
        or (isinstance(node, ast.Name) and node.id == "read_labelled")
        or (isinstance(node, ast.alias) and node.name == "read_labelled")
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_gold_answers_are_read_by_data_tiny_and_evaluation_alone() -> None:
    readers = {_relative(p).split("/")[0] for p in _FILES if _reads_gold(p)}
    assert readers <= set(_MAY_READ_GOLD)
    assert "evaluation" in readers  # the search above does find a reader


def test_methods_never_touch_the_oracle_of_the_tiny_world() -> None:
    touching = [p for p in (_SOURCE / "methods").glob("*.py") if "oracle" in p.read_text()]
    assert touching == []


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "trl", "pyarrow", "datasets", "matplotlib", "scipy")
    code = f"import sys, selfimprove.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
