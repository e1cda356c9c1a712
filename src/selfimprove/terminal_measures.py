"""What `eval` and `compare` print of systems that were measured as the field measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfimprove.terminal import headline, show_facts, show_table

__all__ = ["show_head_to_head", "show_standings"]


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
    if (ratings := found["ratings"]) is None:
        print("no systems met under a judge: there are no ratings")
        return
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
    rows = [
        (f"{m['first']} against {m['second']}", f"{m['win_rate']:.1%}",
         f"{m['standard_error'] or 0:.1%}", _equal(m), f"{m['n']:,}", f"{m['unscored']:,}")
        for m in found["head_to_head"]
    ]  # fmt: skip
    columns = ("matches", "won", "std. error", "at equal length", "judged", "not judged")
    show_table("win rates, ties half", columns, rows)


def _equal(match: Mapping[str, Any]) -> str:
    published = match.get("alpaca_eval_2")
    if published:
        return f"{published['win_rate']:.1%} (AlpacaEval 2)"
    rate = match["length_controlled"]
    return "-" if rate is None else f"{rate:.1%}"
