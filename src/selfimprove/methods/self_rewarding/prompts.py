"""New prompts of a model's own making (Sec. 2.2), filtered as in Self-Instruct.

In rounds: show eight instructions, six of the seeds and two of the model's own, let it write the
next, keep what is new. Every round is two steps of the run, so that a kill loses little.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from pydantic import Field

from selfimprove.config import Config
from selfimprove.data import question_prompts as layouts
from selfimprove.data.novelty import Novelty
from selfimprove.data.overlap import same_text
from selfimprove.errors import EngineError
from selfimprove.evaluation.overlaps import HeldOutText
from selfimprove.rows import Batch, Drop, Filtered, Funnel, Rows
from selfimprove.sampling.engine import Engine, SamplingConfig, draw_in_order
from selfimprove.sampling.own_words import own_words
from selfimprove.sampling.served import Served
from selfimprove.seeds import rng
from selfimprove.store import Run
from selfimprove.types import FinishReason, ModelRef, UserPrompt

__all__ = ["PromptsConfig", "write_prompts"]

_HEADING = "Instruction:"


class PromptsConfig(Config):
    """How new prompts are written and filtered; the filters' values are Self-Instruct's."""

    count: int = Field(default=5_000, ge=1)
    """New prompts an iteration; a round that brings too few ends the writing earlier."""
    writer: str = "self"
    """Who writes: self, the newest model; or a model that never changes (paper: a chat model)."""
    demonstrations: int = Field(default=8, ge=1)
    """Instructions shown at a time. Paper: 8."""
    own_demonstrations: int = Field(default=2, ge=0)
    """Of these, so many of the model's own, once it has written some. Paper: 2."""
    temperature: float = Field(default=0.6, gt=0)
    """Paper: 0.6."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Paper: 0.9."""
    max_tokens: int = Field(default=256, ge=1)
    """Of one prompt."""
    max_similarity: float = Field(default=0.7, ge=0, le=1)
    """Drop a prompt whose ROUGE-L F1 with any other is above this: of the seed data, of this and
    earlier iterations, or held out. One of the same words is never new."""
    min_words: int = Field(default=4, ge=1)
    """Drop shorter prompts."""
    max_words: int = Field(default=150, ge=1)
    """Drop longer prompts."""
    banned_words: tuple[str, ...] = (
        "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps",
        "draw", "plot", "go to",
    )  # fmt: skip
    """Drop prompts with one of these: a language model cannot do what they ask."""
    banned_starts: tuple[str, ...] = ("Write a program",)
    """Drop prompts that begin so."""
    rounds: int = Field(default=4, ge=1)
    """At most; later rounds show prompts that earlier ones brought."""
    shard_prompts: int = Field(default=256, ge=1)
    """Texts a shard; a kill loses at most one shard."""


@dataclass(frozen=True, slots=True)
class Written:
    """A text that the model wrote when it was asked for an instruction."""

    number: int
    text: str
    finish: FinishReason
    reasoning: str = ""
    """What it thought before it, between the marks of a reasoning block."""


def write_prompts(  # noqa: PLR0913  everything that prompts are written from
    steps: Run,
    name: str,
    model: ModelRef,
    seeds: Rows[UserPrompt],
    earlier: tuple[UserPrompt, ...],
    excluded: Rows[HeldOutText],
    config: PromptsConfig,
) -> Rows[UserPrompt]:
    """Return new prompts: none like a seed, an earlier one, an excluded one, or one another.

    Raises:
        EngineError: nothing that the model wrote is a new prompt.
    """
    kept: tuple[UserPrompt, ...] = ()
    for number in range(1, config.rounds + 1):
        missing = config.count - len(kept)
        # What the rounds before brought tells how many texts one new prompt takes.
        wanted = ceil(missing * 1.3) if number == 1 else missing * 2
        drawn = steps.sharded(f"{name}-written-{number}", draw_prompts, range(wanted),
                              steps.asks(model), seeds, kept, config, (steps.seed, name, number),
                              shard_items=config.shard_prompts)  # fmt: skip
        new = steps.rows(f"{name}-new-{number}", new_prompts, drawn, seeds, kept, excluded, config,
                         f"{name}-{number}", earlier)  # fmt: skip
        kept = (*kept, *new)[: config.count]
        if len(kept) == config.count or len(new) < missing // 20:
            break
    if not kept:
        raise EngineError(
            f"none of the texts that {model.name} wrote is a new prompt: the funnels of "
            f"{name}-new-1 say why; raise prompts.max_tokens or prompts.max_similarity, or name "
            "another prompts.writer"
        )
    return steps.rows(name, all_prompts, kept)


def all_prompts(kept: Sequence[UserPrompt]) -> list[UserPrompt]:
    """Return the prompts of all rounds."""
    return list(kept)


