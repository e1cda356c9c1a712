"""The systems of a PIT run on held-out prompts: the chain, what it began with, baselines, ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from selfimprove.evaluation.intervals import mean
from selfimprove.evaluation.pit_board import PitBoard
from selfimprove.evaluation.summary import ArmKind
from selfimprove.methods.pit.baselines import best_of_n, candidates, self_refine
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.held_out import HeldOut
from selfimprove.methods.pit.inference import (
    Conversation,
    ImproveConfig,
    Link,
    improve,
    requests,
    stopped,
    wins,
)
from selfimprove.methods.pit.reference import By, reference_use, reference_use_of_arm
from selfimprove.rows import Rows
from selfimprove.sampling.responses import answer
from selfimprove.seeds import seed_of
from selfimprove.store import Run
from selfimprove.training.export import Export
from selfimprove.types import ModelRef, Request, Response

__all__ = ["Ablated", "Models", "measure"]


class Ablated(NamedTuple):
    """M_PIT of one arm."""

    pit: ModelRef
    gap: ModelRef | None = None
    """R_PIT, where the arm learned by one of its own."""


@dataclass(frozen=True, slots=True)
class Models:
    """Everything that a run has trained."""

    policy_sft: ModelRef
    policy: ModelRef
    """M_P after RL."""
    pit_sft: ModelRef
    pit: ModelRef
    """M_PIT after RL."""
    reward: ModelRef
    gap: ModelRef
    ablated: dict[str, Ablated]
    """M_PIT as it would be without a part of the method, or with another, by name."""

    def leaving(self, export: Export) -> Models:
        """Return them as they leave the run."""
        return Models(
            policy_sft=export("policy-sft", self.policy_sft),
            policy=export("policy-rl", self.policy),
            pit_sft=export("pit-sft", self.pit_sft),
            pit=export("pit", self.pit),
            reward=export("reward-model", self.reward),
            gap=export("gap-reward-model", self.gap),
            ablated={
                name: arm._replace(pit=export(name, arm.pit)) for name, arm in self.ablated.items()
            },
        )


def measure(
    config: PitConfig,
    steps: Run,
    held_out: HeldOut,
    models: Models,
    overlaps: Sequence[dict[str, Any]],
) -> None:
    """Let every system respond to the held-out prompts, and write what the report is made from.

    Args:
        config: the recipe.
        steps: of the run.
        held_out: what is measured on.
        models: that were trained.
        overlaps: between training and held-out data, as `Decontamination` counted them.

    Raises:
        EngineError: a prompt does not fit a model's context.
    """
    board = PitBoard(steps, config.evaluation, models.reward)
    board.measure_gaps(models.gap, held_out.preferences)
    bench = _Bench(config, steps, board, models, held_out.prompts)
    begins = {"sft": models.policy_sft, "rl": models.policy}
    drawn = {name: bench.original(name, model) for name, model in begins.items()}
    # The chain that is told first, and the same M_PIT on what the other M_P responds.
    first = config.start
    other = "sft" if first == "rl" else "rl"
    start = Start(f"policy-{first}", begins[first], drawn[first])
    chain = bench.chain("pit", "method", models.pit, start, config.improve)
    bench.stop(chain, start)
    beside = Start(f"policy-{other}", begins[other], drawn[other])
    other_chain = bench.chain(f"pit-on-{other}", "method", models.pit, beside, config.improve)
    bench.ablations(start)
    bench.baselines(start)
    bench.temperatures(start)
    board.told["overlaps"] = list(overlaps)
    board.told["curriculum"] = _curriculum(config)
    board.told["chains"] = _chains(start, chain, config.improve.min_gap)
    board.told["reference_use"] = _reference_use(start, beside, chain[0], other_chain[0])
    if config.evaluation.reference_use:
        by = By(start.model, models.pit, bench.own_gap, models.reward, board.right_parts)
        board.told["reads_reference"] = reference_use(config, steps, held_out.prompts, by)
    board.summarise(config.model, start=start.name, last=f"pit-y{config.improve.steps}")


class Start(NamedTuple):
    """What a chain begins with: the responses of a policy."""

    name: str
    model: ModelRef
    responses: Rows[Response]


@dataclass(frozen=True, slots=True)
class _Bench:
    """Makes the responses of each system and hands them to the board."""

    config: PitConfig
    steps: Run
    board: PitBoard
    models: Models
    prompts: Rows[Conversation]

    def add(
        self,
        name: str,
        kind: ArmKind,
        model: ModelRef,
        rows: Rows[Response],
        **said: Any,  # noqa: ANN401  as the board takes it
    ) -> None:
        """Add a system to the board."""
        asked = self.steps.rows(f"{name}-scored", candidates, self.prompts, rows)
        self.board.add(name, kind, model, rows, asked, **said)

    def original(self, name: str, model: ModelRef) -> Rows[Response]:
        """Let M_P respond, and once more with another seed: the control that must show nothing."""
        first = self.drawn(f"policy-{name}", model, self.steps.seed)
        again = self.drawn(f"policy-{name}-again", model, seed_of(self.steps.seed, "again"))
        trained = name == "rl"
        self.add(f"policy-{name}", "base" if name == self.config.start else "baseline", model, first,
                 parent=self.models.policy_sft if trained else None,
                 against=("policy-sft",) if trained else ())  # fmt: skip
        self.add(f"policy-{name}-again", "control", model, again, against=(f"policy-{name}",))
        return first

    def drawn(self, name: str, model: ModelRef, seed: int) -> Rows[Response]:
        """Draw responses to the held-out prompts."""
        config = self.config
        asked: Rows[Request] = self.steps.rows("held-out-requests", requests, self.prompts)
        sampling = config.evaluation.sampling(config.max_response_tokens)
        return self.steps.sharded(f"{name}-responses", answer, asked, self.steps.asks(model),
                                  sampling, seed,
                                  shard_items=config.evaluation.shard_prompts)  # fmt: skip

    def links(
        self, name: str, model: ModelRef, start: Rows[Response], how: ImproveConfig
    ) -> list[Link]:
        """Improve responses; every step is stored."""
        config = self.config
        return improve(self.steps, name, self.prompts, start, model, self.own_gap, how,
                       config.template, max_tokens=config.max_response_tokens,
                       by_difference=config.gap != "trained", shard_items=self.shard)  # fmt: skip

    @property
    def shard(self) -> int:
        """Responses a shard."""
        return self.config.evaluation.shard_prompts * self.config.evaluation.draws

    def chain(
        self, name: str, kind: ArmKind, model: ModelRef, start: Start, how: ImproveConfig
    ) -> list[Link]:
        """Add every step of a chain, each against the step before it and against its start."""
        links = self.links(name, model, start.responses, how)
        before = start.name
        for number, link in enumerate(links, start=1):
            against = dict.fromkeys((before, start.name))
            self.add(f"{name}-y{number}", kind, model, link.responses, against=tuple(against),
                     parent=self.models.pit_sft, round_number=number)  # fmt: skip
            before = f"{name}-y{number}"
        return links

    def stop(self, chain: list[Link], start: Start) -> None:
        """Add the chain that ends where R_PIT says: no gain."""
        name = "pit-stopped"
        rows = self.steps.rows(f"{name}-responses", stopped, start.responses,
                               [link.responses for link in chain], [link.gains for link in chain],
                               self.config.improve.min_gap)  # fmt: skip
        last = f"pit-y{len(chain)}"
        self.add(name, "method", self.models.pit, rows, against=(start.name, last))

    def ablations(self, start: Start) -> None:
        """Add one step of improvement by M_PIT without a part of the method."""
        once = self.config.improve.model_copy(update={"steps": 1})
        arms = {"supervised-only": Ablated(self.models.pit_sft), **self.models.ablated}
        for name, arm in arms.items():
            self.chain(name, "baseline", arm.pit, start, once)
        arms = {"pit": Ablated(self.models.pit), **arms}
        self.board.told["ablations"] = [
            {"name": name, "system": f"{name}-y1", **self.reads(name, arm, start),
             **self.board.head_to_head(f"{name}-y1", start.name).as_dict()}
            for name, arm in arms.items()
        ]  # fmt: skip

    def reads(self, name: str, arm: Ablated, start: Start) -> dict[str, Any]:
        """Return how far an arm reads its reference, where it is measured of the run itself."""
        if not self.config.evaluation.reference_use:
            return {}
        by = By(start.model, arm.pit, self.own_gap, self.models.reward, self.board.right_parts)
        return reference_use_of_arm(self.config, self.steps, self.prompts, by, name, arm.gap)

    @property
    def own_gap(self) -> ModelRef:
        """The reward by whose gaps the run's own M_PIT learned."""
        return self.models.gap if self.config.gap == "trained" else self.models.reward

    def baselines(self, start: Start) -> None:
        """Add best-of-N and Self-Refine, from the policy that PIT improves."""
        config, told = self.config, self.config.baselines
        sampling = config.evaluation.sampling(config.max_response_tokens)
        against = (start.name, "pit-y1")
        if told.best_of_n:
            rows = best_of_n(self.steps, self.prompts, start.model, self.models.reward, told,
                             sampling, seed_of(self.steps.seed, "best of n"),
                             shard_prompts=config.evaluation.shard_prompts)  # fmt: skip
            self.add(f"best-of-{told.best_of_n}", "baseline", start.model, rows, against=against)
        if told.self_refine:
            chain = self_refine(self.steps, self.prompts, start.responses, start.model, told,
                                sampling, shard_items=self.shard)  # fmt: skip
            for number, rows in enumerate(chain, start=1):
                self.add(f"self-refine-y{number}", "baseline", start.model, rows, against=against,
                         round_number=number)  # fmt: skip

    def temperatures(self, start: Start) -> None:
        """Compare temperatures of one step of improvement."""
        tried = []
        for temperature in self.config.evaluation.temperatures:
            how = self.config.improve.model_copy(update={"steps": 1, "temperature": (temperature,)})
            name = f"pit-at-{temperature:g}-y1"
            link = self.links(f"pit-at-{temperature:g}", self.models.pit, start.responses, how)[0]
            self.add(name, "method", self.models.pit, link.responses, aside=True)
            told = self.board.head_to_head(name, start.name)
            tried.append({"temperature": temperature, **told.as_dict()})
        self.board.told["improvement_temperatures"] = tried


