"""The benchmarks are scripts that no test runs: what they import is there, and in the right order."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[1] / "benchmarks"
_FILES = sorted(_FOLDER.glob("*.py"))
_OURS = {file.stem for file in _FILES}
_SCRIPTS = [file for file in _FILES if "argparse.ArgumentParser(" in file.read_text()]


def _imports(file: Path) -> list[tuple[str, list[str]]]:
    """Modules that a file imports when it is loaded, in order, and the names it takes from them."""
    found = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            found.append((node.module or "", [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
    return found


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_what_a_benchmark_takes_from_the_project_is_there(file: Path) -> None:
    for module, names in _imports(file):
        if module.split(".")[0] == "selfimprove":
            loaded = importlib.import_module(module)
            assert [name for name in names if not hasattr(loaded, name)] == []
        elif module in _OURS:
            told = ast.parse((_FOLDER / f"{module}.py").read_text()).body
            there = {n.name for n in told if isinstance(n, ast.FunctionDef | ast.ClassDef)}
            there |= {t.id for n in told if isinstance(n, ast.Assign)
                      for t in n.targets if isinstance(t, ast.Name)}  # fmt: skip
            there |= {n.target.id for n in told
                      if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}  # fmt: skip
            assert set(names) <= there


@pytest.mark.parametrize("file", _SCRIPTS, ids=lambda file: file.stem)
def test_selfimprove_is_imported_before_torch(file: Path) -> None:
    # It sets what torch's OpenMP reads once, when torch is loaded.
    modules = [module for module, _ in _imports(file)]
    heavy = ("torch", "datasets", "tokenizers", "transformers", "trl", "real_size", "plain_loop")
    first = min((modules.index(m) for m in heavy if m in modules), default=len(modules))
    assert "machine" in modules[:first]
