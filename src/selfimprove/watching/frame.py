"""One picture of a run: where it is, how fast it goes, what it learns, what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from selfimprove.evaluation.summary import Headline
from selfimprove.report.wording import count, duration, sentence
from selfimprove.watching.plan import Ahead
from selfimprove.watching.samples import Sample
from selfimprove.watching.state import Seen, SeenStep

__all__ = ["frame", "plain"]

_STATES: Final = {"running": "green", "finished": "cyan", "stopped": "yellow", "unknown": "yellow"}
_BARS: Final = "▁▂▃▄▅▆▇█"
_CURVE: Final = 32
_LATE: Final = 120.0  # seconds of silence that are worth a word
_METRICS: Final = (
    "loss", "reward", "held_out_reward", "kl", "rewards/margins", "margin", "rewards/accuracies", "accuracy",
    "entropy", "completion_length", "sampling_logp_difference", "grad_norm", "learning_rate",
)  # fmt: skip
_LEAST_STEPS: Final = 6
_FEW: Final = 3


def frame(
    seen: Seen, ahead: Ahead | None, numbers: Sequence[tuple[str, dict[str, float]]],
    samples: Sequence[Sample], height: int,
) -> RenderableType:  # fmt: skip
    """Return the picture, about as high as said.

    Args:
        seen: the run.
        ahead: what is still to come, where it is known.
        numbers: of the newest finished steps, each with its name.
        samples: the newest texts.
        height: lines; steps that do not fit are counted, the oldest first.
    """
    metrics = _metrics(seen)
    below = [*_section(f"training {seen.log_step}", metrics), *_section("measured", _numbers(numbers)),
             *_section("written", _samples(samples))]  # fmt: skip
    room = height - 6 - sum(_lines(part) for part in below)
    return Group(_head(seen, ahead), "", _steps(seen, ahead, max(_LEAST_STEPS, room)), *below)


def plain(text: str) -> str:
    r"""Return a text in one line without anything that a terminal would obey.

    >>> plain("a\x1b[2Jb\n  c")
    'a [2Jb c'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _lines(part: RenderableType) -> int:
    return part.row_count if isinstance(part, Table) else 1


def _section(title: str, body: Table | None) -> list[RenderableType]:
    return [] if body is None else ["", Rule(plain(title), align="left", style="dim"), body]


def _head(seen: Seen, ahead: Ahead | None) -> RenderableType:
    recipe = seen.recipe
    what = " ".join(str(recipe[key]) for key in ("method", "model") if key in recipe)
    seed = f"  seed {recipe['seed']}" if "seed" in recipe else ""
    first = Text.assemble((plain(seen.root.resolve().name), "bold"), f"  {plain(what)}{seed}  ",
                          (f" {seen.state} ", f"reverse {_STATES[seen.state]}"))  # fmt: skip
    return Group(first, _second(seen, ahead))


def _second(seen: Seen, ahead: Ahead | None) -> Text:
    done = [step for step in seen.steps if step.done]
    spent = sum(float(step.record.get("seconds") or 0) for step in seen.steps)
    parts = [f"{len(done)}{f' of {len(done) + len(ahead.steps)}' if ahead else ''} steps",
             f"{duration(spent)} of work"]  # fmt: skip
    tokens = {
        key: sum(int(s.record.get(key) or 0) for s in seen.steps)
        for key in ("tokens_sampled", "tokens_trained")
    }
    parts += [
        f"{count(tokens['tokens_sampled'])} tokens sampled",
        f"{count(tokens['tokens_trained'])} trained",
    ]
    line = Text("  ".join(parts), style="dim")
    if seen.summary.get("headline"):
        return Text(sentence(Headline.model_validate(seen.summary["headline"])))
    if seen.state == "running" and ahead and ahead.seconds is not None:
        line.append(f"  about {duration(ahead.seconds)} left", style="not dim bold")
    if seen.state == "stopped":
        line.append("  run the same command again to go on", style="not dim yellow")
    if seen.state == "unknown" or (seen.state == "running" and seen.silent > _LATE):
        line.append(
            f"  {seen.holder}, last written {duration(seen.silent)} ago", style="not dim yellow"
        )
    return line


