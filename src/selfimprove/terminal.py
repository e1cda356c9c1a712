"""What the commands print for a person."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfimprove.remote import told as known

if TYPE_CHECKING:
    from selfimprove.data.read import BadRow, Check
    from selfimprove.evaluation.file_overlaps import FileOverlaps
    from selfimprove.methods.pit.improve import Chain
    from selfimprove.models.listing import Listed
    from selfimprove.report.listing import ListedRun
    from selfimprove.rows import Funnel

__all__ = [
    "announce",
    "ask_prompts",
    "headline",
    "show_chains",
    "show_check",
    "show_facts",
    "show_funnels",
    "show_judge",
    "show_models",
    "show_outcome",
    "show_reward",
    "show_runs",
    "show_scores",
    "show_table",
    "show_warm_start",
]

_SHOWN_BAD_ROWS = 20
_SHOWN_CHARACTERS = 100  # of a text
_ASKED = {
    ("standard", "accuracy"): "standard, greedy",
    ("cot", "accuracy"): "cot, greedy",
    ("self_consistency", "sampled accuracy"): "cot, sampled",
}
"""What a row of scores is called, by mode and metric; the others, maj@k and pass@k, by their metric."""


def announce(line: str) -> None:
    """Print a line about a run's progress and the time of day, on standard error."""
    told = f"{time.strftime('%H:%M:%S')} {line}"
    Console(stderr=True, highlight=False).print(told, markup=False)


def show_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    words: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """Print a table; the first column and those of `words` begin on the left, those of `whole` are not wrapped."""
    table = Table(title=title, title_justify="left", show_edge=False)
    for i, column in enumerate(columns):
        left = i == 0 or column in words
        table.add_column(column, justify="left" if left else "right", overflow="fold",
                         no_wrap=column in whole)  # fmt: skip
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)


def show_runs(runs: Sequence[ListedRun]) -> None:
    """Print runs, one below the other, each with its headline."""
    for run in runs:
        print(f"{known(run.path)}  {run.method} of {run.model}, seed {run.seed}: {run.state}")
        if run.headline:
            print(f"  {run.headline}")
    if not runs:
        print("no run here; `selfimprove run recipes/lmsi-tiny.yaml` makes one")


def show_models(models: Sequence[Listed]) -> None:
    """Print the models that are here, and those that can be fetched; paths can be copied whole."""
    width = max(len(m.name) for m in models)
    for m in models:
        print(f"{m.name:<{width}}  {m.size_bytes / 1e6:>8,.0f} MB  {m.licence:<12}  {m.where}")


def show_warm_start(out: Path, told: Mapping[str, Any]) -> None:
    """Print what a fine-tuning did, and what to do with its model."""
    did = told["training"]
    facts = {
        "trained": f"{did['examples']:,} rows, {did['steps']:,} steps, {did['tokens']:,} tokens "
        f"({did['completion_tokens']:,} with loss)",
        "left out": f"{did['dropped']:,} rows too long; {did['truncated']:,} lost their beginning",
        "loss": f"{did['first_loss']:.3f} -> {did['final_loss']:.3f} nats a token",
    }
    if held := told.get("held_out"):
        facts["held out"] = (
            f"{held['before']:.3f} -> {held['after']:.3f} nats a token on {held['rows']:,} rows"
        )
    shown = known(out)
    show_facts(facts | {"log": f"{shown}/training/train_log.jsonl", "model": shown})
    print(f"next: `model: {shown}` in a recipe, or selfimprove eval {shown} --data FORMAT:FILE")


def show_reward(out: Path, told: Mapping[str, Any]) -> None:
    """Print what the training of a reward model did, and what to do with it."""
    did = told["training"]
    facts = {
        "trained": f"{did['pairs']:,} pairs, {did['steps']:,} steps, {did['tokens']:,} tokens",
        "left out": f"{did['dropped']:,} pairs too long; {did['truncated']:,} lost their beginning",
        "loss": f"{did['first_loss']:.3f} -> {did['final_loss']:.3f} nats a pair",
    }
    if test := told.get("test"):
        facts["held out"] = f"{test['preferences']:,} pairs, {test['unscored']:,} not read"
        facts |= _intervals(test, ("accuracy", "prefers_longer", "people_prefer_longer"))
    shown = known(out)
    show_facts(facts | {"log": f"{shown}/training/train_log.jsonl", "model": shown})
    print(
        f"next: `judge: {{kind: reward_model, model: {shown}, votes: 1}}` below `evaluation` in a recipe"
    )


