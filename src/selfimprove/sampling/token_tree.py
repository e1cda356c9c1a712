"""Rows of tokens as one tree: what several of them begin with is read once, by one forward pass.

A tree is one row of the batch. Its tokens stand branch after branch; each sees its own ancestors alone
and has the position that it has in its own row, so that every leaf reads what a row by itself would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from selfimprove.sampling.architecture import full_attention, unwrapped

__all__ = ["Tree", "grown", "head_weights", "laid_out", "leaf_scores", "may_branch", "neighbours",
           "scores_of"]  # fmt: skip

_MIN_SHARED: Final = 16
_MAX_TREE: Final = 192


@dataclass(frozen=True, slots=True)
class Tree:
    """Several rows, with common beginnings written once."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    """Of each token in its own row, from 0."""
    branches: tuple[tuple[int, int, int], ...]
    """Runs of tokens: first, one behind the last, and the token that it grows from, or -1."""
    ends: tuple[int, ...]
    """Where the last token of each row stands, in the order of the rows."""


def grown(rows: Sequence[Sequence[int]]) -> Tree:
    """Return the tree of some rows; equal rows end in the same leaf."""
    ids: list[int] = []
    positions: list[int] = []
    branches: list[tuple[int, int, int]] = []
    ends = [0] * len(rows)
    path: list[int] = []
    before: Sequence[int] = ()
    for number in sorted(range(len(rows)), key=lambda n: tuple(rows[n])):
        row = rows[number]
        shared = _common(before, row)
        path = path[:shared]
        start = len(ids)
        if shared < len(row):
            branches.append((start, start + len(row) - shared, path[-1] if path else -1))
        path += range(start, start + len(row) - shared)
        ids += row[shared:]
        positions += range(shared, len(row))
        ends[number], before = path[-1], row
    return Tree(tuple(ids), tuple(positions), tuple(branches), tuple(ends))


def neighbours(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Put rows that begin alike into groups, each small enough that its tree is cheaper to read."""
    groups: list[list[int]] = []
    size, before = 0, ()  # type: int, Sequence[int]
    for number in sorted(range(len(rows)), key=lambda n: tuple(rows[n])):
        row = rows[number]
        shared = _common(before, row)
        size += len(row) - shared
        # Every token is compared with every other one of its tree, seen or not.
        if groups and shared >= _MIN_SHARED and size <= max(_MAX_TREE, 2 * len(row)):
            groups[-1].append(number)
        else:
            groups.append([number])
            size = len(row)
        before = row
    return groups


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    limit = min(len(one), len(other))
    return next((i for i in range(limit) if one[i] != other[i]), limit)


def laid_out(trees: Sequence[Tree], pad: int) -> dict[str, torch.Tensor]:
    """Return trees as one batch, padded on the right."""
    widest = max(len(tree.ids) for tree in trees)
    ids = torch.full((len(trees), widest), pad)
    positions = torch.zeros_like(ids)
    # Padding sees itself: a token that sees nothing would turn everything into NaN.
    seen = torch.eye(widest, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, tree in enumerate(trees):
        size = len(tree.ids)
        ids[row, :size] = torch.tensor(tree.ids)
        positions[row, :size] = torch.tensor(tree.positions)
        for start, stop, parent in tree.branches:
            seen[row, start:stop, start:stop] = torch.ones(stop - start, stop - start).tril() > 0
            if parent >= 0:
                seen[row, start:stop, : parent + 1] = seen[row, parent, : parent + 1]
    return {
        "input_ids": ids,
        "position_ids": positions,
        "seen": seen[:, None],
        "leaf_row": torch.tensor([row for row, tree in enumerate(trees) for _ in tree.ends]),
        "leaf_place": torch.tensor([end for tree in trees for end in tree.ends]),
    }


def may_branch(model: Any) -> bool:  # noqa: ANN401
    """Whether a classifier can read trees: full attention in every layer, and a head named score."""
    inner = unwrapped(model)
    return (
        full_attention(inner.config.get_text_config())
        and hasattr(inner, "score")
        and inner.config._attn_implementation == "sdpa"
    )


def head_weights(model: Any) -> Iterator[torch.nn.Parameter]:  # noqa: ANN401
    """Return the weights of the head of a classifier that reads trees; of another none."""
    if may_branch(model):
        yield from unwrapped(model).score.parameters()


def leaf_scores(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:  # noqa: ANN401
    """Return the logit at the end of every row, tree after tree, (rows,)."""
    inner = unwrapped(model)
    read = getattr(inner, inner.base_model_prefix)(
        input_ids=batch["input_ids"],
        attention_mask=batch["seen"],
        position_ids=batch["position_ids"],
        use_cache=False,
    )
    states = read.last_hidden_state
    places = batch["leaf_row"] * states.shape[1] + batch["leaf_place"]
    # index_select, as its gradient is added up in a fixed order.
    return scores_of(inner, states.flatten(0, 1).index_select(0, places))


def scores_of(inner: Any, ends: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    """Return what the head of a classifier gives for states, (rows, size): a logit each, (rows,)."""
    with torch.autocast(ends.device.type, enabled=False):
        scores: torch.Tensor = inner.score(ends.to(next(inner.score.parameters()).dtype))[:, 0]
    return scores
