"""Trees end to end: each token sees what it sees in a tree by itself, with a mask."""

from __future__ import annotations

import pytest
import torch

from selfimprove.sampling.token_tree import grown, laid_out
from selfimprove.training import flash_rows
from selfimprove.training._head_trainer import Collator, Rows
from selfimprove.training.packed_rows import table_of
from selfimprove.training.packed_trees import packed_trees
from selfimprove.training.pass_sizes import Size

_TREES = [
    grown([(1, 2, 3, 4, 5), (1, 2, 3, 4, 6), (1, 2, 7, 8), (1, 2, 7, 9)]),
    grown([(1, 2), (1, 2, 3), (4,), (4, 5)]),
    grown([(5, 5, 5), (5, 5, 5)]),
]


def _seen_by_rows(spans: list[tuple[tuple[int, int], ...]], tokens: int) -> torch.Tensor:
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    for own, *before in spans:
        for token in range(*own):
            for first, last in before:
                seen[token, first:last] = True
            seen[token, own[0] : token + 1] = True
    return seen


def test_every_token_sees_its_ancestors_alone() -> None:
    piece, dense = packed_trees(_TREES), laid_out(_TREES, 0)
    tokens = piece["input_ids"].shape[1]
    seen = _seen_by_rows(piece["spans"], tokens)
    first = 0
    for row, tree in enumerate(_TREES):
        size, part = len(tree.ids), slice(first, first + len(tree.ids))
        assert torch.equal(seen[part, part], dense["seen"][row, 0, :size, :size])
        assert seen[part].sum() == seen[part, part].sum()
        assert torch.equal(piece["input_ids"][0, part], dense["input_ids"][row, :size])
        assert torch.equal(piece["position_ids"][0, part], dense["position_ids"][row, :size])
        first += size
    leaves = dense["leaf_row"], dense["leaf_place"]
    assert torch.equal(piece["input_ids"][0, piece["scored"]], dense["input_ids"][leaves])


def test_the_kernel_is_told_of_the_same_keys() -> None:
    spans = packed_trees(_TREES)["spans"]
    own, keys = flash_rows.counts_of(spans)
    found = iter(flash_rows.keys_of(spans))
    for (first, last), *before in spans:
        told = [next(found) for _ in range(keys.pop(0))]
        assert told == [n for a, b in [*before, (first, last)] for n in range(a, b)]
    assert sum(own) == sum(len(tree.ids) for tree in _TREES)
    # A table of rows that see different numbers of runs can be read again.
    numbers = table_of(spans)[0, 0].tolist()
    rows = [tuple(zip(told[::2], told[1::2], strict=True)) for told in numbers]
    assert flash_rows.keys_of(rows) == flash_rows.keys_of(spans)


def test_a_pass_has_room_for_trees() -> None:
    spans = packed_trees(_TREES * 20)["spans"]
    size = Size.of(spans, 200)
    own, keys = flash_rows.counts_of(spans)
    padding = size.padding(sum(own), sum(keys))
    assert sum(own) + sum(tokens for tokens, _ in padding) == size.tokens
    assert sum(keys) + sum(seen for _, seen in padding) == size.keys
    assert len(spans) + len(padding) <= size.rows
    assert size.scored >= 200


@pytest.mark.parametrize("most", [1, 20, 1_000])
def test_comparisons_are_put_together_by_their_tokens_alone(most: int) -> None:
    """End to end there is no padding: pieces hold as many trees as their tokens allow, each once."""
    rows: list[Rows] = [(tuple(range(n + 3)), (*range(n + 2), 99)) for n in (9, 2, 5, 3)]
    batch = Collator(rows, most, 0, share=True, packed=True)([{"row": n} for n in range(4)])
    sizes = [piece["input_ids"].shape[1] for piece in batch["pieces"]]
    alone = sorted(len(grown(comparison).ids) for comparison in rows)
    assert sum(sizes) == sum(alone)
    assert all(size <= most or size in alone for size in sizes)
    assert len(sizes) == {1: 4, 20: 3, 1_000: 1}[most]
    assert sum(len(piece["scored"]) for piece in batch["pieces"]) == 8
