"""`none`: a request is answered as it is asked, and told as it is drawn where the client reads along."""

from __future__ import annotations

from selfimprove.sampling.conversation import as_asked
from selfimprove.sampling.own_words import own_words, spoken
from selfimprove.serve.asks import Answer, Ask, Line
from selfimprove.serve.house import Asked
from selfimprove.serve.served_models import Models
from selfimprove.serve.unfolding import Unfolding
from selfimprove.serve.ways.drawn import SEED
from selfimprove.types import Draw, Prompt

__all__ = ["plain"]


def plain(models: Models, ask: Ask, line: Line) -> list[Answer]:
    """Draw as many responses as were asked for."""
    turns = ask.prompt
    asked = turns if isinstance(turns, str) else as_asked(turns, chat=models.engine.chat)
    engine = models.visit(line).engine(models.policy, models.engine)
    draws = sorted(_draws(engine, Prompt(ask.key, asked), ask, line), key=lambda d: d.index)
    return [Answer(d.text, d.finish, d.reasoning) for d in draws]


def _draws(engine: Asked, prompt: Prompt, ask: Ask, line: Line) -> list[Draw]:
    tell, found = line.tell, []
    unfolding = [Unfolding(i, ask.sampling.stop) for i in range(ask.sampling.n)]
    for event in engine.events([prompt], ask.sampling, seed=SEED, watched=tell is not None):
        of = unfolding[event.index]
        if isinstance(event, Draw):
            found.append(own_words(spoken(event)))
            piece = of.rest(found[-1])
        else:
            piece = of.more(event)
        if tell is not None and piece is not None:
            tell(piece)
    return found
