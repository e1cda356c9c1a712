"""Improvement at inference from a finished PIT run: prompts in, chains of responses out, as they end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from selfimprove.config import load
from selfimprove.data.formats import rows_of
from selfimprove.data.improvement_prompts import improvement_template, rendered
from selfimprove.data.preference_rows import conversation
from selfimprove.data.row import RowError, optional
from selfimprove.data.tables import records
from selfimprove.errors import ConfigError, DataError
from selfimprove.files import read_json
from selfimprove.judges.gap import GapScorer
from selfimprove.judges.reward_rows import Improved
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.inference import ImproveConfig, wins
from selfimprove.models import finished_model
from selfimprove.sampling.conversation import as_asked, in_words
from selfimprove.sampling.engine import Engine, SamplingConfig, draw_in_order
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.own_words import own_words, spoken
from selfimprove.seeds import seed_of
from selfimprove.training.export import left_the_run
from selfimprove.types import Draw, Message, Prompt

__all__ = ["Chain", "Improver", "Item", "read_items"]

_TOGETHER: Final = 32


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt, and the response that is to be improved where there is one already."""

    id: str
    turns: tuple[Message, ...]
    response: str | None = None

    @classmethod
    def said(cls, id: str, text: str) -> Self:
        """Return a prompt of one turn."""
        return cls(id, (Message("user", text),))


@dataclass(slots=True)
class Chain:
    """The responses to one prompt, y0 first."""

    id: str
    prompt: str
    responses: list[str] = field(default_factory=list)
    finished: list[bool] = field(default_factory=list)
    """Of each response, whether it came to its end."""
    reasoning: list[str] = field(default_factory=list)
    """What the model thought before each response; empty where it did not."""
    gains: list[float | None] = field(default_factory=list)
    """Of each step after y0: its gap, less that of the old response over itself."""
    ended: bool = False
    """The last step did not win, and the chain was to stop there."""

    def as_dict(self) -> dict[str, Any]:
        """Return the chain as JSON data."""
        steps = zip(self.responses, [None, *self.gains], self.finished, self.reasoning, strict=True)
        return {
            "id": self.id,
            "prompt": self.prompt,
            "chain": [
                {"step": k, "response": y, "gap": gain, "finished": done}
                | ({"reasoning": thought} if thought else {})
                for k, (y, gain, done, thought) in enumerate(steps)
            ],
            "response": self.best,
        }

    def add(self, said: Draw) -> None:
        """Go on by a response; where it was cut off, a finished one stays as it is."""
        stays = self.finished[-1:] == [True] and not said.is_finished
        self.responses.append(self.responses[-1] if stays else said.text.strip())
        self.finished.append(stays or said.is_finished)
        self.reasoning.append(said.reasoning)

    @property
    def best(self) -> str:
        """The last response, or the one before a step that did not win."""
        return self.responses[-2] if self.ended else self.responses[-1]


def read_items(path: Path) -> list[Item]:
    """Read prompts, text or turns, from a file; a field `response` is what to improve.

    Raises:
        DataError: the file cannot be read, a row has no prompt, or two rows have one id.
    """
    items: dict[str, Item] = {}
    for number, record in enumerate(records(path, rows_of)):
        if record.fields is None:
            raise DataError(f"{path}, {record.place}: {record.problem}")
        try:
            turns = conversation(record.fields)
            said = optional(record.fields, "response", "completion", "output")
        except RowError as error:
            raise DataError(f"{path}, {record.place}: {error}") from error
        name = optional(record.fields, "id") or str(number)
        if name in items:
            raise DataError(
                f"{path}, {record.place}: the id {name!r} was there before; ids name the prompts in "
                "the output, so give each its own, or none"
            )
        items[name] = Item(name, turns, said or None)
    return list(items.values())


