"""`selfimprove compare`, and what `selfimprove eval` measures as the field does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["compare", "ifeval", "lm_eval", "mt_bench"]

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


def ifeval(
    systems: Annotated[
        list[str],
        typer.Argument(
            help="Models, or .jsonl files of responses, the first one before; then sampling.* and "
            "engine.* overrides."
        ),
    ],
    data: Annotated[Path, typer.Option(help="IFEval's input_data.jsonl.")],
    limit: Annotated[int | None, typer.Option(min=1, help="First so many prompts.")] = None,
    seed: Annotated[int, typer.Option(help="Seeds the responses.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the models' responses.")] = None,
    as_json: Json = False,
) -> None:
    """IFEval: instructions kept strictly and loosely, by prompt and by instruction."""
    from selfimprove import terminal_measures
    from selfimprove.config import overridden
    from selfimprove.evaluation.ifeval.measure import measure_ifeval

    named, overrides = apart(systems)
    found = measure_ifeval(named, data, overridden({}, overrides), limit=limit, seed=seed, out=out)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        terminal_measures.show_ifeval(found)


def mt_bench(  # noqa: PLR0913  each is an option of the command line
    models: Annotated[
        list[str],
        typer.Argument(
            help="Models, the first one before; then judge.*, engine.* and max_tokens overrides, e.g. "
            "judge.engine.kind=server judge.engine.server.url=http://..."
        ),
    ],
    questions: Annotated[Path, typer.Option(help="MT-Bench's question.jsonl.")],
    judge: Annotated[str, typer.Option(help="The model that rates, or a server's name for it.")],
    references: Annotated[
        Path | None, typer.Option(help="reference_answer/gpt-4.jsonl: math, coding, reasoning.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="MT-Bench's judge_prompts.jsonl [our own words].")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First so many questions.")] = None,
    seed: Annotated[int, typer.Option(help="Seeds answers and ratings.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for what models and judge said.")] = None,
    as_json: Json = False,
) -> None:
    """MT-Bench: two turns a question, each rated from 1 to 10, by turn and category."""
    from selfimprove import terminal_measures
    from selfimprove.config import overridden
    from selfimprove.evaluation.mt_bench.measure import measure_mt_bench

    named, overrides = apart(models)
    found = measure_mt_bench(named, questions, judge, overridden({}, overrides), references=references,
                             prompts=prompts, limit=limit, seed=seed, out=out)  # fmt: skip
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        terminal_measures.show_mt_bench(found)


def lm_eval(  # noqa: PLR0913  each is an option of the command line
    systems: Annotated[
        list[str],
        typer.Argument(
            help="A finished run, measured before and after; or models, the first one before; then "
            "arguments of the harness's model, e.g. dtype=bfloat16."
        ),
    ],
    task: Annotated[list[str], typer.Option(help="A task of the harness; as often as needed.")],
    include_path: Annotated[Path | None, typer.Option(help="Folder of tasks of your own.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="Examples [the task's].")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="First so many documents a task.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask by the chat template.")] = False,
    batch_size: Annotated[str, typer.Option(help="A number, or auto.")] = "1",
    device: Annotated[str | None, typer.Option(help="E.g. cpu or cuda:0 [the harness's].")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for its files [RUN/harness].")] = None,
    python: Annotated[
        Path | None, typer.Option(help="Python of the environment that has it [this one].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure by lm-evaluation-harness: before and after, paired by document."""
    import sys

    from selfimprove import terminal_measures
    from selfimprove.evaluation.harness.measure import HarnessOptions, measure_by_harness

    named, overrides = apart(systems)
    options = HarnessOptions(tuple(task), include_path, num_fewshot, limit, chat, batch_size, device,
                             tuple(overrides), python or Path(sys.executable))  # fmt: skip
    found = measure_by_harness(named, options, out)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        terminal_measures.show_harness(found)


def apart(words: list[str]) -> tuple[list[str], list[str]]:
    """Tell systems from overrides, which hold a `=` and are no file.

    Raises:
        ConfigError: there is no system.
    """
    from selfimprove.errors import ConfigError

    overrides = [w for w in words if "=" in w and not Path(w).exists()]
    named = [w for w in words if w not in overrides]
    if not named:
        raise ConfigError("name a model first, then overrides")
    return named, overrides