def draw_prompts(
    chunks: Sequence[Sequence[int]],
    model: Served,
    seeds: Sequence[UserPrompt],
    own: Sequence[UserPrompt],
    config: PromptsConfig,
    stream: tuple[int, str, int],
) -> Iterator[Batch[Written]]:
    """Show a few instructions in random order and let the model write the next."""
    seed, name, number = stream
    sampling = SamplingConfig(temperature=config.temperature, top_p=config.top_p,
                              max_tokens=config.max_tokens, stop=(f"\n{_HEADING}",))  # fmt: skip

    def written(sampler: Engine, chunk: Sequence[int]) -> Batch[Written]:
        prompts = [
            layouts.as_prompt(f"{name}-{number}-{i}", _list_of(shown), chat=False)
            for i in chunk
            for shown in (_chosen(seeds, own, config, (*stream, i)),)
        ]
        draws = draw_in_order(sampler, prompts, sampling, seed=seed)
        said = zip(chunk, map(own_words, draws), strict=True)
        rows = [Written(i, d.text, d.finish, d.reasoning) for i, d in said]
        sampled, read = (sum(d.new_tokens for d in draws), sum(d.prompt_tokens for d in draws))
        return Batch(rows, sampled, read, sampler.identity)

    return model.each(chunks, written)


def _chosen(
    seeds: Sequence[UserPrompt],
    own: Sequence[UserPrompt],
    config: PromptsConfig,
    stream: tuple[int | str, ...],
) -> list[str]:
    draw = rng(int(stream[0]), "demonstrations", *stream[1:])
    of_own = min(config.own_demonstrations, len(own), config.demonstrations)
    of_seeds = min(config.demonstrations - of_own, len(seeds))
    shown = [p.text for p in (*draw.sample(list(seeds), of_seeds), *draw.sample(list(own), of_own))]
    draw.shuffle(shown)
    return shown


def _list_of(shown: Sequence[str]) -> str:
    return "".join(f"{_HEADING} {text}\n\n" for text in shown) + _HEADING


def new_prompts(  # noqa: PLR0913  what was written, and all that it must differ from
    drawn: Sequence[Written],
    seeds: Sequence[UserPrompt],
    own: Sequence[UserPrompt],
    excluded: Sequence[HeldOutText],
    config: PromptsConfig,
    name: str,
    earlier: Sequence[UserPrompt] = (),
) -> Filtered[UserPrompt]:
    """Keep the texts that are new, usable prompts, in the order they were written.

    Args:
        drawn: the texts.
        seeds: prompts of the seed data.
        own: prompts that the same iteration has kept.
        excluded: held-out texts; none of them may be learned from.
        config: the filters.
        name: of the prompts.
        earlier: prompts of earlier iterations.
    """
    texts = [_first_paragraphs(w.text) for w in drawn]
    alike = {
        "too similar to another": _pool([p.text for p in (*seeds, *own)], texts, config),
        "too similar to one of an earlier iteration": _pool(
            [p.text for p in earlier], texts, config
        ),
        "too similar to a held-out prompt": _pool([p.text for p in excluded], texts, config),
    }
    held_out = {same_text(p.text) for p in excluded}
    kept: list[UserPrompt] = []
    dropped: Counter[str] = Counter()
    for written, text in zip(drawn, texts, strict=True):
        why = _why_dropped(text, written.finish, config)
        if why is None and same_text(text) in held_out:
            why = "is an evaluation prompt"
        if why is None:
            why = next((why for why, pool in alike.items() if not pool.is_new(text)), None)
        if why is None:
            alike["too similar to another"].keep(text)
            kept.append(UserPrompt(f"{name}-{written.number}", name, text))
        else:
            dropped[why] += 1
    drops = tuple(Drop(why, count) for why, count in dropped.most_common())
    return Filtered(kept, (Funnel("new prompts", len(drawn), len(kept), drops),))


def _pool(known: Sequence[str], texts: Sequence[str], config: PromptsConfig) -> Novelty:
    pool = Novelty(config.max_similarity, [*known, *texts])
    for text in known:
        pool.keep(text)
    return pool


def _first_paragraphs(text: str) -> str:
    """Cut off what a model adds behind the instruction: an answer, or another list."""
    return re.split(r"\n\s*(?:Response|Answer|Output|A)\s*:", text, maxsplit=1)[0].strip()


def _why_dropped(text: str, finish: FinishReason, config: PromptsConfig) -> str | None:
    words = text.split()
    lowered = f" {' '.join(re.findall(r'[a-z]+', text.lower()))} "
    reasons = {
        "cut off by max_tokens": finish == "length",
        "too short": len(words) < config.min_words,
        "too long": len(words) > config.max_words,
        "banned word": any(f" {word} " in lowered for word in config.banned_words),
        "banned start": text.startswith(config.banned_starts),
        "starts with no letter": not re.match(r"[A-Za-z0-9]", text),
    }
    return next((why for why, holds in reasons.items() if holds), None)