@dataclass(slots=True)
class Improver:
    """The models of a run in memory: M_P, M_PIT and the gap reward."""

    config: PitConfig
    how: ImproveConfig
    policy: Engine
    pit: Engine
    gaps: GapScorer
    _open: ExitStack

    @classmethod
    def of_run(cls, root: Path, overrides: dict[str, Any]) -> Self:
        """Load a finished run; `overrides` are fields of `improve`.

        Raises:
            ConfigError: the folder is no finished PIT run, or an override is unknown.
            EngineError: a model cannot be loaded.
        """
        if not (root / "finished.json").exists():
            raise ConfigError(
                f"{root} is no finished run: give the folder that `selfimprove run` of a PIT recipe "
                "wrote, or run that command again to finish it"
            )
        tree = read_json(root / "recipe.json")
        if tree.get("method") != "pit":
            raise ConfigError(
                f"{root} is a run of {tree.get('method')}; only PIT learns to improve"
            )
        config = load(PitConfig, tree, str(root / "recipe.json"))
        how = load(ImproveConfig, {**config.improve.model_dump(), **overrides}, "overrides")
        trained = config.gap == "trained"
        with ExitStack() as stack:
            policy, pit = (
                stack.enter_context(closing(open_engine(path, config.engine.one_of_several)))
                for path in (left_the_run(root, f"policy-{config.start}"), finished_model(root))
            )
            reward = left_the_run(root, "gap-reward-model" if trained else "reward-model")
            gaps = GapScorer(reward, config.engine, by_difference=not trained)
            return cls(config, how, policy, pit, gaps, stack.pop_all())

    def close(self) -> None:
        """Give the memory of the models back."""
        self._open.close()

    def chains(
        self, items: Iterable[Item], *, stop: bool, seed: int, together: int = _TOGETHER
    ) -> Iterator[Chain]:
        """Yield the chain of each item, `together` at a time; with `stop`, ended where no step wins.

        Raises:
            EngineError: a prompt or response does not fit a model's context.
        """
        waiting = iter(items)
        while some := list(islice(waiting, together)):
            yield from self._improved(some, stop=stop, seed=seed)

    def _improved(self, items: Sequence[Item], *, stop: bool, seed: int) -> list[Chain]:
        chains = [Chain(item.id, in_words(item.turns)) for item in items]
        for chain, y in zip(chains, self._first(items, seed), strict=True):
            chain.add(y)
        turns = {id(chain): item.turns for chain, item in zip(chains, items, strict=True)}
        going = chains
        for step in range(1, self.how.steps + 1):
            going = [chain for chain in going if not chain.ended]
            if going:
                self._step(going, [turns[id(chain)] for chain in going], step, seed)
            for chain in going:
                was_finished, finished = chain.finished[-2:]
                won = wins(chain.gains[-1], self.how.min_gap, finished=finished,
                           was_finished=was_finished)  # fmt: skip
                chain.ended = stop and not won
        return chains

    def _first(self, items: Sequence[Item], seed: int) -> list[Draw]:
        new = [item for item in items if item.response is None]
        evaluation = self.config.evaluation
        sampling = SamplingConfig(temperature=evaluation.temperature, top_p=evaluation.top_p,
                                  max_tokens=self.config.max_response_tokens)  # fmt: skip
        drawn = iter(self._draw(self.policy, {i.id: i.turns for i in new}, sampling, seed))
        return [
            next(drawn)
            if item.response is None
            else spoken(Draw(item.id, 0, item.response, "stop", 0, 0))
            for item in items
        ]

    def _step(
        self, chains: Sequence[Chain], turns: Sequence[tuple[Message, ...]], step: int, seed: int
    ) -> None:
        words = improvement_template(self.config.template)
        old = [chain.responses[-1] for chain in chains]
        asked = {
            chain.id: rendered(words, x, y) for chain, x, y in zip(chains, turns, old, strict=True)
        }
        sampling = self.how.sampling(step, self.config.max_response_tokens)
        drawn = self._draw(self.pit, asked, sampling, seed_of(seed, "improve", step))
        for chain, said in zip(chains, drawn, strict=True):
            chain.add(said)
        rows = [_over_the_old(chain, x) for chain, x in zip(chains, turns, strict=True)]
        for chain, gain in zip(chains, self.gaps.gains(rows), strict=True):
            chain.gains.append(gain.won)

    def _draw(
        self,
        engine: Engine,
        turns: Mapping[str, tuple[Message, ...]],
        sampling: SamplingConfig,
        seed: int,
    ) -> list[Draw]:
        chat = self.config.engine.chat
        prompts = [Prompt(id, as_asked(t, chat=chat)) for id, t in turns.items()]
        return [own_words(draw) for draw in draw_in_order(engine, prompts, sampling, seed=seed)]


def _over_the_old(chain: Chain, turns: tuple[Message, ...]) -> Improved:
    """Return what R_PIT reads: the last response over the one before it."""
    old, new = chain.responses[-2:]
    was_finished, finished = chain.finished[-2:]
    return Improved(chain.id, 0, turns, new, old, finished, was_finished)
