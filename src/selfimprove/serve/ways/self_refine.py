"""`self_refine`: rounds of feedback and refinement by prompting (Madaan et al. 2023)."""

from __future__ import annotations

from pathlib import Path

from selfimprove.methods.pit import baselines
from selfimprove.methods.pit.baselines import BaselinesConfig
from selfimprove.methods.pit.inference import Conversation
from selfimprove.rows import Rows
from selfimprove.serve.asks import Answer, Ask, Line
from selfimprove.serve.served_models import Models
from selfimprove.serve.ways.drawn import chosen, drawn

__all__ = ["self_refine"]


def self_refine(models: Models, ask: Ask, line: Line) -> list[Answer]:
    """Answer with the response of the last round."""
    steps = models.steps(line)
    start = Rows(tuple(drawn(steps, models, ask, 1)), "", Path())
    spoken = Rows((Conversation(ask.key, ask.turns),), "", Path())
    config = BaselinesConfig(self_refine=ask.improve.steps)
    rounds = baselines.self_refine(
        steps, spoken, start, models.policy, config, ask.sampling, shard_items=1
    )
    chain = [response for (response,) in (start, *rounds)]
    told = {"method": "self_refine", "chain": [r.text for r in chain]}
    return chosen(chain, len(chain) - 1, told)
