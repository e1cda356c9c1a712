"""Keeps in one file what several seeds of one recipe came to, and compares their systems over all seeds.

    python benchmarks/seeds_together.py RUN ... --commit COMMIT --out OUT [--pairs FIRST:SECOND ...] [--note NOTE]

Every RUN is a finished run of the tiny world, of the same recipe but for its seed. Kept are the recipe,
what each step cost, and the summaries but for texts and what no table quotes, five digits behind the
point. Of Self-Rewarding and PIT the comparisons of the runs, and the pairs named, are counted once more
over the matches of all seeds: their intervals are over prompts, each with the draws of every seed; of
other seeds they say nothing. COMMIT is that of the code which made the runs, NOTE how they were made.
Called on their machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

from machine import hardware

# isort: split
from finished_alone import Judged, judged

from selfimprove.evaluation.head_to_head import head_to_head, matches
from selfimprove.evaluation.meetings import outcomes_of
from selfimprove.tiny.instructions import CRITERIA
from selfimprove.tiny.keeps.oracle import is_asked, right_parts
from selfimprove.tiny.keeps.world import PARTS
from selfimprove.tiny.oracle import verdicts
from selfimprove.types import Outcome

_OF_A_SUMMARY: Final = ("headline", "arms", "calibration", "gate", "pairs", "collapse", "gap_models",
                        "improvement_temperatures", "chains", "reference_use", "reads_reference", "ablations")  # fmt: skip
_OF_A_CARD: Final = ("arm", "set", "pairwise_accuracy", "parse_rate")
_OF_A_MATCH: Final = ("n", "wins", "ties", "losses", "decided_rate", "decided_interval",
                      "length_controlled", "length_controlled_interval")  # fmt: skip
_LEFT_OUT: Final = {"tried", "by_difference", "contrasts", "calibration_error", "score_histogram", "judge",
                    "win_rate", "win_rate_interval", "standard_error", "first_length", "second_length",
                    "antisymmetry", "antisymmetry_centred", "sign_agreement", "unscored", "step",
                    "sign_agreement_centred", "means", "kind", "unanswered", "examples"}  # fmt: skip


def together(runs: Sequence[Path], pairs: Collection[tuple[str, str]]) -> dict[str, Any]:
    """Return what is kept of the runs, by seed, and their comparisons over all seeds."""
    summaries = [_read(run / "summary.json") for run in runs]
    met = {(m["first"], m["second"]) for s in summaries for m in s.get("head_to_head", ())}
    arms = [
        {arm["name"]: judged(run, arm["name"]) for arm in told["arms"] if met}
        for run, told in zip(runs, summaries, strict=True)
    ]
    return {
        "seeds": {str(told["seed"]): _of_a_run(run, told) for run, told in
                  zip(runs, summaries, strict=True)},
        **({"comparisons": [compared(arms, *pair) for pair in sorted(met | set(pairs))],
            "criteria_met": [{name: _met(arm) for name, arm in one.items()} for one in arms]}
           if met else {}),
    }  # fmt: skip


def _of_a_run(run: Path, told: dict[str, Any]) -> dict[str, Any]:
    done = {file.parent.name: _read(file) for file in run.glob("*/done.json")}
    cards = [{name: card[name] for name in _OF_A_CARD} for card in told.get("judge_cards", ())]
    return {
        "seconds": sum(step["seconds"] for step in done.values()),
        "steps_of_four_seconds_and_more": {
            name: step["seconds"] for name, step in sorted(done.items()) if step["seconds"] >= 4
        },
        "summary": {name: told[name] for name in _OF_A_SUMMARY if name in told}
        | ({"judge_cards": cards} if cards else {}),
    }


def compared(arms: Sequence[dict[str, Judged]], first: str, second: str) -> dict[str, Any]:
    """Compare two systems in each seed, and over the matches of all."""
    found = [_outcomes(one[first], one[second]) for one in arms if first in one and second in one]
    counts = [_counted(outcomes, first, second) for outcomes in found]
    over_all = _counted([outcome for outcomes in found for outcome in outcomes], first, second)
    return {"first": first, "second": second, "by_seed": counts, "all": over_all}


def _outcomes(ours: Judged, theirs: Judged) -> list[Outcome]:
    return outcomes_of(matches(ours.responses, theirs.responses), ours.scores, theirs.scores)


def _counted(outcomes: Sequence[Outcome], first: str, second: str) -> dict[str, Any]:
    told = head_to_head(outcomes, first=first, second=second, judge="", set="").as_dict()
    return {name: told[name] for name in _OF_A_MATCH}


def _met(arm: Judged) -> dict[str, float]:
    """Return the share of responses that meet each criterion of the tiny world, or of parts that are right."""
    asked = [(response.prompt, response.text) for response in arm.responses]
    if is_asked(asked[0][0]):
        return {"right parts": sum(len(right_parts(*one)) for one in asked) / len(asked) / PARTS}
    found = [verdicts(*one) for one in asked]
    return {name: sum(one[name] for one in found) / len(found) for name in CRITERIA}


def _read(file: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return told


def _short(told: dict[str, Any]) -> dict[str, Any]:
    """Return a result without what no table quotes, five digits behind the point."""
    short: dict[str, Any] = json.loads(
        json.dumps(told),
        object_hook=lambda one: {k: v for k, v in one.items() if k not in _LEFT_OUT},
        parse_float=lambda digits: round(float(digits), 5),
    )
    return short


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--commit", required=True, help="of the code that made the runs")
    parser.add_argument("--out", type=Path, required=True, help="the .json file that is written")
    parser.add_argument("--pairs", nargs="*", default=[], help="FIRST:SECOND, beside the runs' own")
    parser.add_argument("--note", default="", help="how the runs were made")
    chosen = parser.parse_args()
    pairs = [(first, second) for first, _, second in (p.partition(":") for p in chosen.pairs)]
    steps = [_read(file) for run in chosen.runs for file in run.glob("*/done.json")]
    kept = {
        "note": chosen.note,
        "commit": chosen.commit,
        "date": max(step["finished"] for step in steps)[: len("2026-01-01")],
        "machine": hardware(),
        "versions": steps[0]["versions"],
        "recipe": _read(chosen.runs[0] / "recipe.json"),
        "result": _short(together(chosen.runs, pairs)),
    }
    chosen.out.write_text(json.dumps(kept) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
