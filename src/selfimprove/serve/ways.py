"""Ways to a better response: what a batch of requests goes through before it is answered.

Each is made of the steps that runs are made of, on models that stay in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, TypeVar, final

from selfimprove.answers.answers import extract, vote
from selfimprove.config import load
from selfimprove.errors import ConfigError
from selfimprove.files import read_json
from selfimprove.judges.gap import reward_scores
from selfimprove.judges.judge import judge, mean_scores
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.reward_rows import Scored
from selfimprove.methods.pit.baselines import BaselinesConfig, best_of_each, candidates, self_refine
from selfimprove.methods.pit.improve import Improver, Item
from selfimprove.methods.pit.inference import Conversation
from selfimprove.models import finished_model, locate
from selfimprove.remote import here, told
from selfimprove.rows import Rows
from selfimprove.sampling.conversation import as_asked, in_words
from selfimprove.sampling.engine import (
    Engine,
    EngineConfig,
    SamplingConfig,
    ServerConfig,
    draw_in_order,
)
from selfimprove.sampling.own_words import own_words
from selfimprove.sampling.responses import answer
from selfimprove.sampling.served import Several
from selfimprove.serve.protocol import Improve
from selfimprove.store import Unstored
from selfimprove.training.export import left_the_run
from selfimprove.types import FinishReason, Message, ModelRef, Prompt, Request, Response

__all__ = ["Answer", "Ask", "Models", "answered"]

S = TypeVar("S")

_OWN: Final = JudgeConfig(votes=1)
_SEED: Final = 0  # what is random is said by a request's key


@dataclass(frozen=True, slots=True)
class Ask:
    """One choice that a client wants, or several where nothing is improved."""

    key: str
    """Names its randomness; no two of a batch share one."""
    prompt: tuple[Message, ...] | str
    """Turns, or text that is continued as it stands."""
    sampling: SamplingConfig
    improve: Improve

    @property
    def kind(self) -> tuple[SamplingConfig, Improve, bool]:
        """What requests must share that are answered together."""
        return self.sampling, self.improve, isinstance(self.prompt, str)


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice."""

    text: str
    finish: FinishReason
    tokens: int
    """Sampled for it, all that it took."""
    prompt_tokens: int = 0
    reasoning: str = ""
    told: Mapping[str, Any] | None = None
    """What improving it came by: the chain and its gaps, the votes, the scores."""


@final
class Kept:
    """Holds every model for as long as the server runs: a prompt that fails unloads nothing."""

    def __init__(self) -> None:
        self._held = Several()

    def engine(self, model: ModelRef, config: EngineConfig) -> Engine:
        """Return the model's engine, loaded once."""
        return self._held.engine(model, config)

    def scorer(
        self, model: ModelRef, config: EngineConfig, load: Callable[[Path, EngineConfig], S]
    ) -> S:
        """Return what `load` makes of a model that scores, loaded once."""
        return self._held.scorer(model, config, load)

    def free(self) -> None:
        """Keep them."""

    def close(self) -> None:
        """Give their memory back."""
        self._held.free()


