"""The commands `init`, `schema`, `show` and `runs`: recipes to begin with, in other words, and what became of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["init", "runs", "schema", "show"]


def show(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe, or the name of a method.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key.sub=value, as often as needed.")
    ] = None,
    spelling: Annotated[
        Literal["recipe", "command", "python"], typer.Option("--as", help="How to write it.")
    ] = "recipe",
) -> None:
    """Print a recipe as a recipe, as a command line, or as a call in Python."""
    from selfimprove.api.spelling import spelled
    from selfimprove.runtime.launch import read_config

    print(spelled(read_config(recipe, overrides or []), spelling))


def init(
    method: Annotated[str, typer.Argument(help="lmsi, self_rewarding, pit, or file.py:NAME.")],
) -> None:
    """Print a recipe to begin with: every key with its default and its help (> my.yaml)."""
    from selfimprove.api.commented import commented

    print(commented(method), end="")


def runs(
    folder: Annotated[Path, typer.Argument(help="Where runs lie.")] = Path("runs"),
) -> None:
    """List the runs of a folder: method, model, state and headline."""
    from selfimprove import terminal
    from selfimprove.report.listing import listed

    terminal.show_runs(listed(folder))


def schema(
    method: Annotated[
        str | None, typer.Argument(help="Of one method alone, e.g. lmsi or file.py:NAME.")
    ] = None,
) -> None:
    """Print the JSON schema of recipes, for editors that complete and check YAML: every key and its help."""
    from selfimprove.api.schema import recipe_schema

    print(json.dumps(recipe_schema(method), ensure_ascii=False, indent=2))
