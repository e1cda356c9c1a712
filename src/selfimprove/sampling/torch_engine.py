"""The built-in engine: samples any Hugging Face causal language model on a CPU or one GPU."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import torch

from selfimprove.errors import EngineError
from selfimprove.sampling import boards
from selfimprove.sampling.arithmetic import arithmetic_of, width_of
from selfimprove.sampling.boards import Asked, Boards, Held
from selfimprove.sampling.cascade import CascadeLanes
from selfimprove.sampling.encoder import encoder_of
from selfimprove.sampling.engine import (
    BATCH_TOKENS,
    MAX_ROWS,
    READ_TOKENS,
    EngineConfig,
    SamplingConfig,
)
from selfimprove.sampling.forward import TransformersForward
from selfimprove.sampling.graphs import rung_over
from selfimprove.sampling.jobs import DrawLoop, Job, Rules, draws_of, jobs_of, taken_from
from selfimprove.sampling.lanes import Lanes, PaddedLanes
from selfimprove.sampling.loading import (
    check_folder,
    context_length,
    load_model,
    load_tokenizer,
    made_by,
    pick_device,
    stop_tokens,
)
from selfimprove.sampling.out_of_memory import out_of_memory
from selfimprove.sampling.prompts import Cohort, Encoded, check_fit, check_keys, cohorts, encode
from selfimprove.sampling.quantized import made_in
from selfimprove.sampling.reading import Reader
from selfimprove.sampling.rows import Rows
from selfimprove.sampling.scoring import continuation_logprobs
from selfimprove.sampling.strides import Strides
from selfimprove.sampling.support import exact_on_a_board, fast_lanes
from selfimprove.sampling.texts import Texts
from selfimprove.sampling.threads import use_threads
from selfimprove.types import Draw, Prompt
from selfimprove.weights import weights_digest

__all__ = ["TorchEngine"]

_log = logging.getLogger(__name__)


# Boards for fewer rows would not be cheaper.
_LEAST_ROWS = 16


class _Plan(NamedTuple):
    """How one group of prompts is batched."""

    fast: bool
    """In cascade lanes or on a board, else in padded lanes."""
    length: int
    """Cache entries of the longest row."""
    room: int
    """Rows at once."""
    pool: int
    """Prompts read at once."""
    asked: Asked | None
    """Of a board; None: rows live in lanes."""


@final
class TorchEngine:
    """One model, held in memory until `close`."""

    def __init__(self, folder: Path, config: EngineConfig) -> None:
        use_threads(config.threads)
        device = pick_device(config.device)
        check_folder(folder)
        use = arithmetic_of(config.dtype, device, width_of(folder))
        model = load_model(folder, use.torch_dtype, device, config.quantization)
        self._set_up(model, load_tokenizer(folder), config, weights_digest(folder), frozen=True)
        self._identity |= {"dtype_because": use.why, **made_in(config.quantization)}

    @classmethod
    def of_model(cls, model: Any, tokenizer: Any, config: EngineConfig) -> TorchEngine:  # noqa: ANN401
        """Sample a model in memory, such as one in training, on its device and in its precision.

        Every call of `draw` sees the weights as they then are.
        """
        engine = cls.__new__(cls)
        engine._set_up(model, tokenizer, config, "in training", frozen=False)
        return engine

    def _set_up(
        self,
        model: Any,  # noqa: ANN401
        tokenizer: Any,  # noqa: ANN401
        config: EngineConfig,
        weights: str,
        *,
        frozen: bool,
    ) -> None:
        self._model, self._frozen = model, frozen
        self._tokenizer = tokenizer
        self._chat_template_kwargs = config.chat_template_kwargs
        self._texts = Texts(self._tokenizer, self._model.config.get_text_config().vocab_size)
        self._forward, self._reach = fast_lanes(model, context_length(model.config), frozen=frozen)
        steps = boards.by_boards(model, self._forward) and exact_on_a_board(model, self._forward)
        self._boards = Boards(model) if steps else None
        self._reader: Reader | None = None
        self._budget = config.max_batch_tokens
        # A training needs what memory is free for itself.
        if self._budget is None and not (frozen and self._boards and model.device.type == "cuda"):
            self._budget = BATCH_TOKENS
        self._identity = {
            "engine": "torch",
            **made_by(model, weights),
            "attention": "shared prefix" if self._reach else "transformers",
        }

    @property
    def identity(self) -> dict[str, str]:
        """Engine, versions, device, dtype, threads, weights digest: stored with what it made."""
        return dict(self._identity)

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, each as it finishes, in any order.

        Prompts are checked when this is called, before the first draw is asked for.

        Raises:
            EngineError: a prompt does not fit the model's context, or two prompts share a key.
        """
        encoded = self.encoded(prompts, sampling)
        return self._draws(cohorts(encoded), self.rules(sampling), seed)

    def encoded(self, prompts: Sequence[Prompt], sampling: SamplingConfig) -> list[Encoded]:
        """Return prompts as the model reads them.

        Raises:
            EngineError: a prompt does not fit the model's context, or two prompts share a key.
        """
        check_keys(prompts)
        encoded = encode(prompts, self._tokenizer, self._chat_template_kwargs)
        check_fit(encoded, sampling.max_tokens, context_length(self._model.config))
        return encoded

    def rules(self, sampling: SamplingConfig) -> Rules:
        """Return how draws are made that are sampled so."""
        device = self._model.device
        ends = stop_tokens(self._model.generation_config, self._tokenizer)
        return Rules(
            sampling=sampling,
            ends=torch.tensor(ends, dtype=torch.long, device=device),
            may_stop=self._texts.ends_stop(sampling.stop, device),
            texts=self._texts,
        )

    def _draws(self, groups: Sequence[Cohort], rules: Rules, seed: int) -> Iterator[Draw]:
        try:
            for group in groups:
                queue = deque(jobs_of(group.prompts, rules, seed))
                while queue:
                    yield from self._until_memory_ends(group, rules, queue)
        finally:
            if not self._frozen and self._boards is not None:
                # What trains the model wants memory before the next call does.
                self._boards.give_way()

    def _until_memory_ends(self, group: Cohort, rules: Rules, queue: deque[Job]) -> Iterator[Draw]:
        """Draw the queue; out of memory, put back what was under way and halve the budget."""
        plan = self._plan(group, rules.sampling, len(queue))
        rows: DrawLoop | None = None
        held: Held | None = None
        try:
            if self._boards is not None and plan.asked is not None:
                held = self._boards.take(plan.asked, plan.room)
                rows = self._strides(held, group, rules, plan)
            else:
                self._drop_board()
                lanes, new = self._lanes(group, plan), rules.sampling.max_tokens
                rows = Rows(lanes, self._model.device, plan.room, new, plan.pool)
            yield from draws_of(rows, queue)
        except RuntimeError as error:
            held = self._reader = None
            self.halve(plan.room * plan.length, plan.length, error)
            if rows is not None:
                yield from taken_from(rows.ready)
                queue.extendleft(reversed(rows.under_way))
        del rows
        if self._boards is not None and held is not None:
            self._boards.give(held)
        elif self._model.device.type == "cuda":
            torch.cuda.empty_cache()

    def halve(self, used: int, row: int, error: RuntimeError) -> None:
        """After out of memory with `used` tokens, make do with half, if a row still fits."""
        if not out_of_memory(error):
            raise error
        if used <= row:
            raise EngineError(
                f"out of memory with one row of {row} tokens: use a GPU with more memory, "
                "a smaller model or dtype, shorter prompts or a lower max_tokens"
            ) from error
        self._budget = used // 2
        _log.warning("out of memory at %d tokens: going on with half as many at once", used)

    def _plan(self, group: Cohort, sampling: SamplingConfig, draws: int) -> _Plan:
        """Fit the batch to the budget; the longest prompt of a group is its first."""
        longest, most = len(group.prompts[0].ids), self.most_rows
        fast = longest + sampling.max_tokens <= self._reach
        length = longest + sampling.max_tokens - (group.shared if fast else 0)
        # Without refills, the pool of prompts is the batch itself.
        read = boards.tokens_of_a_pass(self._model, READ_TOKENS) if self._boards else READ_TOKENS
        pool = 1 + read // length if fast else most
        asked = None
        # Under autocast weights are rounded anew in every pass, to where no graph would find them.
        if fast and self._boards is not None and not torch.is_autocast_enabled("cuda"):
            # A power of two, so that the next call's draws have room on the same board.
            rows, own = rung_over(draws, most, least=_LEAST_ROWS), longest - group.shared
            asked = Asked(rows, sampling.n, group.shared, own, sampling.max_tokens)
            length, room = asked.row_tokens, self._boards.rows_for(asked, self._budget)
        else:
            room = max(1, min(self.budget // length, most, draws))
        return _Plan(fast, length, room, min(pool, math.ceil(room / sampling.n)), asked)

    def _strides(self, held: Held, group: Cohort, rules: Rules, plan: _Plan) -> Strides:
        reader = self._reader_of(group.prompts[0].ids[: group.shared])
        return Strides(held.board, held.graphs, self._forward, reader, rules, plan.pool)

    def table(self, room: int, longest: int, new: int, *, pool: int, fast: bool) -> Rows:
        """Return rows for draws that come one by one, and need have nothing in common.

        Args:
            room: rows at once.
            longest: tokens of the longest prompt.
            new: tokens sampled at most for a row.
            pool: prompts read at once.
            fast: in lanes that rows may join at any time, which `has_lanes_for` tells of each.
        """
        model = self._model
        lanes: Lanes = PaddedLanes(model)
        if fast:
            lanes = CascadeLanes(model, self._forward, (), room=room, longest=longest, new=new)
        return Rows(lanes, model.device, room, new, pool)

    def has_lanes_for(self, length: int) -> bool:
        """Tell whether a row of so many tokens may join others that are under way."""
        return length <= self._reach

    @property
    def budget(self) -> int:
        """Cache entries that may be held at once outside of boards."""
        return self._budget or BATCH_TOKENS

    @property
    def most_rows(self) -> int:
        """Rows that may be drawn at once."""
        return MAX_ROWS[self._model.device.type]

    def _reader_of(self, shared: tuple[int, ...]) -> Reader:
        """Return what has read a prefix; the last one is kept while weights stay as they are."""
        if self._frozen and self._reader is not None and self._reader.begins_with == shared:
            return self._reader
        self._reader = None
        reader = Reader(self._model, self._forward, shared)
        if self._frozen:
            self._reader = reader
        return reader

    def _lanes(self, group: Cohort, plan: _Plan) -> Lanes:
        if not plan.fast:
            return PaddedLanes(self._model)
        longest = group.prompts[0].ids
        own = len(longest) - group.shared
        return CascadeLanes(
            self._model, self._forward, longest[: group.shared],
            room=plan.room, longest=own, new=plan.length - own,
        )  # fmt: skip

    def logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Return, for each (prompt, continuation), the log-probability of each of its tokens.

        Raises:
            EngineError: a prompt and its continuation do not fit the model's context.
        """
        asked = [prompt for prompt, _ in pairs]
        heads = encode(asked, self._tokenizer, self._chat_template_kwargs)
        encoder = encoder_of(self._tokenizer, self._chat_template_kwargs)
        tails = encoder.texts([text for _, text in pairs])
        limit = context_length(self._model.config)
        for head, tail in zip(heads, tails, strict=True):
            check_fit([head], len(tail), limit)
        while True:
            budget = self.budget
            try:
                return continuation_logprobs(self._model, heads, tails, budget)
            except RuntimeError as error:
                if out_of_memory(error) and self._drop_board():
                    continue
                lengths = [len(h.ids) + len(t) for h, t in zip(heads, tails, strict=True)]
                self.halve(min(budget, sum(lengths)), max(lengths), error)

    def _drop_board(self) -> bool:
        """Give back the memory of the board that is kept; tell whether there was one."""
        self._reader = None
        return self._boards is not None and self._boards.drop()

    def close(self) -> None:
        """Give the model's memory back."""
        self._model = None
        self._forward, self._boards, self._reader = TransformersForward(None), None, None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
