"""A world in which the reference matters, tried out: who keeps what.

    python benchmarks/who_keeps_what.py [--steps 1300] [--shared-nouns] [--seed 0] [--json FILE]

A person of a clan keeps one of the clan's things; people are read forwards only ("Zorba: red drum"). A prompt names
eight things of eight clans, a response a person for each, and what that person really keeps: from the prompt alone one
part in six is right, and in a draft it can be seen which. So a draft holds the outcome of draws that a model
cannot make again by thinking, and improving (keep what is right, draw the rest anew) beats drawing again.

A small Llama learns facts and how people revise such lists; then M_P and M_PIT imitate the better of two drafts, and M_PIT
is trained by policy gradient on the number of right parts (the oracle's, where PIT has its gap reward: this tells what
the world allows). Clans of the base's revisions, of imitation, of RL and of the test are apart. Printed: shares of right
parts of chains y0, y1, y2, y3 on test clans, and how often a part that was right, or wrong, was kept.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from machine import keep, say  # first: it imports selfimprove before torch

# isort: split
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from selfimprove.seeds import rng

CLAN: Final = 6  # people, and things, of a clan
PARTS: Final = 8  # of a response
ITEM: Final = 5  # tokens of a part: number, name, colour, thing, full stop
SAID: Final = PARTS * ITEM + 1  # and the end
ROWS: Final = 64  # of a step of pretraining
LENGTH: Final = 116  # tokens of a row

Part = tuple[int, int]
"""A clan, and which of its things."""

Said = Sequence[Sequence[int]]
"""Responses, as tokens."""

Batches = Callable[[], tuple[torch.Tensor, torch.Tensor]]
"""Makes the rows of a step and what of them is learnt, -100 where nothing is."""


@dataclass
class World:
    """Who keeps what, and the tokens that say so."""

    clans: int
    shared_nouns: bool
    seed: int

    def __post_init__(self) -> None:
        """Give every person a thing, and every word a token."""
        self.random = rng(self.seed, "who keeps what")
        self._words = 0
        self.pad, self.ask, self.draft, self.reply, self.end, self.stop, self.comma = self._take(7)
        self.numbers = self._take(PARTS + 3)
        self.names = [self._take(CLAN) for _ in range(self.clans)]
        self.colours = self._take(self.clans)
        nouns = self._take(CLAN)
        self.nouns = [nouns if self.shared_nouns else self._take(CLAN) for _ in range(self.clans)]
        self.keeps = [self.random.sample(range(CLAN), CLAN) for _ in range(self.clans)]
        order = self.random.sample(range(self.clans), self.clans)
        part = self.clans // 8
        self.test, self.rl, self.sft = (
            order[:part],
            order[part : 2 * part],
            order[2 * part : 3 * part],
        )
        self.school = order[4 * part :]

    def _take(self, count: int) -> list[int]:
        self._words += count
        return list(range(self._words - count, self._words))

    @property
    def vocabulary(self) -> int:
        """Tokens, in whole blocks of 64."""
        return -(-self._words // 64) * 64

    def keeper(self, part: Part) -> int:
        """Return who of a clan keeps its thing."""
        return self.keeps[part[0]].index(part[1])

    def fact(self, clan: int, who: int) -> list[int]:
        """Say what a person keeps."""
        return [
            self.names[clan][who],
            self.colours[clan],
            self.nouns[clan][self.keeps[clan][who]],
            self.stop,
        ]

    def prompt(self, parts: Sequence[Part], draft: Sequence[int] | None) -> list[int]:
        """Ask for who keeps some things, better than a draft says where there is one."""
        asked = [self.ask]
        for place, (clan, thing) in enumerate(parts):
            asked += [self.numbers[place], self.colours[clan], self.nouns[clan][thing], self.comma]
        return [*asked, *([self.draft, *draft] if draft is not None else []), self.reply]

    def response(self, parts: Sequence[Part], people: Sequence[int]) -> list[int]:
        """Name a person for each thing, and what that person keeps."""
        pairs = enumerate(zip(parts, people, strict=True))
        return [
            t for k, ((clan, _), who) in pairs for t in (self.numbers[k], *self.fact(clan, who))
        ]

    def things(self, clans: Sequence[int]) -> list[Part]:
        """Draw what a prompt asks for."""
        return [
            (clan, self.random.randrange(CLAN)) for clan in self.random.sample(list(clans), PARTS)
        ]

    def people(self, parts: Sequence[Part], right: float) -> list[int]:
        """Draw a person for each thing, the right one with this probability or by chance."""
        return [
            self.keeper(part) if self.random.random() < right else self.random.randrange(CLAN)
            for part in parts
        ]

    def right(self, parts: Sequence[Part], tokens: Sequence[int]) -> list[bool]:
        """Tell which parts of a response are right, word by word."""
        wanted = self.response(parts, [self.keeper(part) for part in parts])
        cuts = range(0, PARTS * ITEM, ITEM)
        return [list(tokens[i : i + ITEM]) == wanted[i : i + ITEM] for i in cuts]

    def document(self) -> list[int]:
        """Write what the base model learns from."""
        kind = self.random.random()
        if kind < 0.3:
            text = [
                t for _ in range(29) for t in self.fact(self._any(), self.random.randrange(CLAN))
            ]
        elif kind < 0.42:
            text = self._twice()
        elif kind < 0.47:
            text = [t for _ in range(38) for t in self._belonging()]
        else:
            text = self._revised()
        return [*text, *[self.stop] * LENGTH][:LENGTH]

    def _any(self) -> int:
        return self.random.randrange(self.clans)

    def _twice(self) -> list[int]:
        clans = self.random.sample(range(self.clans), PARTS + 2)
        said = [t for k, c in enumerate(clans)
                for t in (self.numbers[k], *self.fact(c, self.random.randrange(CLAN)))]  # fmt: skip
        return [self.draft, *said, self.reply, *said, self.end]

    def _belonging(self) -> list[int]:
        clan = self._any()
        words = [self.colours[clan], self.random.choice(self.names[clan])]
        return [*(words if self.random.random() < 0.7 else words[::-1]), self.stop]

    def _revised(self) -> list[int]:
        """Write how people of the school revise a list: they keep most of what is right, and little else."""
        parts = self.things(self.school)
        draft = self.people(parts, 0.4)
        after = [
            who if self.random.random() < (0.95 if who == self.keeper(part) else 0.1)
            else self.random.randrange(CLAN)
            for part, who in zip(parts, draft, strict=True)
        ]  # fmt: skip
        return [
            *self.prompt(parts, self.response(parts, draft)),
            *self.response(parts, after),
            self.end,
        ]


def pretrained(world: World, steps: int) -> LlamaForCausalLM:
    """Return the base model."""
    torch.manual_seed(world.seed)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=world.vocabulary, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=384, max_position_embeddings=256, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=world.end, pad_token_id=world.pad,
    ))  # fmt: skip

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.tensor([world.document() for _ in range(ROWS)])
        labels = ids.clone()
        labels[ids[:, 0] == world.draft, : 2 + ITEM * (PARTS + 2)] = -100
        labels[ids[:, 0] == world.ask, : LENGTH - SAID] = -100
        return ids, labels

    _learn(model, batch, steps, 3e-3, warmup=50, show=lambda: told(model, world, "pretraining"))
    return model


def _learn(
    model: LlamaForCausalLM,
    batch: Batches,
    steps: int,
    rate: float,
    *,
    warmup: int,
    show: Callable[[], object] | None = None,
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / warmup, 1) * (1 - step / steps)
        ids, labels = batch()
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if show is not None and step and step % 100 == 0:
            say(f"step {step}: {show()}")


def imitating(
    base: LlamaForCausalLM, world: World, steps: int, *, with_draft: bool
) -> LlamaForCausalLM:
    """Return a model that imitates the better of two drafts, shown the other one or nothing."""
    model = copy.deepcopy(base)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        rows, labels = [], []
        while len(rows) < 32:
            parts = world.things(world.sft)
            drafts = [world.people(parts, world.random.uniform(0.1, 0.7)) for _ in range(2)]
            worse, better = sorted((world.response(parts, d) for d in drafts),
                                   key=lambda said: sum(world.right(parts, said)))  # fmt: skip
            asked = world.prompt(parts, worse if with_draft else None)
            rows.append([*asked, *better, world.end])
            labels.append([-100] * len(asked) + [*better, world.end])
        return torch.tensor(rows), torch.tensor(labels)

    _learn(model, batch, steps, 5e-4, warmup=10)
    return model


@torch.no_grad()
def drawn(
    model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], world: World, temperature: float
) -> torch.Tensor:
    """Draw a response to each prompt, all of one length."""
    ids, past, found = torch.tensor(prompts), None, []
    done = torch.zeros(len(ids), dtype=torch.bool)
    for _ in range(SAID):
        read = model(input_ids=ids, past_key_values=past, use_cache=True)
        past = read.past_key_values
        ids = torch.multinomial((read.logits[:, -1] / temperature).softmax(-1), 1)
        ids[done] = world.pad
        done |= ids[:, 0] == world.end
        found.append(ids)
    return torch.cat(found, 1)


def chain(
    policy: LlamaForCausalLM, improver: LlamaForCausalLM, world: World, prompts: int = 200
) -> dict[str, Any]:
    """Return shares of right parts of y0 to y3 on test clans, and how much of what was kept."""
    asked = [world.things(world.test) for _ in range(prompts)]
    said = drawn(policy, [world.prompt(p, None) for p in asked], world, 0.7)[:, :-1].tolist()
    shares, kept = [_share(world, asked, said)], []
    for _ in range(3):
        rows = [world.prompt(p, s) for p, s in zip(asked, said, strict=True)]
        new = drawn(improver, rows, world, 0.7)[:, :-1].tolist()
        kept.append(_kept(world, asked, said, new))
        said = new
        shares.append(_share(world, asked, said))
    return {"right": shares, "kept_of_right_and_of_wrong": kept}


def _share(world: World, asked: Sequence[Sequence[Part]], said: Sequence[Sequence[int]]) -> float:
    marks = [
        mark for parts, one in zip(asked, said, strict=True) for mark in world.right(parts, one)
    ]
    return round(sum(marks) / len(marks), 3)


def _kept(
    world: World, asked: Sequence[Sequence[Part]], before: Said, after: Said
) -> tuple[float, float]:
    of: dict[bool, list[bool]] = {True: [], False: []}
    for parts, old, new in zip(asked, before, after, strict=True):
        for place, mark in enumerate(world.right(parts, old)):
            name = place * ITEM + 1
            of[mark].append(old[name] == new[name])
    return tuple(round(sum(marks) / max(len(marks), 1), 3) for marks in (of[True], of[False]))  # type: ignore[return-value]


@torch.no_grad()
def told(model: LlamaForCausalLM, world: World, when: str) -> dict[str, Any]:
    """Return how sure a model is of right names, and of the draft's, where a draft is right or wrong by chance."""
    asked = [world.things(world.test) for _ in range(60)]
    drafts = [world.people(parts, 0.0) for parts in asked]
    rows = [world.prompt(p, world.response(p, d)) for p, d in zip(asked, drafts, strict=True)]
    begun = torch.tensor([r + world.response(p, world.people(p, 0.0))
                          for r, p in zip(rows, asked, strict=True)])  # fmt: skip
    places = [len(rows[0]) + place * ITEM for place in range(PARTS)]
    logits = model(input_ids=begun).logits[:, places]
    names = torch.tensor([[world.names[clan] for clan, _ in parts] for parts in asked])
    sure = logits.gather(2, names).softmax(-1)
    keepers = torch.tensor([[world.keeper(part) for part in parts] for parts in asked])
    own = torch.tensor(drafts)
    kept, same = sure.gather(2, own[..., None])[..., 0], own == keepers
    return {
        "when": when,
        "right": round(float(sure.gather(2, keepers[..., None]).mean()), 3),
        "kept_of_right": round(float(kept[same].mean()), 3),
        "kept_of_wrong": round(float(kept[~same].mean()), 3),
    }