def show_outcome(root: Path, *, was_finished: bool) -> None:
    """Print a run's headline and what to do next."""
    from selfimprove.report.wording import verdict

    told = json.loads((root / "summary.json").read_text(encoding="utf-8"))
    head = told["headline"]
    if was_finished:
        print(f"{known(root)} is finished; nothing was done.")
    print(f"{verdict(head['interval'])}: {headline(head)}")
    if (gate := told.get("gate")) and not any(decision["promoted"] for decision in gate):
        print("no round passed the gate: the model before the first stays")
    if flexible := head.get("flexible"):
        print(f"by the flexible reading: {_change(flexible)}")
    model = json.loads((root / "finished.json").read_text(encoding="utf-8"))["model"]
    print(f"the model, as it was measured: {known(root / model)}")
    if repeated := sum(o["exact"] + o["near"] for o in told.get("overlaps", ())):
        print(f"{repeated:,} overlaps of training and held-out data: see the report")
    print(f"next: selfimprove report {known(root)}")


def headline(head: Mapping[str, Any]) -> str:
    """Return a run's headline in one line."""
    low, high = head["interval"]
    if head.get("unit") == "points":
        scale = f" of {head['highest']:g}" if head["highest"] is not None else ""
        return (
            f"{head['metric']} on {head['n']} held-out prompts: {head['before']:.2f} -> "
            f"{head['after']:.2f}{scale} points ({head['difference']:+.2f}, "
            f"95 % interval {low:+.2f} to {high:+.2f})"
        )
    if head.get("unit") == "wins":
        return (
            f"{head['arm']}: {head['metric']} on {head['n']} held-out prompts: {head['after']:.1%} "
            f"({head['difference'] * 100:+.1f} points from an even match, 95 % interval "
            f"{low * 100:+.1f} to {high * 100:+.1f})"
        )
    return f"{head['metric']} on {head['n']} held-out questions: {_change(head)}"


def _change(head: Mapping[str, Any]) -> str:
    low, high = head["interval"]
    return (
        f"{head['before']:.1%} -> {head['after']:.1%} ({head['difference'] * 100:+.1f} points, "
        f"95 % interval {low * 100:+.1f} to {high * 100:+.1f})"
    )


def show_scores(model: str, found: Mapping[str, Any]) -> None:
    """Print the figures of one model, a table a set of questions, both readings side by side."""

    def reading(told: Mapping[str, Any]) -> str:
        value, low, high = (100 * v for v in (told["value"], *told["interval"]))
        return f"{value:.1f} [{low:.1f}, {high:.1f}]"

    sets: dict[str, list[tuple[object, ...]]] = {}
    for s in found["scores"]:
        flexible = s["flexible"]
        unread = f"{s['unanswered']:,} / {flexible['unanswered']:,}"
        row = (
            _ASKED.get((s["mode"], s["metric"]), f"cot, {s['metric']}"),
            reading(s),
            reading(flexible),
            unread,
            f"{s['mean_tokens']:.0f}",
        )
        sets.setdefault(f"{model} on {s['set']}, {s['n']:,} questions", []).append(row)
    for title, rows in sets.items():
        show_table(title, ("% right [95 %]", "strict", "flexible", "unread", "tokens"), rows)
    print(
        "strict: the stated answer; flexible: else the last number or option (as lm-evaluation-harness)"
    )


def ask_prompts() -> Iterator[str]:
    """Ask for prompts, one after another, until an empty line or the end of the input."""
    console = Console(stderr=True)
    console.print("A prompt, then Enter; an empty line ends.", style="dim")
    while True:
        try:
            said = console.input("> ").strip()
        except EOFError:
            return
        if not said:
            return
        yield said


