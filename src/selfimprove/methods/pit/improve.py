"""Improvement at inference from a finished PIT run: prompts in, chains of responses out, as they end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from selfimprove.config import load
from selfimprove.data.formats import rows_of
from selfimprove.data.preference_rows import conversation
from selfimprove.data.row import RowError, optional
from selfimprove.data.tables import records
from selfimprove.errors import ConfigError, DataError
from selfimprove.files import read_json
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.inference import Conversation, ImproveConfig, improve, requests, wins
from selfimprove.models import finished_model
from selfimprove.remote import here, told
from selfimprove.rows import Rows
from selfimprove.sampling.conversation import in_words
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.own_words import spoken
from selfimprove.sampling.responses import answer
from selfimprove.sampling.served import Held, Several
from selfimprove.store import Unstored
from selfimprove.training.export import left_the_run
from selfimprove.types import Draw, Message, ModelRef, Response

__all__ = ["Chain", "Improver", "Item", "read_items"]

_TOGETHER: Final = 32

T = TypeVar("T")


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

    def add(self, said: Response) -> None:
        """Go on by a response."""
        self.responses.append(said.text)
        self.finished.append(said.is_finished)
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


@dataclass(frozen=True, slots=True)
class Improver:
    """The models of a run in memory: M_P, M_PIT and the gap reward."""

    config: PitConfig
    how: ImproveConfig
    policy: ModelRef
    pit: ModelRef
    gap: ModelRef
    """R_PIT; or R_P, whose differences are the gaps."""
    held: Held = field(default_factory=Several)

    @classmethod
    def of_run(cls, root: Path, overrides: dict[str, Any]) -> Self:
        """Find the models of a finished run; `overrides` are fields of `improve`.

        Raises:
            ConfigError: the folder is no finished PIT run, or an override is unknown.
        """
        root = here(root)
        if not (root / "finished.json").exists():
            raise ConfigError(
                f"{told(root)} is no finished run: give the folder that `selfimprove run` of a PIT recipe "
                "wrote, or run that command again to finish it"
            )
        tree = read_json(root / "recipe.json")
        if tree.get("method") != "pit":
            raise ConfigError(
                f"{told(root)} is a run of {tree.get('method')}; only PIT learns to improve"
            )
        config = load(PitConfig, tree, str(root / "recipe.json"))
        how = load(ImproveConfig, {**config.improve.model_dump(), **overrides}, "overrides")
        reward = "gap-reward-model" if config.gap == "trained" else "reward-model"
        policy, pit, gap = (
            ModelRef(path.parent.name, str(path), "")
            for path in (left_the_run(root, f"policy-{config.start}"), finished_model(root),
                         left_the_run(root, reward))
        )  # fmt: skip
        return cls(config, how, policy, pit, gap)

    def close(self) -> None:
        """Give the memory of the models back."""
        self.held.free()

    def chains(
        self, items: Iterable[Item], *, stop: bool, seed: int, together: int = _TOGETHER
    ) -> Iterator[Chain]:
        """Yield the chain of each item, `together` at a time; with `stop`, ended where no step wins.

        Raises:
            EngineError: a model cannot be loaded, or a prompt or response does not fit its context.
        """
        steps = Unstored(engine=self.config.engine.one_of_several, seed=seed, held=self.held)
        waiting = iter(items)
        while some := list(islice(waiting, together)):
            yield from self._improved(steps, some, stop=stop)

    def _improved(self, steps: Unstored, items: Sequence[Item], *, stop: bool) -> list[Chain]:
        chains = {item.id: Chain(item.id, in_words(item.turns)) for item in items}
        conversations = {item.id: Conversation(item.id, item.turns) for item in items}
        going = self._first(steps, items)
        for response in going:
            chains[response.prompt_id].add(response)
        for number in range(1, self.how.steps + 1):
            if not going:
                break
            before = {r.prompt_id: r.is_finished for r in going}
            (link,) = improve(
                steps, "improve", _rows([conversations[r.prompt_id] for r in going]), _rows(going),
                self.pit, self.gap, self.how.model_copy(update={"steps": 1}), self.config.template,
                max_tokens=self.config.max_response_tokens, first=number, shard_items=len(going),
                by_difference=self.config.gap != "trained",
            )  # fmt: skip
            for response, gain in zip(link.responses, link.gains, strict=True):
                chain = chains[response.prompt_id]
                chain.add(response)
                chain.gains.append(gain.won)
                won = wins(gain.won, self.how.min_gap, finished=response.is_finished,
                           was_finished=before[response.prompt_id])  # fmt: skip
                chain.ended = stop and not won
            going = [r for r in link.responses if not chains[r.prompt_id].ended]
        return list(chains.values())

    def _first(self, steps: Unstored, items: Sequence[Item]) -> list[Response]:
        """Return y_0 of each item: what is given, or what M_P responds."""
        asked = self.config.evaluation
        sampling = SamplingConfig(temperature=asked.temperature, top_p=asked.top_p,
                                  max_tokens=self.config.max_response_tokens)  # fmt: skip
        new = requests([Conversation(i.id, i.turns) for i in items if i.response is None])
        drawn = iter(steps.sharded("first", answer, new, steps.asks(self.policy), sampling,
                                   steps.seed, shard_items=max(len(new), 1)))  # fmt: skip
        return [next(drawn) if item.response is None else _given(item) for item in items]


def _given(item: Item) -> Response:
    """Return a response that is to be improved, its reasoning parted from it."""
    said = spoken(Draw(item.id, 0, item.response or "", "stop", 0, 0))
    return Response(
        item.id, in_words(item.turns), 0, said.text.strip(), said.finish, 0, said.reasoning
    )


def _rows(items: Sequence[T]) -> Rows[T]:
    return Rows(tuple(items), "", Path())
