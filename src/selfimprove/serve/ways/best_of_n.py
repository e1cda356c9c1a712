"""`best_of_n`: the best of n responses, by the run's reward model, or by the model's own judgement."""

from __future__ import annotations

from collections.abc import Sequence

from selfimprove.judges.gap import reward_scores
from selfimprove.judges.judge import judge, mean_scores
from selfimprove.judges.reward_rows import Scored
from selfimprove.methods.pit.baselines import best_places, candidates
from selfimprove.methods.pit.inference import Conversation
from selfimprove.serve.asks import Answer, Ask, Line
from selfimprove.serve.served_models import Models
from selfimprove.serve.ways.drawn import SEED, chosen, drawn
from selfimprove.store import Run
from selfimprove.types import Response

__all__ = ["best_of_n"]


def best_of_n(models: Models, ask: Ask, line: Line) -> list[Answer]:
    """Draw n responses, score each, and answer with the best; of equals the first."""
    steps, n = models.steps(line), ask.improve.n
    of = drawn(steps, models, ask, n)
    scores = _scores(steps, models, ask, of)
    (best,) = best_places(of, scores, n).values()
    by = "reward model" if models.reward is not None else "its own judgement"
    told = {"method": "best_of_n", "by": by, "n": n, "scores": [s.score for s in scores],
            "chosen": best}  # fmt: skip
    return chosen(of, best, told)


def _scores(steps: Run, models: Models, ask: Ask, of: Sequence[Response]) -> list[Scored]:
    most = len(of)
    if models.reward is not None:
        told, by = candidates([Conversation(ask.key, ask.turns)], of), steps.asks(models.reward)
        return list(steps.sharded("scores", reward_scores, told, by, shard_items=most))
    # Whatever gets no score loses against what gets one; it fails nobody's request.
    how, by = models.judge.model_copy(update={"max_unscored": 1.0}), steps.asks(models.policy)
    found = mean_scores(steps.sharded("verdicts", judge, of, by, how, SEED, shard_items=most))
    return [Scored(r.prompt_id, r.index, found.get((r.prompt_id, r.index)), None) for r in of]