def reinforced(
    start: LlamaForCausalLM, world: World, steps: int, *, with_draft: bool
) -> LlamaForCausalLM:
    """Return a policy after policy gradient with leave-one-out advantages of right parts, 24 prompts x 4 draws."""
    model, draws = copy.deepcopy(start), 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.0)
    for _ in range(steps):
        asked = [world.things(world.rl) for _ in range(24)]
        seen = [world.response(p, world.people(p, world.random.uniform(0, 0.5))) for p in asked]
        rows = [world.prompt(p, s if with_draft else None)
                for p, s in zip(asked, seen, strict=True) for _ in range(draws)]  # fmt: skip
        said = drawn(model, rows, world, 1.0)
        worth = torch.tensor([float(sum(world.right(asked[i // draws], one)))
                              for i, one in enumerate(said.tolist())]).view(-1, draws)  # fmt: skip
        gain = (worth - (worth.sum(1, keepdim=True) - worth) / (draws - 1)).flatten()
        ids = torch.cat([torch.tensor(rows), said], 1)
        logs = model(input_ids=ids).logits[:, len(rows[0]) - 1 : -1].log_softmax(-1)
        taken = (logs.gather(2, said[..., None])[..., 0] * (said != world.pad)).sum(1)
        (-(gain / (gain.std() + 1e-4)) * taken).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model


def main() -> None:
    """Learn, improve, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clans", type=int, default=120)
    parser.add_argument("--steps", type=int, default=1300, help="of pretraining")
    parser.add_argument("--imitation", type=int, default=150, help="steps of M_P and of M_PIT")
    parser.add_argument("--rl", type=int, default=60, help="steps of reinforcement learning")
    parser.add_argument("--shared-nouns", action="store_true", help="six nouns for all clans")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    world = World(asked.clans, asked.shared_nouns, asked.seed)
    base = pretrained(world, asked.steps)
    found: dict[str, Any] = {"base": told(base, world, "base")}
    policy = imitating(base, world, asked.imitation, with_draft=False)
    improver = imitating(base, world, asked.imitation, with_draft=True)
    found["supervised"] = chain(policy, improver, world)
    say(str(found))
    found["M_PIT after RL"] = chain(
        policy, reinforced(improver, world, asked.rl, with_draft=True), world
    )
    say(str(found))
    alone = reinforced(policy, world, asked.rl, with_draft=False)
    found["M_P after the same RL"] = chain(alone, improver, world)["right"][0]
    keep(found, asked.json)


if __name__ == "__main__":
    main()