def _steps(seen: Seen, ahead: Ahead | None, room: int) -> Table:
    current = seen.current
    done = [step for step in seen.steps if step.done]
    known = {step.name for step in seen.steps}
    coming = [name for name in (ahead.steps if ahead else ()) if name not in known]
    few = coming[: max(0, min(_FEW, room - _LEAST_STEPS))]
    old = max(0, len(done) - max(1, room - len(few) - 3))
    table = _columns()
    if old:
        spent = sum(float(s.record.get("seconds") or 0) for s in done[:old])
        table.add_row("", _dim(f"{old} earlier steps"), "", "", _dim(duration(spent)))
    for step in done[old:]:
        mark = Text("✓", style="green")
        table.add_row(mark, plain(step.name), *_amounts(step, step.record.get("seconds")))
    if current:
        runs = seen.state == "running"
        mark = Text("▶", style="bold green") if runs else Text("■", style="yellow")
        amounts = _amounts(current, current.elapsed if runs else None)
        table.add_row(mark, Text(plain(current.name), style="bold"), *amounts)
        table.add_row("", _progress(current, runs=runs), "", "", "")
    for name in few:
        table.add_row(_dim("·"), _dim(plain(name)), "", "", "")
    if len(coming) > len(few):
        table.add_row("", _dim(f"{len(coming) - len(few)} more to come"), "", "", "")
    return table


def _columns() -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", width=1)
    table.add_column("step", no_wrap=True, overflow="ellipsis", min_width=30)
    for name in ("rows", "tokens/s", "time"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    return table


def _dim(text: str) -> Text:
    return Text(text, style="dim")


def _amounts(step: SeenStep, seconds: float | None) -> tuple[str, str, str]:
    rate = step.tokens_per_second
    rows = step.record.get("rows")
    # A step that is being made has none yet, or makes a model.
    return count(rows if step.done else rows or None), count(rate), duration(seconds)


def _progress(step: SeenStep, *, runs: bool) -> RenderableType:
    if not step.total:
        return _dim("working" if runs else "begun")
    row = Table.grid(padding=(0, 1))
    told = f"{step.made} of {step.total} {step.of}"
    if runs and step.seconds_left is not None:
        told += f", about {duration(step.seconds_left)} left"
    row.add_row(
        ProgressBar(total=step.total, completed=step.made, width=14), Text(told, no_wrap=True)
    )
    return row


def _metrics(seen: Seen) -> Table | None:
    known = [name for name in _METRICS if any(name in entry for entry in seen.log)]
    if not known:
        return None
    table = Table.grid(padding=(0, 2))
    for name in known[:6]:
        values = [entry[name] for entry in seen.log if name in entry]
        table.add_row(Text(name), Text(f"{values[-1]:.4g}", style="bold", justify="right"),
                      Text(curve(values), style="cyan"),
                      Text(f"{min(values):.4g} to {max(values):.4g}", style="dim"))  # fmt: skip
    return table


def curve(values: Sequence[float]) -> str:
    """Return numbers as bars of letters, those of a long course averaged over neighbours.

    >>> curve([0.0, 1.0, 2.0])
    '▁▅█'
    """
    size = max(1, -(-len(values) // _CURVE))
    means = [
        sum(part) / len(part) for i in range(0, len(values), size) if (part := values[i : i + size])
    ]
    low, high = min(means), max(means)
    width = (high - low) or 1.0
    return "".join(_BARS[round((mean - low) / width * (len(_BARS) - 1))] for mean in means)


def _numbers(numbers: Sequence[tuple[str, dict[str, float]]]) -> Table | None:
    told = [(name, values) for name, values in numbers if values]
    if not told:
        return None
    table = Table.grid(padding=(0, 2))
    for name, values in told:
        line = Text(no_wrap=True, overflow="ellipsis")
        for key, value in values.items():
            line.append(f"{key.replace('_', ' ')} ", style="dim").append(f"{value:.4g}  ")
        table.add_row(Text(plain(name), no_wrap=True), line)
    return table


def _samples(samples: Sequence[Sample]) -> Table | None:
    if not samples:
        return None
    table = Table.grid(padding=(0, 2))
    for sample in samples:
        said = [f"= {plain(sample.answer)}"] if sample.answer else []
        said += [f"score {sample.score:g}"] if sample.score is not None else []
        table.add_row(Text(plain(sample.step), style="dim", no_wrap=True),
                      Text(plain(sample.asked)[:400], style="dim", no_wrap=True, overflow="ellipsis"))  # fmt: skip
        table.add_row(Text(" ".join(said), style="bold", no_wrap=True, overflow="ellipsis"),
                      Text(plain(sample.text)[:400], no_wrap=True, overflow="ellipsis"))  # fmt: skip
    return table
