"""The commands of `selfimprove data`: look at data files, divide them, make seed data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["data_app"]

data_app = typer.Typer(
    help="Look at data files, divide them, or make seed data.", no_args_is_help=True
)


@data_app.command("seeds")
def seeds(
    file: Annotated[str, typer.Argument(help="A local export or a hub id.")],
    kind: Annotated[str, typer.Option("--as", help="Its format, e.g. oasst.")],
    out: Annotated[Path, typer.Option(help="Folder for ift.jsonl and eft.jsonl.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Judges the ranked responses; without it no eft.jsonl but by reviews.words=ranks."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="judge.*, reviews.*, engine.*, e.g. judge.votes=1.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds the verdicts.")] = 0,
) -> None:
    """Make Self-Rewarding's seed data from rated conversations; say what was dropped and why."""
    from selfimprove import terminal
    from selfimprove.config import apply_override
    from selfimprove.data.sources import as_source
    from selfimprove.methods.self_rewarding.seeds import seed_files_config, write_seed_files

    tree: dict[str, object] = {}
    for override in overrides or []:
        apply_override(tree, override)
    source = as_source(file, kind)
    terminal.show_funnels(write_seed_files(source, out, model, seed_files_config(tree), seed))
    print(f"written to {out}")


@data_app.command("split")
def split_data(
    file: Annotated[str, typer.Argument(help="A local file of prompts or preferences.")],
    shares: Annotated[list[str], typer.Argument(help="NAME=SHARE of each part, e.g. test=0.2.")],
    kind: Annotated[str, typer.Option("--as", help="Its format, e.g. hh_rlhf.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.jsonl of each part.")],
    seed: Annotated[int, typer.Option(help="Seeds the draw.")] = 0,
) -> None:
    """Divide a file into parts that share no prompt, e.g. to learn from, to judge by and to test on."""
    from selfimprove.data.parts import shares_of_words, split_file

    for part in split_file(file, kind, shares_of_words(shares), out, seed):
        print(f"{part.file}: {part.rows:,} rows, {part.prompts:,} prompts")


@data_app.command("check")
def check_data(
    file: Annotated[str, typer.Argument(help="A local file or a hub id.")],
    kind: Annotated[str, typer.Option("--as", help="Its format, e.g. gsm8k.")],
    against: Annotated[
        list[str] | None,
        typer.Option(help="Count rows that are, or nearly are, rows of this format:file."),
    ] = None,
) -> None:
    """Read a data file, count its rows, and name every broken one."""
    from selfimprove import terminal
    from selfimprove.data.read import check

    found = check(file, kind)
    terminal.show_check(file, found)
    if found.bad:
        raise typer.Exit(1)
    if against:
        from selfimprove.evaluation.file_overlaps import check_against

        terminal.show_overlaps(check_against(file, kind, against))
