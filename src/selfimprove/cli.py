"""The command line: parse, wire, call. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from selfimprove.cli_data import data_app
from selfimprove.cli_demo import demo
from selfimprove.cli_measure import compare, ifeval, lm_eval, mt_bench
from selfimprove.cli_models import engines_app, models_app, tiny_app
from selfimprove.cli_publish import export, push
from selfimprove.cli_recipes import init, runs, schema, show
from selfimprove.cli_serve import serve
from selfimprove.cli_watch import watch

_DEFAULT = "accuracy"
_INTERRUPTED = 130  # how a shell reports Ctrl-C; typer leaves with it
_STOPPED = "\nstopped; of `run`, `sft` and `reward`, the same command goes on where this one ended"


class ModelOrCommand(TyperGroup):
    """A group whose first word may be a model: `eval tiny ...` is `eval accuracy tiny ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  click's context
        """Put the default command before a word, or an option, that names no command."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="selfimprove",
    help="Language models that improve themselves: LMSI, Self-Rewarding and PIT.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
eval_app = typer.Typer(
    cls=ModelOrCommand,
    help="Measure a model (`eval MODEL --data ...`), compare two systems, or measure a judge.",
    no_args_is_help=True,
)
app.add_typer(data_app, name="data")
app.add_typer(eval_app, name="eval")
app.add_typer(models_app, name="models")
app.add_typer(engines_app, name="engines")
app.add_typer(tiny_app, name="tiny")
app.command("demo")(demo)


def _tell_version(asked: bool) -> None:
    if asked:
        import selfimprove

        print(f"selfimprove {selfimprove.__version__}")
        raise typer.Exit


@app.callback()
def _of_all(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Language models that improve themselves: LMSI, Self-Rewarding and PIT."""


def main() -> None:
    """Run the command line; an error that a user can mend is one message, not a traceback."""
    from selfimprove.errors import SelfImproveError
    from selfimprove.files import told

    try:
        app(prog_name="selfimprove")
    except SelfImproveError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:  # before or after typer looks
        print(_STOPPED, file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            print(_STOPPED, file=sys.stderr)
        raise


@app.command()
def run(  # noqa: PLR0913  each is an option of the command line
    recipe: Annotated[
        Path,
        typer.Argument(
            help="A YAML recipe; one that ships, e.g. lmsi-tiny; or a method: lmsi, or file.py:NAME."
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key.sub=value, as often as needed.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder [runs/RECIPE-seedN].")] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Print the steps and their cost, then stop.")
    ] = False,
    num_processes: Annotated[
        int, typer.Option(min=1, help="Processes that train, one a GPU of this machine.")
    ] = 1,
    nodes: Annotated[
        int, typer.Option(min=1, help="Machines that train; prints what to start on each of them.")
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(help="With --dry-run: what it would take on these GPUs, e.g. 64xh100."),
    ] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="Of one of them for an hour [docs/scale.md].")
    ] = None,
    times: Annotated[
        int, typer.Option(min=1, help="With --cluster: count the recipe's data so many times.")
    ] = 1,
) -> None:
    """Run a recipe; run the same command again to resume it."""
    from selfimprove import terminal, terminal_plan
    from selfimprove.errors import ConfigError
    from selfimprove.runtime.launch import On, launch, plan_recipe
    from selfimprove.runtime.nodes import launch_line, leave_torchrun
    from selfimprove.runtime.processes import take_part

    if dry_run:
        on = On(cluster, price, times) if cluster else None
        terminal_plan.show_plan(plan_recipe(recipe, overrides or [], out, num_processes, on))
        return
    if cluster is not None:
        raise ConfigError("--cluster calculates, and starts nothing: add --dry-run")
    machines = leave_torchrun()
    if nodes > 1 and machines is None:
        words = ["run", str(recipe), *(overrides or []), "--out", str(out or "SHARED_FOLDER")]
        terminal_plan.show_launch(launch_line(nodes, num_processes, words), nodes)
        return
    if machines is not None and machines.here:
        take_part(machines, terminal.announce)
        return
    each = machines.processes if machines else num_processes
    finished = launch(recipe, overrides or [], out, terminal.announce, each, machines)
    if machines is not None:
        machines.end()
    terminal.show_outcome(finished.root, was_finished=finished.was_finished)


@app.command()
def sft(
    model: Annotated[str, typer.Argument(help="A name, a folder, a .gguf file, or a hub id.")],
    data: Annotated[
        list[str],
        typer.Option(help="Rows: a file (prompt/completion, messages, ...) or gsm8k:train.jsonl."),
    ],
    out: Annotated[Path, typer.Option(help="Folder that becomes the model.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="E.g. learning_rate=2e-4 epochs=5 chat=true held_out=0.05."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First so many rows a file.")] = None,
) -> None:
    """Fine-tune a model on rows, e.g. for a warm start; run the same command again to resume it."""
    from selfimprove import terminal
    from selfimprove.methods.one_model import config_of_words
    from selfimprove.methods.warm_start import WarmStartConfig, warm_start

    config = config_of_words(WarmStartConfig, model, data, overrides or [], limit)
    terminal.show_warm_start(out, warm_start(config, out, terminal.announce))


@app.command()
def reward(
    model: Annotated[str, typer.Argument(help="A name, a folder, a .gguf file, or a hub id.")],
    data: Annotated[
        list[str], typer.Option(help="Preferences as format:file, e.g. hh_rlhf:judge.jsonl.")
    ],
    out: Annotated[Path, typer.Option(help="Folder that becomes the reward model.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="E.g. learning_rate=2e-5 epochs=2 test=hh_rlhf:test.jsonl."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First so many rows a file.")] = None,
) -> None:
    """Train a reward model, e.g. as a judge (kind: reward_model); run it again to resume it."""
    from selfimprove import terminal
    from selfimprove.methods.one_model import config_of_words
    from selfimprove.methods.reward_start import RewardStartConfig, reward_start

    config = config_of_words(RewardStartConfig, model, data, overrides or [], limit)
    terminal.show_reward(out, reward_start(config, out, terminal.announce))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are put side by side.")],
    out: Annotated[Path | None, typer.Option(help="Where to write it [RUN/report.html].")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the page's figures as JSON.")
    ] = False,
) -> None:
    """Write one self-contained HTML page about one or several runs."""
    from selfimprove.remote import told
    from selfimprove.report.figures import figures
    from selfimprove.report.page import write

    if as_json:
        found = [figures(root) for root in runs]
        print(json.dumps(found[0] if len(found) == 1 else found, indent=2, ensure_ascii=False))
        return
    print(told(write(runs, out or runs[0] / "report.html")))


@app.command()
def improve(  # noqa: PLR0913  each is an option of the command line
    run: Annotated[Path, typer.Argument(help="The folder of a finished PIT run.")],
    file: Annotated[
        str | None,
        typer.Argument(
            help="Prompts (.jsonl, .json, .csv, .parquet), with `response` where there is one to "
            "improve; without a file, prompts are asked for."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Fields of `improve`, e.g. 'temperature=[0.7,0.4]' min_gap=0.1."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps [those of the recipe].")] = None,
    stop: Annotated[bool, typer.Option(help="End a chain before a step without gain.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="First so many prompts.")] = None,
    seed: Annotated[int, typer.Option(help="Seeds the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON a prompt.")] = False,
) -> None:
    """Improve responses step by step, with the gap of each step (PIT, Algorithm 2)."""
    from contextlib import closing

    from selfimprove import terminal
    from selfimprove.config import apply_override
    from selfimprove.methods.pit.improve import Improver, Item, read_items

    words = [file] if file and "=" in file and not Path(file).exists() else []
    tree: dict[str, Any] = {} if steps is None else {"steps": steps}
    for override in [*words, *(overrides or [])]:
        apply_override(tree, override)
    asks = bool(words) or file is None
    items = () if asks else read_items(Path(str(file)))[:limit]
    with closing(Improver.of_run(run, tree)) as improver:
        if asks:
            said = (Item.said(str(n), text) for n, text in enumerate(terminal.ask_prompts()))
            chains = improver.chains(said, stop=stop, seed=seed, together=1)
        else:
            chains = improver.chains(items, stop=stop, seed=seed)
        terminal.show_chains(chains, as_json=as_json)


for command in (serve, watch, runs, show, init, schema, compare, export, push):
    app.command(command.__name__)(command)
eval_app.command("ifeval")(ifeval)
eval_app.command("mt-bench")(mt_bench)
eval_app.command("lm-eval")(lm_eval)


@eval_app.command(_DEFAULT)
def evaluate(
    model: Annotated[str, typer.Argument(help="tiny, a folder, or a hub id.")],
    data: Annotated[
        list[str], typer.Option(help="format:file, e.g. gsm8k:test.jsonl or tiny:dev.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Fields of `evaluation` and `engine`, e.g. votes=16 engine.chat=true."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="First so many questions a file.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds the sampled votes.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure accuracy: greedy (standard, cot) and by vote (maj@k, pass@k), with intervals."""
    from selfimprove import terminal
    from selfimprove.config import overridden
    from selfimprove.evaluation.single import evaluate_model

    found = evaluate_model(model, data, overridden({}, overrides or []), limit=limit, seed=seed)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        terminal.show_scores(model, found)


@eval_app.command("head-to-head")
def head_to_head(  # noqa: PLR0913  each is an option of the command line
    systems: Annotated[
        list[str] | None,
        typer.Argument(
            help="Two model_outputs.json files or two models; then judge.*, sampling.*, engine.* "
            "overrides such as judge.kind=pairwise."
        ),
    ] = None,
    preferences: Annotated[
        Path | None, typer.Option(help="Count an AlpacaEval annotations file instead.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="The model that decides.")] = None,
    prompts: Annotated[
        str | None, typer.Option(help="format:file that models answer, e.g. tiny:test.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First so many prompts.")] = None,
    seed: Annotated[int, typer.Option(help="Seeds responses and verdicts.")] = 0,
    outputs: Annotated[
        Path | None, typer.Option(help="Folder for the models' responses, in AlpacaEval's format.")
    ] = None,
    gamed: Annotated[
        Path | None, typer.Option(help="AlpacaEval 2's df_gamed.csv: adds the rate it publishes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Compare two systems: wins, ties, losses, intervals, length-controlled rate."""
    from selfimprove import terminal_measures
    from selfimprove.errors import ConfigError
    from selfimprove.evaluation.versus import compare_systems, recount

    words = systems or []
    if preferences is not None:
        if words or {judge, prompts, limit, outputs} != {None}:
            raise ConfigError(
                "--preferences counts a whole file: of other options --gamed and --json go with it"
            )
        found = recount(preferences, gamed)
    elif len(words) < 2 or judge is None:
        raise ConfigError("give two systems and --judge MODEL, or --preferences FILE")
    else:
        first, second, *overrides = words
        found = compare_systems(first, second, judge, overrides, prompts=prompts, limit=limit,
                                seed=seed, outputs=outputs, gamed=gamed)  # fmt: skip
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        terminal_measures.show_head_to_head(found)


@eval_app.command("judge")
def evaluate_judge(
    data: Annotated[str, typer.Option(help="Matches that people decided, in LLMBar's layout.")],
    judge: Annotated[
        str, typer.Option(help="tiny, a folder, a hub id, file.py:function, or random.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Fields of the judge, e.g. kind=pairwise votes=1.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First so many matches.")] = None,
    seed: Annotated[int, typer.Option(help="Seeds the verdicts.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a judge against people: accuracy in both orders, consistency, biases."""
    from selfimprove import terminal
    from selfimprove.evaluation import judge_on_labels

    found = judge_on_labels.evaluate_judge(data, judge, overrides or [], limit=limit, seed=seed)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        terminal.show_judge(found)


@app.command()
def doctor(
    model: Annotated[str | None, typer.Option(help="Tell what this model would need.")] = None,
) -> None:
    """Tell what this machine can run: devices, precision, engines, memory for a model."""
    from selfimprove import terminal
    from selfimprove.doctor import examine

    terminal.show_facts(examine(model))
