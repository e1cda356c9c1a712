"""Compares a run's systems once more, among the answers alone that came to their end.

    python benchmarks/finished_alone.py RUN [FIRST:SECOND ...] [--reward FILE] [--json OUT]

RUN is a finished run of Self-Rewarding or PIT whose judge gives points. By the rule of `unfinished` an
answer that was cut off loses to a finished one, and two of them tie: so the models' lengths have a say in
every comparison. Kept are those of the run and the pairs named, by all matches and by those of two finished
answers, and how many each system had cut off. FILE, `reward.json` of the reward model that judged,
is kept beside them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from machine import keep

# isort: split
from selfimprove.evaluation.head_to_head import head_to_head, matches
from selfimprove.evaluation.intervals import paired
from selfimprove.evaluation.meetings import outcomes_of
from selfimprove.judges.judge import mean_scores
from selfimprove.rows import decode
from selfimprove.types import Response, Verdict


class Judged(NamedTuple):
    """What a system answered, and what its answers are worth to the judge."""

    responses: list[Response]
    scores: dict[tuple[str, int], float]

    @property
    def finished(self) -> dict[tuple[str, int], Response]:
        return {(r.prompt_id, r.index): r for r in self.responses if r.is_finished}


def judged(run: Path, name: str) -> Judged:
    """Read a system's answers and scores: Self-Rewarding calls them truth, PIT verdicts."""
    by = next(s for s in ("truth", "verdicts") if (run / f"{name}-{s}").is_dir())
    return Judged(_rows(run / f"{name}-responses", Response),
                  mean_scores(_rows(run / f"{name}-{by}", Verdict)))  # fmt: skip


def _rows(step: Path, row_type: type[Any]) -> list[Any]:
    return [row for shard in sorted(step.glob("*.parquet")) for row in decode(shard, row_type)]


def compared(run: Path, first: str, second: str) -> dict[str, Any]:
    """Compare two systems by all their matches, and by those of two finished answers."""
    ours, theirs = judged(run, first), judged(run, second)
    both = [key for key in ours.finished if key in theirs.finished]
    ended = paired([theirs.scores[key] for key in both], [ours.scores[key] for key in both])
    return {
        "first": first,
        "second": second,
        "all": _met(first, second, ours, theirs),
        "finished": {
            **_met(first, second, ours._replace(responses=[ours.finished[key] for key in both]),
                   theirs._replace(responses=[theirs.finished[key] for key in both])),
            "mean_score_difference": ended.difference,
            "mean_score_difference_interval": [ended.low, ended.high],
        },
    }  # fmt: skip


def _met(first: str, second: str, ours: Judged, theirs: Judged) -> dict[str, Any]:
    met = outcomes_of(matches(ours.responses, theirs.responses), ours.scores, theirs.scores)
    told = head_to_head(met, first=first, second=second, judge="", set="").as_dict()
    return {name: told[name] for name in (
        "n", "wins", "ties", "losses", "decided_rate", "decided_interval", "length_controlled",
        "length_controlled_interval", "first_length", "second_length")}  # fmt: skip


def main() -> None:
    """Read, compare and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("pairs", nargs="*", help="FIRST:SECOND, beside those of the run")
    parser.add_argument("--reward", type=Path, help="reward.json of the model that judged")
    parser.add_argument("--json", type=Path, help="keep the result in this .json file")
    chosen = parser.parse_args()
    summary = json.loads((chosen.run / "summary.json").read_text())
    pairs = [(met["first"], met["second"]) for met in summary["head_to_head"]]
    pairs += [tuple(named.split(":")) for named in chosen.pairs]
    arms = {arm["name"]: judged(chosen.run, arm["name"]) for arm in summary["arms"]}
    keep({
        "cut_off": {name: len(a.responses) - len(a.finished) for name, a in arms.items()},
        "of": {name: len(a.responses) for name, a in arms.items()},
        "comparisons": [compared(chosen.run, first, second) for first, second in pairs],
        **({"reward_model": json.loads(chosen.reward.read_text())} if chosen.reward else {}),
    }, chosen.json)  # fmt: skip


if __name__ == "__main__":
    main()
