"""`selfimprove watch`: parse and call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def watch(
    run: Annotated[
        Path, typer.Argument(help="A run's folder: one that goes on, was killed, or has finished.")
    ],
    once: Annotated[bool, typer.Option(help="Print one picture and end; so does a pipe.")] = False,
) -> None:
    """Show a run in the terminal while it goes on: steps, rates, time left, metrics, newest texts."""
    from contextlib import suppress

    from rich.console import Console

    from selfimprove.watching.watch import watch

    with suppress(KeyboardInterrupt):  # ends the watching, not the run
        watch(run, Console(highlight=False), once=once)
