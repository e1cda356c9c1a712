"""What `eval` and `compare` print of systems that were measured as the field measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfimprove.terminal import headline, show_facts, show_table

__all__ = ["show_harness", "show_head_to_head", "show_ifeval", "show_mt_bench", "show_standings"]


def show_head_to_head(found: Mapping[str, Any]) -> None:
    """Print how one system did against another."""

    def rate(name: str, interval: str, digits: int = 2) -> str:
        low, high = found[interval]
        return f"{found[name]:.{digits}%}  (95 % {low:.1%} to {high:.1%})"

    published = found.get("alpaca_eval_2")
    counts = f"{found['wins']} won, {found['losses']} lost, {found['ties']} tied"
    show_facts(
        {
            "systems": f"{found['first']} against {found['second']}",
            "judge": found["judge"],
            "matches": f"{found['n']} on {found['prompts']} prompts: {counts}, "
            f"{found['unscored']} not judged",
            # As many digits as leaderboards publish, to be compared with them.
            "win rate": f"{rate('win_rate', 'win_rate_interval', 6)}; ties count half",
            "standard error": f"{found['standard_error']:.6%}",
            "of decided": rate("decided_rate", "decided_interval"),
            "at equal length": rate("length_controlled", "length_controlled_interval"),
            **({"AlpacaEval 2": _published(published)} if published else {}),
            "mean length": f"{found['first_length']:.0f} and {found['second_length']:.0f} characters",
        }
    )


def _published(told: Mapping[str, Any]) -> str:
    low, high = told["interval"]
    return (
        f"{told['win_rate']:.2%}  (95 % {low:.1%} to {high:.1%}); length-controlled, as published"
    )


def show_standings(found: Mapping[str, Any]) -> None:
    """Print runs' headlines, the ratings of the systems that met, and each comparison."""
    from selfimprove.report.wording import verdict

    for run in found["runs"]:
        print(f"{run['run']}  {run['method']} of {run['model']}, seed {run['seed']}")
        if head := run["headline"]:
            print(f"  {verdict(head['interval'])}: {headline(head)}")
    if not found["ratings"]:
        print("no systems met under a judge: there are no ratings")
        return
    for ratings in found["ratings"]:
        _show_ratings(ratings)
    compared = [
        (m["first"], m["second"], f"{m['win_rate']:.1%}", f"{m['standard_error'] or 0:.1%}",
         _equal(m), f"{m['n']:,}", f"{m['unscored']:,}")
        for m in found["head_to_head"]
    ]  # fmt: skip
    columns = ("system", "against", "won", "error", "equal length", "judged", "not")
    show_table("win rates, ties half", columns, compared, words=("against",))


def _show_ratings(ratings: Mapping[str, Any]) -> None:
    rows = [
        (s["system"], f"{s['rating']:.0f}", "{:.0f} to {:.0f}".format(*s["interval"]),
         f"{s['matches']:,}", f"{s['win_rate']:.1%}")
        for s in ratings["systems"]
    ]  # fmt: skip
    where = ratings["anchor"] or "the mean of all"
    show_table(f"Elo (Bradley-Terry), {where} at 1000", ("system", "rating", "95 %", "matches", "won"),
               rows)  # fmt: skip
    if not ratings["bounded"]:
        print("some won, or lost, all against others: each pair got half a win each more")


def _equal(match: Mapping[str, Any]) -> str:
    published = match.get("alpaca_eval_2")
    if published:
        return f"{published['win_rate']:.1%} (AlpacaEval 2)"
    rate = match["length_controlled"]
    return "-" if rate is None else f"{rate:.1%}"


def show_ifeval(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the four accuracies of each system, and how the first differs from the others."""
    rows = [
        (told["system"], *(_share(told[of][reading]) for of in ("prompt", "instruction")
                           for reading in ("strict", "loose")))
        for told in found
    ]  # fmt: skip
    head = found[0]
    title = f"{head['data']}, {head['prompts']:,} prompts, {head['instructions']:,} instructions"
    show_table(title, ("% kept [95 %]", "prompt strict", "prompt loose", "instr. strict",
                       "instr. loose"), rows)  # fmt: skip
    for told in found:
        if told["unscored"]:
            print(
                f"{told['system']}: {told['unscored']:,} prompts not answered; they count nowhere"
            )
        if told["unfinished"]:
            print(f"{told['system']}: {told['unfinished']:,} responses did not end")
        if versus := told["versus_first"]:
            print(
                f"{told['system']} against {head['system']}, prompt strict: {_gain(versus['strict'])}"
            )


def show_mt_bench(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the mean ratings of each model, a table each, and how the first differs from the others."""
    for told in found:
        whole = {"category": "all", "mean": told["mean"], "turns": told["turns"]}
        rows = [(c["category"], *map(_rating, (c["mean"], *c["turns"])))
                for c in (whole, *told["categories"])]  # fmt: skip
        title = f"{told['model']}: {told['questions']:,} questions rated by {told['judge']}"
        show_table(title, ("1 to 10 [95 %]", "both turns", "first", "second"), rows)
        for why, count in told["unscored"].items():
            print(f"{count:,} not rated: {why}; in no mean")
        if told["unfinished"]:
            print(f"{told['unfinished']:,} answers did not end")
        if versus := told["versus_first"]:
            low, high = versus["interval"]
            print(f"against {found[0]['model']}: {versus['difference']:+.2f} (95 % {low:+.2f} to "
                  f"{high:+.2f}, {versus['n']:,} questions)")  # fmt: skip


def _rating(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return "-"
    low, high = told["interval"]
    return f"{told['value']:.2f} [{low:.2f}, {high:.2f}]"


def show_harness(found: Mapping[str, Any]) -> None:
    """Print every figure of lm-evaluation-harness, and the paired differences from the first system."""
    rows = [
        (f"{f['task']}, {f['filter']}, {f['metric']}", s["system"], f"{s['value']:.4f}",
         _span(s["interval"], "{:.4f}"), s["n"] or "-", *_to_first(s["versus_first"]))
        for f in found["figures"]
        for s in f["systems"]
    ]  # fmt: skip
    columns = ("figure", "system", "value", "95 %", "documents", "to the first", "95 %")
    show_table(f"lm-evaluation-harness {found['version']}", columns, rows, words=("system",))


def _to_first(versus: Mapping[str, Any] | None) -> tuple[str, str]:
    if versus is None:
        return "-", "-"
    return f"{versus['difference']:+.4f}", _span(versus["interval"], "{:+.4f}")


def _span(interval: Sequence[float] | None, number: str) -> str:
    return "-" if interval is None else " to ".join(number.format(end) for end in interval)


def _share(told: Mapping[str, Any]) -> str:
    value, low, high = (100 * v for v in (told["value"], *told["interval"]))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _gain(told: Mapping[str, Any]) -> str:
    value, low, high = (100 * v for v in (told["difference"], *told["interval"]))
    return f"{value:+.1f} points (95 % {low:+.1f} to {high:+.1f}, {told['n']:,} pairs)"