@final
@dataclass(frozen=True)
class Models:
    """What is served, in memory from the first request on."""

    name: str
    """By which clients know it."""
    policy: ModelRef
    engine: EngineConfig
    improver: Improver | None = None
    """Of a PIT run."""
    reward: ModelRef | None = None
    """R_P of a PIT run."""
    judge: JudgeConfig = field(default_factory=lambda: _OWN)
    """By which a model without a reward model judges its own responses."""
    held: Kept = field(default_factory=Kept)

    @classmethod
    def of(cls, name: str, engine: Mapping[str, Any], upstream: str | None = None) -> Self:
        """Find a model, or the models of a finished run.

        Args:
            name: of a model, or the folder of a run.
            engine: fields of `EngineConfig` laid over the run's, or the defaults.
            upstream: URL of a server that holds the model under this name; it draws then.

        Raises:
            ConfigError: a field is unknown, or the run is not finished.
            EngineError: there is no such model.
        """
        root = here(name) if upstream is None else Path(name)
        if upstream is not None:
            server = ServerConfig(url=upstream, model=name)
            how = load(
                EngineConfig, {"kind": "server", "server": server, "chat": True, **engine}, "engine"
            )
            return cls(name, ModelRef(name, name, ""), how)
        if (root / "recipe.json").is_file():
            return cls._of_run(root, engine)
        model = locate(name)
        how = load(EngineConfig, {"chat": _chats(model), **engine}, "engine")
        return cls(root.name or name, model, how)

    @classmethod
    def _of_run(cls, root: Path, engine: Mapping[str, Any]) -> Self:
        if not (root / "finished.json").is_file():
            raise ConfigError(
                f"{told(root)} is a run that has not finished: run its recipe to the end, or serve a model within it"
            )
        tree = read_json(root / "recipe.json")
        how = load(EngineConfig, {**tree["engine"], **engine}, "engine").one_of_several
        last = finished_model(root)
        if tree["method"] != "pit":
            own = tree.get("judge")
            by = load(JudgeConfig, own, "judge") if own and own["kind"] == "rubric" else _OWN
            named = ModelRef(root.name, str(last), "")
            return cls(root.name, named, how, judge=by)
        improver = Improver.of_run(root, {})
        plain = ModelRef(root.name, str(left_the_run(root, "reward-model")), "")
        return cls(root.name, improver.policy, how, improver, plain)

    @cached_property
    def context(self) -> int:
        """Tokens that the model reads, prompt and response; of a server elsewhere it is not known."""
        if self.engine.server is not None and self.engine.server.url:
            return sys.maxsize
        from transformers import AutoConfig

        from selfimprove.sampling.loading import context_length

        config = AutoConfig.from_pretrained(self.policy.path, local_files_only=True)
        return context_length(config) or sys.maxsize

    def can(self, improve: Improve) -> str | None:
        """Return why a way cannot be gone with these models; None: it can."""
        if improve.method == "pit" and self.improver is None:
            return "improve.method pit needs a finished PIT run: selfimprove serve runs/MY-PIT-RUN"
        return None

    def close(self) -> None:
        """Give the models' memory back."""
        self.held.close()

    @property
    def steps(self) -> Unstored:
        """Makes steps that nothing is stored of."""
        return Unstored(engine=self.engine, held=self.held)


def answered(models: Models, asks: Sequence[Ask]) -> list[list[Answer]]:
    """Answer requests of one kind together; each gets its choices.

    Raises:
        EngineError: a prompt does not fit the model's context.
    """
    way: Callable[[Models, Sequence[Ask]], list[list[Answer]]] = _WAYS[asks[0].improve.method]
    return way(models, asks)


def _plain(models: Models, asks: Sequence[Ask]) -> list[list[Answer]]:
    """Draw `n` responses to each."""
    served, how = models.steps.asks(models.policy), asks[0].sampling
    prompts = [
        Prompt(
            a.key, a.prompt if isinstance(a.prompt, str) else as_asked(a.prompt, chat=served.chat)
        )
        for a in asks
    ]
    with served.open() as engine:
        draws = [own_words(d) for d in draw_in_order(engine, prompts, how, seed=_SEED)]
    told = [Answer(d.text, d.finish, d.new_tokens, d.prompt_tokens, d.reasoning) for d in draws]
    return [told[i : i + how.n] for i in range(0, len(told), how.n)]


def _drawn(models: Models, asks: Sequence[Ask], n: int) -> list[list[Response]]:
    """Draw n responses to each conversation."""
    requests = [Request(a.key, in_words(_turns(a)), 0, _turns(a)) for a in asks]
    how = asks[0].sampling.model_copy(update={"n": n})
    drawn = models.steps.sharded("served", answer, requests, models.steps.asks(models.policy), how,
                                 _SEED, shard_items=len(requests))  # fmt: skip
    return [list(drawn.items[i : i + n]) for i in range(0, len(drawn), n)]


def _vote(models: Models, asks: Sequence[Ask]) -> list[list[Answer]]:
    """Answer with the first response that agrees with the majority answer (LMSI, Sec. 3.1)."""
    improve = asks[0].improve
    return [[_voted(drawn, improve)] for drawn in _drawn(models, asks, improve.n)]


def _voted(drawn: Sequence[Response], improve: Improve) -> Answer:
    answers = [extract(r.text, improve.answer_type, lenient=True) for r in drawn]
    found = vote(answers, improve.answer_type)
    place = next((i for i in found.members if drawn[i].is_finished), None)
    if place is None:
        place = next((i for i in (*found.members, *range(len(drawn)))), 0)
    told = {"method": "vote", "answer": found.answer, "confidence": found.confidence,
            "votes": [{"answer": c.answer, "votes": c.votes} for c in found.classes], "n": len(drawn)}  # fmt: skip
    return _chosen(drawn, place, told)