def _curriculum(config: PitConfig) -> list[dict[str, str]]:
    rounds = {
        "first": [("pit-rl-1", "M_PIT, references from the data")],
        "second": [("pit-rl-2", "M_PIT, references from M_P")],
    }
    rounds["both"] = rounds["first"] + rounds["second"]
    lines = [("policy-rl", "M_P by its reward"), *rounds[config.rounds]]
    return [{"step": step, "title": title} for step, title in lines]


def _chains(start: Start, chain: list[Link], min_gap: float) -> list[dict[str, Any]]:
    """Return what R_PIT says of each step: its mean gain, and how many steps won."""
    told = []
    old = _by_place(start.responses)
    for number, link in enumerate(chain, start=1):
        new = _by_place(link.responses)
        gained = {(g.prompt_id, g.index): g.won for g in link.gains}
        found = [gain for gain in gained.values() if gain is not None]
        won = [
            wins(gain, min_gap, finished=new[key].is_finished, was_finished=old[key].is_finished)
            for key, gain in gained.items()
        ]
        estimate = mean(found) if found else None
        told.append({
            "step": number,
            "responses": f"pit-y{number}-responses",
            "gains": f"pit-y{number}-gains",
            "gain": estimate and estimate.value,
            "interval": estimate and [estimate.low, estimate.high],
            "won": fmean(won) if won else None,
            "unchanged": fmean(new[key].text == r.text for key, r in old.items()),
        })  # fmt: skip
        old = new
    return told


def _by_place(responses: Rows[Response]) -> dict[tuple[str, int], Response]:
    return {(r.prompt_id, r.index): r for r in responses}


def _texts(responses: Rows[Response]) -> dict[tuple[str, int], str]:
    return {key: r.text for key, r in _by_place(responses).items()}


def _reference_use(one: Start, other: Start, here: Link, there: Link) -> dict[str, Any]:
    """Return how many first steps stay the same text when they improve another response.

    Both chains draw with the same random numbers, so a model that does not look at the reference
    writes the same twice.
    """
    old, new = _texts(one.responses), _texts(other.responses)
    mine, theirs = _texts(here.responses), _texts(there.responses)
    changed = [key for key in old if old[key] != new[key]]
    same = [float(mine[key] == theirs[key]) for key in changed]
    return {"different_references": len(changed), "same_response": fmean(same) if same else None}
