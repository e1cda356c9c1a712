"""`pit`: the end of a chain of improvements by the models of a PIT run (Algorithm 2)."""

from __future__ import annotations

from dataclasses import replace

from selfimprove.methods.pit.improve import Improver, Item
from selfimprove.serve.asks import Answer, Ask, Line
from selfimprove.serve.served_models import Models
from selfimprove.serve.ways.drawn import SEED
from selfimprove.types import FinishReason

__all__ = ["pit"]


def pit(models: Models, ask: Ask, line: Line) -> list[Answer]:
    """Answer with the last response of the chain, or the one before a step without gain."""
    items = [Item(ask.key, ask.turns)]
    (chain,) = _improver(models, ask, line).chains(items, stop=ask.improve.stop, seed=SEED)
    best = len(chain.responses) - (2 if chain.ended else 1)
    finish: FinishReason = "stop" if chain.finished[best] else "length"
    told = {"method": "pit", "chain": chain.as_dict()["chain"]}
    return [Answer(chain.responses[best], finish, chain.reasoning[best], told)]


def _improver(models: Models, ask: Ask, line: Line) -> Improver:
    """Return the run's improver as this request asks it."""
    improver, sampling = models.improver, ask.sampling
    assert improver is not None  # `can` has said so
    run, how = improver.config, improver.how.model_copy(update={"steps": ask.improve.steps})
    asked = run.evaluation.model_copy(
        update={"temperature": sampling.temperature, "top_p": sampling.top_p}
    )
    own = {"max_response_tokens": sampling.max_tokens, "evaluation": asked, "engine": models.engine}
    config = run.model_copy(update=own)
    return replace(improver, config=config, how=how, held=models.visit(line))
