"""`selfimprove compare`, and what `selfimprove eval` measures as the field does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["compare"]

Json = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


def compare(
    sources: Annotated[
        list[Path], typer.Argument(help="Run folders, and AlpacaEval annotations.json files.")
    ],
    anchor: Annotated[
        str | None, typer.Option(help="The system that stands at 1000 [the mean of all].")
    ] = None,
    gamed: Annotated[
        Path | None, typer.Option(help="AlpacaEval 2's df_gamed.csv: adds the rate it publishes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put runs side by side: headlines, Elo of all systems that met under a judge, win rates."""
    from selfimprove import terminal_measures
    from selfimprove.report.standings import standings

    found = standings(sources, anchor=anchor, gamed=gamed)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        terminal_measures.show_standings(found)
