"""A batch cut into pieces that cost little: rows of like length, shared prefixes read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from selfimprove.training.tokens import TokenisedExample

__all__ = ["MIN_PREFIX", "Collator", "Group", "groups_of", "plain_piece", "shared_piece"]

# A shorter common beginning is cheaper to read again in every row than to treat apart.
MIN_PREFIX = 32


@dataclass(frozen=True, slots=True)
class Group:
    """Rows whose prompts all begin with the same `shared` tokens; 0: they share nothing."""

    rows: tuple[TokenisedExample, ...]
    shared: int


@final
class Collator:
    """Makes the pieces of one optimiser step; the sum of their losses is the step's loss.

    Rows are padded on the right and need no mask: under causal attention, nothing that is scored
    can see what comes behind it.
    """

    def __init__(self, rows: Sequence[TokenisedExample], piece_tokens: int, *, share: bool) -> None:
        self._rows = rows
        self._piece_tokens = piece_tokens
        self._share = share

    def __call__(self, batch: Sequence[dict[str, int]]) -> dict[str, Any]:
        """Return the pieces, and all labels in one row for the trainer to count."""
        rows = [self._rows[item["row"]] for item in batch]
        groups = groups_of(rows) if self._share else [Group(tuple(rows), 0)]
        alone = [row for group in groups if group.shared == 0 for row in group.rows]
        pieces = [plain_piece(chunk) for chunk in _chunks(alone, self._piece_tokens)]
        pieces += [shared_piece(gs) for gs in _joined(groups, self._piece_tokens)]
        counted = torch.cat([piece["labels"].flatten() for piece in pieces])
        # The trainer counts labels from the second on.
        return {"pieces": pieces, "labels": torch.nn.functional.pad(counted, (1, 0), value=-100)}


def groups_of(rows: Sequence[TokenisedExample]) -> list[Group]:
    """Group rows by the beginning they share; rows without a partner come in a group of their own.

    In lexicographic order the neighbours share most. A row joins the group before it where that
    saves more tokens than the group saves without it.
    """
    ordered = sorted(rows, key=lambda row: row.ids)
    groups: list[Group] = []
    members: list[TokenisedExample] = []
    shared = 0
    for row in ordered:
        joint = _common(members[-1], row, shared) if members else 0
        if joint >= MIN_PREFIX and len(members) * joint >= (len(members) - 1) * shared:
            members.append(row)
            shared = joint
            continue
        if members:
            groups.append(Group(tuple(members), shared if len(members) > 1 else 0))
        members, shared = [row], row.prompt_tokens - 1
    groups.append(Group(tuple(members), shared if len(members) > 1 else 0))
    return groups


def _common(one: TokenisedExample, other: TokenisedExample, limit: int) -> int:
    """How many prompt tokens both begin with, at most `limit`.

    One prompt token stays out: the first token of the completion is predicted from it.
    """
    limit = min(limit, one.prompt_tokens - 1, other.prompt_tokens - 1)
    for i in range(limit):
        if one.ids[i] != other.ids[i]:
            return i
    return limit


def _chunks(rows: Sequence[TokenisedExample], tokens: int) -> Iterator[list[TokenisedExample]]:
    """Rows of like length together, as many as fit into `tokens` with their padding."""
    chunk: list[TokenisedExample] = []
    for row in sorted(rows, key=lambda row: (len(row.ids), row.prompt_tokens)):
        if chunk and (len(chunk) + 1) * len(row.ids) > tokens:
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk


def _joined(groups: Sequence[Group], tokens: int) -> Iterator[list[Group]]:
    """Sharing groups that are read together; a group above the limit is cut."""
    joined: list[Group] = []
    width = count = 0
    for group in sorted((g for g in groups if g.shared), key=lambda g: g.shared):
        longest = max(len(row.ids) for row in group.rows)
        widest = max(width, longest - group.shared)
        if joined and (count + len(group.rows)) * widest > tokens:
            yield joined
            joined, widest, count = [], longest - group.shared, 0
        size = max(tokens // widest, 1)
        for start in range(size, len(group.rows), size):
            yield [Group(group.rows[start : start + size], group.shared)]
        joined.append(Group(group.rows[:size], group.shared))
        width, count = widest, count + len(group.rows[:size])
    if joined:
        yield joined


def plain_piece(rows: Sequence[TokenisedExample]) -> dict[str, torch.Tensor]:
    """Return rows as one padded matrix with what is to be predicted at each place."""
    return {
        "input_ids": _padded([row.ids for row in rows], 0),
        "labels": _padded([_targets(row) for row in rows], -100),
    }


def shared_piece(groups: Sequence[Group]) -> dict[str, torch.Tensor]:
    """Return the rows of the groups without their prefixes, and each prefix once."""
    rows = [(row, g.shared) for g in groups for row in g.rows]
    places = torch.tensor([shared for _, shared in rows])
    suffixes = _padded([row.ids[shared:] for row, shared in rows], 0)
    return {
        "input_ids": suffixes,
        "labels": _padded([_targets(row)[shared:] for row, shared in rows], -100),
        "prefix_ids": _padded([g.rows[0].ids[: g.shared] for g in groups], 0),
        "prefix_tokens": places,
        "prefix_of": torch.tensor([i for i, g in enumerate(groups) for _ in g.rows]),
    }


def _targets(row: TokenisedExample) -> list[int]:
    """At each place the token that is to follow; -100 where that is not scored."""
    silent = [-100] * (row.prompt_tokens - 1)
    return [*silent, *row.ids[row.prompt_tokens :], -100]


def _padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
