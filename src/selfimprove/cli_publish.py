"""The commands `export` and `push`: a result leaves the folder of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

__all__ = ["export", "push"]

_Subject: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN_OR_MODEL", help="A finished run, or a model as anywhere.")
]
_Dtype: TypeAlias = Annotated[
    Literal["f32", "f16", "bf16", "q8_0"] | None,
    typer.Option(help="Of a GGUF file's matrices [as the model has them]."),
]
_FORMS: TypeAlias = Literal["hf", "gguf", "adapter"]
_HELP = (
    "hf: a Hugging Face folder; gguf: for llama.cpp; adapter: LoRA for PEFT, of a run with `lora`"
)


def export(
    what: _Subject,
    out: Annotated[Path, typer.Argument(help="A new folder, or OUT.gguf.")],
    form: Annotated[
        _FORMS | None, typer.Option("--format", help=f"{_HELP} [by the name of OUT].")
    ] = None,
    dtype: _Dtype = None,
) -> None:
    """Write a run's model, with a model card made from the run, for others to use."""
    from selfimprove.publish.export import export as write

    made = write(what, out, form, dtype)
    if made.base_kept:
        print("no round passed the run's gate: this is the model that it began with")
    print(made.place)


def push(  # noqa: PLR0913  each is an option of the command line
    what: _Subject,
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="The repository.")],
    form: Annotated[_FORMS, typer.Option("--format", help=f"{_HELP}.")] = "hf",
    dtype: _Dtype = None,
    private: Annotated[bool, typer.Option("--private", help="Nobody else sees it.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="The repository may be there: add a commit.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print files and card; ask no network.")
    ] = False,
) -> None:
    """Upload a run's model and its card to the Hugging Face hub."""
    from selfimprove.publish.hub import push as upload

    pushed = upload(what, name, form, dtype, private=private, update=update, dry_run=dry_run)
    if dry_run:
        print(pushed.card)
    for file, size in pushed.files:
        print(f"{size / 1e6:>12,.1f} MB  {file}")
    print(f"{'would be' if dry_run else 'is'} at {pushed.url}")
