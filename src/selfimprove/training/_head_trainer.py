"""The trainer of a classifier with one logit: comparisons in pieces, their rows as trees."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import torch

from selfimprove.sampling.architecture import unwrapped
from selfimprove.sampling.conversation import Spoken
from selfimprove.sampling.scalar_model import padded
from selfimprove.sampling.shortening import Shorten, oldest_first
from selfimprove.sampling.token_tree import grown, head_weights, laid_out, leaf_scores, scores_of
from selfimprove.training._rounded_trainer import RoundedTrainer
from selfimprove.training.packed_trees import packed_trees
from selfimprove.training.processes import mean_of_everyone
from selfimprove.training.recorded import Read

__all__ = ["Collator", "Comparisons", "HeadTrainer", "Rows"]

Rows: TypeAlias = tuple[tuple[int, ...], ...]
"""The rows of one comparison, as tokens."""


@dataclass(frozen=True, slots=True)
class Comparisons:
    """What is compared, and by which loss."""

    replies: Sequence[Sequence[Spoken]]
    """For each comparison as many replies as the loss has columns."""
    loss: Callable[[torch.Tensor], torch.Tensor]
    """From (comparisons, replies) scores to a loss each."""
    better: int
    """The column that must have the highest score."""
    worse: int
    """The column that must have the lowest score."""
    shorten: Shorten = oldest_first
    """What goes first where a prompt is too long."""


@final
class Collator:
    """Makes the pieces of one step; the rows of a comparison are never parted."""

    def __init__(
        self, rows: Sequence[Rows], piece_tokens: int, pad: int, *, share: bool, packed: bool
    ) -> None:
        """Grow the trees.

        Args:
            rows: of every comparison.
            piece_tokens: of a piece, padding included where there is some.
            pad: the token that fills padded rows up.
            share: what rows of a comparison begin with is read once.
            packed: then trees lie end to end, without padding.
        """
        self._rows, self._packed = rows, packed
        self._trees = [grown(comparison) for comparison in rows] if share else None
        self._piece_tokens = piece_tokens
        self._pad = pad

    def __call__(self, batch: Sequence[dict[str, int]]) -> dict[str, Any]:
        numbers = [item["row"] for item in batch]
        pieces = [self._piece(chunk) for chunk in self._chunks(numbers)]
        return {"pieces": pieces, "comparisons": len(numbers)}

    def _piece(self, numbers: Sequence[int]) -> dict[str, Any]:
        if self._trees is not None:
            trees = [self._trees[n] for n in numbers]
            return packed_trees(trees) if self._packed else laid_out(trees, self._pad)
        return {"input_ids": padded([row for n in numbers for row in self._rows[n]], self._pad)}

    def _chunks(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Comparisons of like size together, as many as fit, with their padding where there is some."""
        chunk: list[int] = []
        read = 0  # tokens of the chunk
        for number in sorted(numbers, key=self._size):
            size = self._size(number)
            read = read + size if self._packed else (len(chunk) + 1) * size
            if chunk and read > self._piece_tokens:
                yield chunk
                chunk, read = [], size
            chunk.append(number)
        yield chunk

    def _size(self, number: int) -> int:
        """Tokens that are computed for a comparison."""
        if self._trees is not None:
            return len(self._trees[number].ids)
        rows = self._rows[number]
        return len(rows) * max(len(row) for row in rows)


@final
class HeadTrainer(RoundedTrainer):
    """The usual trainer, with a step that knows of comparisons and of pieces."""

    compared: Comparisons

    def __init__(self, *, model: Any, **settings: Any) -> None:  # noqa: ANN401
        # Sixteen bits of a score would round away small differences.
        super().__init__(model=model, whole=head_weights(model), **settings)
        # Read when logged: a GPU is not waited for.
        self._told: dict[str, list[torch.Tensor]] = defaultdict(list)

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Add up the gradients of the pieces; return the mean loss of a comparison."""
        computing = self.computing(model.train())
        inputs = self._prepare_inputs(inputs)
        count = inputs["comparisons"]
        return self.add_up(
            model, inputs["pieces"], lambda piece: self._summed_loss(computing, piece) / count
        )

    def _summed_loss(self, model: torch.nn.Module, piece: dict[str, Any]) -> torch.Tensor:
        if "spans" in piece:
            read = self._read_packed_piece(model, piece)
        elif "seen" in piece:
            read = leaf_scores(self.accelerator.unwrap_model(model), piece)
        else:
            # Nothing that is read can see the padding behind it: a decoder needs no mask.
            read = model(**piece, use_cache=False).logits
        scores = read.float().view(-1, len(self.compared.replies[0]))
        margins = (scores[:, self.compared.better] - scores[:, self.compared.worse]).detach()
        self._told["accuracy"].append((margins > 0).float())
        self._told["margin"].append(margins)
        return self.compared.loss(scores).sum()

    def _read_packed_piece(self, model: torch.nn.Module, piece: dict[str, Any]) -> torch.Tensor:
        if self.records:
            return self.passes(model, _read_packed).told(piece)
        return _read_packed(model, Read.of(piece))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last entry."""
        told = {name: torch.cat(values).tolist() for name, values in self._told.items()}
        self._told.clear()
        means = mean_of_everyone(told)
        super().log({**logs, **means}, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: the pieces have no common shape."""
        return 0


def _read_packed(model: Any, read: Read) -> torch.Tensor:  # noqa: ANN401
    """Return the logit at every scored place of trees end to end."""
    inner = unwrapped(model)
    states = getattr(inner, inner.base_model_prefix)(
        input_ids=read.ids, attention_mask=read.table, position_ids=read.positions,
        use_cache=False,
    ).last_hidden_state[0]  # fmt: skip
    return scores_of(inner, states.index_select(0, read.scored))
