"""Trees of rows that lie end to end: every branch sees what it grows from, and nothing is padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from selfimprove.sampling.token_tree import Tree
from selfimprove.training.packed_rows import Row

__all__ = ["packed_trees"]


def packed_trees(trees: Sequence[Tree]) -> dict[str, Any]:
    """Return what a model reads for the trees, (1, tokens), and the end of each of their rows, tree by tree."""
    ids: list[int] = []
    positions: list[int] = []
    spans: list[Row] = []
    ends: list[int] = []
    for tree in trees:
        first = len(ids)
        ids += tree.ids
        positions += tree.positions
        spans += [tuple((a + first, b + first) for a, b in row) for row in _rows(tree)]
        ends += [end + first for end in tree.ends]
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "spans": spans,
        "scored": torch.tensor(ends),
        "targets": torch.zeros(len(ends), dtype=torch.long),  # nothing is predicted
    }


def _rows(tree: Tree) -> list[Row]:
    """Return each branch with what it sees before itself, from the root on."""
    rows: list[Row] = []
    for start, stop, parent in tree.branches:
        before: Row = ()
        if parent >= 0:
            (first, _), *seen = next(row for row in rows if row[0][0] <= parent < row[0][1])
            before = (*seen, (first, parent + 1))
        rows.append(((start, stop), *before))
    return rows