def show_chains(chains: Iterable[Chain], *, as_json: bool) -> None:
    """Print each chain as it comes: every response with the gap that its step won, or JSON lines."""
    console = Console(highlight=False)
    for chain in chains:
        if as_json:
            print(json.dumps(chain.as_dict(), ensure_ascii=False), flush=True)
            continue
        console.print(chain.prompt, style="bold", markup=False)
        table = Table.grid(padding=(0, 2))
        for step, response in enumerate(chain.responses):
            gain = chain.gains[step - 1] if step else None
            last = chain.ended and step == len(chain.responses) - 1
            told = "" if gain is None else f"{gain:+.2f}"
            table.add_row(f"y{step}", told, Text(response, style="dim" if last else ""))
        if chain.ended:
            table.add_row("", "", Text("ended: the last step did not win", style="dim"))
        console.print(table, "")


def show_judge(found: Mapping[str, Any]) -> None:
    """Print how far a judge agrees with people."""
    facts = {
        "judge": f"{found['kind']} {found['judge']} ({found['votes']} votes)",
        "matches": f"{found['judged']} of {found['matches']} judged, {found['ties']} ties",
    }
    for why, count in found["unscored"].items():
        facts[f"  {why}"] = str(count)
    names = ("accuracy", "accuracy_strict", "accuracy_in_order", "accuracy_swapped", "both_orders", "consistency",
             "prefers_first", "prefers_longer", "people_prefer_longer")  # fmt: skip
    show_facts(facts | _intervals(found, names))


def _intervals(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Return the shares that there are, each with its interval."""
    return {
        name.replace("_", " "): f"{told['value']:.3f}  "
        f"(95 % {told['interval'][0]:.3f} to {told['interval'][1]:.3f}, n = {told['n']})"
        for name in names
        if (told := found[name]) is not None
    }


def show_funnels(funnels: Sequence[Funnel]) -> None:
    """Print what went into each filter, what came out, and why the rest fell."""
    rows = [
        (f.name, f"{f.given:,}", f"{f.kept:,}",
         "; ".join(f"{d.why}: {d.count:,}" for d in f.dropped if d.count) or "nothing dropped")
        for f in funnels
    ]  # fmt: skip
    show_table("seed data", ("filter", "in", "out", "dropped"), rows)


def show_check(file: str, found: Check) -> None:
    """Print the counts of a data file and its broken rows."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.answer_types.items()))
    print(f"{file}: {found.rows:,} rows, {found.good:,} good ({kinds}), {len(found.bad):,} broken")
    if found.unlabelled:
        print(f"  {found.unlabelled:,} good rows have no answer")
    _list_rows(found.bad)
    if found.looks_like:
        print(f"  this looks like {' or '.join(found.looks_like)}: use --as {found.looks_like[0]}")
    if found.left_out:
        print(
            f"  {len(found.left_out):,} rows are no comparison to learn from; training leaves them out:"
        )
        _list_rows(found.left_out)


def show_overlaps(found: Sequence[FileOverlaps]) -> None:
    """Print how many rows of a data file are, or nearly are, rows of others, and the first of them."""
    for one in found:
        print(
            f"  {len(one.exact):,} of {one.rows:,} rows are rows of {one.against}, "
            f"{len(one.near):,} more nearly are"
        )
        for word, rows in (("is", one.exact), ("nearly is", one.near)):
            for id, text in rows[:_SHOWN_BAD_ROWS]:
                plain = " ".join(text.split())[:_SHOWN_CHARACTERS]
                print(f"    {id} {word} one: {plain if plain.isprintable() else ascii(plain)}")


def _list_rows(rows: Sequence[BadRow]) -> None:
    for row in rows[:_SHOWN_BAD_ROWS]:
        print(f"  {row.place}: {row.problem}")
    if len(rows) > _SHOWN_BAD_ROWS:
        print(f"  … and {len(rows) - _SHOWN_BAD_ROWS:,} more")


def show_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, aligned."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
