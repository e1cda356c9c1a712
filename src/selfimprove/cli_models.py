"""The commands `models`, `engines` and `tiny`: what is on this machine, and how more comes to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["engines_app", "models_app", "tiny_app"]

models_app = typer.Typer(help="List the models that are here, or fetch one.")
engines_app = typer.Typer(help="List the engines that sample here, or add one.")
tiny_app = typer.Typer(help="The tiny model that ships with the package.", no_args_is_help=True)


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the models that are here by name, with size and licence, and those that can be fetched."""
    from selfimprove import terminal
    from selfimprove.models.listing import listing

    if context.invoked_subcommand is None:
        terminal.show_models(listing())


@models_app.command("get")
def get_model(
    name: Annotated[
        str, typer.Argument(help="E.g. smollm2-135m; `selfimprove models` lists them.")
    ],
) -> None:
    """Fetch a pretrained model by name, check it, and keep it in the cache; then no network is needed."""
    from selfimprove import terminal
    from selfimprove.models.known import get

    folder = get(name, terminal.announce)
    print(
        f"{name}: {folder}\nnext: selfimprove eval {name} --data gsm8k:test.jsonl --limit 50 engine.chat=true"
    )


@engines_app.callback(invoke_without_command=True)
def engines(context: typer.Context) -> None:
    """List the engines that sample on this machine, and which one `engine.kind: auto` takes."""
    from selfimprove import terminal
    from selfimprove.sampling.listing import engines_here

    if context.invoked_subcommand is None:
        terminal.show_facts(engines_here())


@engines_app.command("add")
def add_engine(
    name: Annotated[Literal["vllm"], typer.Argument(help="vllm is the one that can be added.")],
    build: Annotated[
        Literal["auto", "cuda", "cpu"],
        typer.Option(help="auto: for this machine's GPU, or its CPU."),
    ] = "auto",
) -> None:
    """Make an environment of its own for vLLM in the cache: some gigabytes; nothing else changes."""
    from selfimprove import terminal
    from selfimprove.sampling.vllm_environment import add, this_build

    made = this_build() if build == "auto" else build
    python = add(made, terminal.announce)
    used = "`engine.kind: auto` takes it" if made == "cuda" else "engine.kind=vllm takes it"
    print(f"{name}: {python}\nnext: {used}; selfimprove engines tells for which models")


@tiny_app.command("pretrain")
def pretrain_tiny(
    out: Annotated[Path, typer.Argument(help="Folder to write the model to.")],
    size: Annotated[
        Literal["tiny", "tinier", "tiny-keeps"],
        typer.Option(help="tinier: the distillation student. tiny-keeps: of the world of keepers."),
    ] = "tiny",
    seed: Annotated[int, typer.Option(help="Seeds weights and corpus.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Training steps [the shipped model's].")] = None,
) -> None:
    """Rebuild a shipped tiny model from nothing: at most 30 minutes on 2 cores."""
    from selfimprove.tiny.pretrain import pretrain

    print(pretrain(out, size=size, seed=seed, steps=steps))