def _best_of_n(models: Models, asks: Sequence[Ask]) -> list[list[Answer]]:
    """Answer with the best of n by the reward model, or by the model's own judgement."""
    n = asks[0].improve.n
    drawn = _drawn(models, asks, n)
    every = [r for of_one in drawn for r in of_one]
    scores = _scores(models, asks, every)
    known = {(s.prompt_id, s.index): s.score for s in scores}
    best = {r.prompt_id: r.text for r in best_of_each(every, scores, n)}
    by = "reward model" if models.reward is not None else "its own judgement"
    return [
        [
            _chosen(
                of_one,
                next(i for i, r in enumerate(of_one) if r.text == best[ask.key]),
                {"method": "best_of_n", "by": by, "n": n,
                 "scores": [known[ask.key, r.index] for r in of_one]},
            )
        ]
        for ask, of_one in zip(asks, drawn, strict=True)
    ]  # fmt: skip


def _scores(models: Models, asks: Sequence[Ask], drawn: Sequence[Response]) -> list[Scored]:
    steps, most = models.steps, len(drawn)
    if models.reward is not None:
        told = candidates([Conversation(a.key, _turns(a)) for a in asks], drawn)
        return list(
            steps.sharded(
                "scores", reward_scores, told, steps.asks(models.reward), shard_items=most
            )
        )
    how = models.judge.model_copy(update={"max_unscored": 1.0})
    given = steps.sharded(
        "verdicts", judge, drawn, steps.asks(models.policy), how, _SEED, shard_items=most
    )
    found = mean_scores(given)
    return [Scored(r.prompt_id, r.index, found.get((r.prompt_id, r.index)), None) for r in drawn]


def _self_refine(models: Models, asks: Sequence[Ask]) -> list[list[Answer]]:
    """Answer with the last of several rounds of feedback and refinement (Madaan et al. 2023)."""
    ask = asks[0]
    start = Rows(tuple(r for (r,) in _drawn(models, asks, 1)), "", Path())
    spoken = Rows(tuple(Conversation(a.key, _turns(a)) for a in asks), "", Path())
    config = BaselinesConfig(self_refine=ask.improve.steps)
    rounds = self_refine(models.steps, spoken, start, models.policy, config, ask.sampling,
                         shard_items=len(asks))  # fmt: skip
    chains = zip(start, *rounds, strict=True)
    return [
        [
            _chosen(
                chain, len(chain) - 1, {"method": "self_refine", "chain": [r.text for r in chain]}
            )
        ]
        for chain in chains
    ]


def _pit(models: Models, asks: Sequence[Ask]) -> list[list[Answer]]:
    """Answer with the end of a chain of improvements (PIT, Algorithm 2)."""
    improver, first = models.improver, asks[0]
    assert improver is not None  # `can` has said so
    improve, sampling = first.improve, first.sampling
    how = improver.how.model_copy(update={"steps": improve.steps})
    asked = improver.config.evaluation.model_copy(
        update={"temperature": sampling.temperature, "top_p": sampling.top_p}
    )
    config = improver.config.model_copy(
        update={
            "max_response_tokens": sampling.max_tokens,
            "evaluation": asked,
            "engine": models.engine,
        }
    )
    served = Improver(config, how, improver.policy, improver.pit, improver.gap, models.held)
    items = [Item(a.key, _turns(a)) for a in asks]
    chains = served.chains(items, stop=improve.stop, seed=_SEED, together=len(items))
    told = []
    for chain in chains:
        best = len(chain.responses) - (2 if chain.ended else 1)
        finish: FinishReason = "stop" if chain.finished[best] else "length"
        steps = chain.as_dict()["chain"]
        told.append([Answer(chain.responses[best], finish, 0, 0, chain.reasoning[best],
                            {"method": "pit", "chain": steps})])  # fmt: skip
    return told


def _chosen(drawn: Sequence[Response], place: int, told: Mapping[str, Any]) -> Answer:
    chosen, tokens = drawn[place], sum(r.new_tokens for r in drawn)
    return Answer(chosen.text, chosen.finish, tokens, 0, chosen.reasoning, told)


def _turns(ask: Ask) -> tuple[Message, ...]:
    return (Message("user", ask.prompt),) if isinstance(ask.prompt, str) else ask.prompt


def _chats(model: ModelRef) -> bool:
    from selfimprove.sampling.loading import load_tokenizer

    return bool(load_tokenizer(Path(model.path)).chat_template)


_WAYS: Final = {
    "none": _plain,
    "vote": _vote,
    "best_of_n": _best_of_n,
    "self_refine": _self_refine,
    "pit": _pit,
}
