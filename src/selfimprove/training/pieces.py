"""A batch cut into pieces that cost little: no padding or little, shared prefixes read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import torch

from selfimprove.sampling.scalar_model import padded
from selfimprove.training.packed_rows import Span
from selfimprove.training.tokens import TokenisedExample

__all__ = ["MIN_PREFIX", "Collator", "Group", "Limits", "common_beginning", "groups_of"]

# A shorter common beginning is cheaper to read again in every row than to treat apart.
MIN_PREFIX = 32


@dataclass(frozen=True, slots=True)
class Group:
    """Rows whose prompts all begin with the same `shared` tokens; 0: they share nothing."""

    rows: tuple[TokenisedExample, ...]
    shared: int

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(len(row.ids) for row in self.rows)

    @property
    def tokens(self) -> int:
        """What is computed for the rows, without padding."""
        return self.shared + sum(len(row.ids) - self.shared for row in self.rows)


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """What a pass may hold, and how its rows lie.

    Padded rows need no mask: under causal attention, nothing that is scored can see what comes behind it.
    """

    tokens: int
    share: bool
    """Whether a beginning that rows have in common is read once."""
    packed: float = 0
    """Tokens of the longest row, its prefix included, that may lie end to end with others, without
    padding; 0: none does."""

    def chunks(self, groups: Sequence[Group]) -> list[list[int]]:
        """Put groups of like length together, as many as fit into a pass; return their numbers.

        What lies end to end is parted evenly: a last piece of a few rows costs as many launches.
        """
        order = sorted(range(len(groups)), key=lambda n: self._kind(groups[n]))
        even = self._even([group.tokens for group in groups if self._packs([group])])
        chunks: list[list[int]] = []
        for number in order:
            before = [groups[n] for n in chunks[-1]] if chunks else []
            if before and self._fit([*before, groups[number]], even):
                chunks[-1].append(number)
            else:
                chunks.append([number])
        return chunks

    def cut(self, group: Group) -> list[Group]:
        """Cut a group that does not fit into a pass; each part reads the prefix again, if it is shared."""
        parts: list[list[TokenisedExample]] = []
        for row in group.rows:
            if parts and self._fit([Group((*parts[-1], row), group.shared)], self.tokens):
                parts[-1].append(row)
            else:
                parts.append([row])
        return [_group(rows, group.shared) for rows in parts]

    def piece(self, groups: Sequence[Group]) -> dict[str, Any]:
        """Return what a model reads for the groups, which places are scored, and what follows them."""
        if self._packs(groups):
            read, labels = _packed_piece(groups)
        elif any(group.shared for group in groups):
            read, labels = _shared_piece(groups)
        else:
            read, labels = _plain_piece([row for group in groups for row in group.rows])
        flat = labels.flatten()
        # Found here: a GPU would have to be waited for.
        scored = (flat != -100).nonzero()[:, 0]
        return {**read, "scored": scored, "targets": flat[scored]}

    def _kind(self, group: Group) -> tuple[bool, bool, int]:
        return self._packs([group]), group.shared > 0, group.longest - group.shared

    def _packs(self, groups: Sequence[Group]) -> bool:
        return all(group.longest <= self.packed for group in groups)

    def _even(self, sizes: Sequence[int]) -> float:
        """Return the tokens of a piece where as few as can be hold groups of these sizes evenly."""
        if not sizes:
            return self.tokens
        pieces = -(-sum(sizes) // self.tokens)
        return min(self.tokens, sum(sizes) / pieces + max(sizes))

    def _fit(self, groups: Sequence[Group], most: float) -> bool:
        """Whether groups may be read together, by what is computed for them; the last one is new.

        Where they lie end to end, `most` tokens may be.
        """
        if self._packs(groups):
            return sum(group.tokens for group in groups) <= most
        rows = sum(len(group.rows) for group in groups)
        padded = rows * max(group.longest - group.shared for group in groups)
        prefixes = len(groups) * max(group.shared for group in groups)
        alike = self._kind(groups[0])[:2] == self._kind(groups[-1])[:2]
        return alike and padded + prefixes <= self.tokens


@final
class Collator:
    """Makes the pieces of one optimiser step; the sum of their losses is the step's loss."""

    def __init__(self, rows: Sequence[TokenisedExample], limits: Limits) -> None:
        self._rows = rows
        self._limits = limits

    def __call__(self, batch: Sequence[dict[str, int]]) -> dict[str, Any]:
        """Return the pieces, and all labels in one row for the trainer to count."""
        rows = [self._rows[item["row"]] for item in batch]
        found = groups_of(rows) if self._limits.share else [Group((row,), 0) for row in rows]
        groups = [part for group in found for part in self._limits.cut(group)]
        chunks = self._limits.chunks(groups)
        pieces = [self._limits.piece([groups[n] for n in chunk]) for chunk in chunks]
        # The trainer counts labels from the second on.
        counted = torch.cat([torch.tensor([-100]), *(piece["targets"] for piece in pieces)])
        return {"pieces": pieces, "labels": counted}


def groups_of(rows: Sequence[TokenisedExample]) -> list[Group]:
    """Group rows by the beginning they share; rows without a partner come in a group of their own.

    In lexicographic order the neighbours share most. A row joins the group before it where that
    saves more tokens than the group saves without it. Within a group, rows of like length are
    neighbours.
    """
    ordered = sorted(rows, key=lambda row: row.ids)
    groups: list[Group] = []
    members: list[TokenisedExample] = []
    shared = 0
    for row in ordered:
        joint = common_beginning(members[-1], row, shared) if members else 0
        if joint >= MIN_PREFIX and len(members) * joint >= (len(members) - 1) * shared:
            members.append(row)
            shared = joint
            continue
        if members:
            groups.append(_group(members, shared))
        members, shared = [row], row.prompt_tokens - 1
    groups.append(_group(members, shared))
    return [Group(tuple(sorted(g.rows, key=lambda row: len(row.ids))), g.shared) for g in groups]


def _group(rows: Sequence[TokenisedExample], shared: int) -> Group:
    """One row alone shares nothing."""
    return Group(tuple(rows), shared if len(rows) > 1 else 0)


def common_beginning(one: TokenisedExample, other: TokenisedExample, limit: int) -> int:
    """How many prompt tokens both begin with, at most `limit`.

    One prompt token stays out: the first token of the completion is predicted from it.
    """
    limit = min(limit, one.prompt_tokens - 1, other.prompt_tokens - 1)
    for i in range(limit):
        if one.ids[i] != other.ids[i]:
            return i
    return limit


_Piece: TypeAlias = tuple[dict[str, Any], torch.Tensor]
"""What is read, and what is to be predicted at each place of it."""


def _plain_piece(rows: Sequence[TokenisedExample]) -> _Piece:
    """Return rows as one padded matrix."""
    labels = padded([_targets(row) for row in rows], -100)
    return {"input_ids": padded([row.ids for row in rows], 0)}, labels


def _shared_piece(groups: Sequence[Group]) -> _Piece:
    """Return the rows of the groups without their prefixes, and each prefix once."""
    rows = [(row, g.shared) for g in groups for row in g.rows]
    read = {
        "input_ids": padded([row.ids[shared:] for row, shared in rows], 0),
        "prefix_ids": padded([g.rows[0].ids[: g.shared] for g in groups], 0),
        "prefix_tokens": torch.tensor([shared for _, shared in rows]),
        "prefix_of": torch.tensor([i for i, g in enumerate(groups) for _ in g.rows]),
    }
    return read, padded([_targets(row)[shared:] for row, shared in rows], -100)


def _packed_piece(groups: Sequence[Group]) -> _Piece:
    """Return everything in one row, (1, tokens): each prefix, then its rows, one behind the other."""
    ids: list[int] = []
    positions: list[int] = []
    labels: list[int] = []
    spans: list[tuple[Span, Span]] = []

    def lay(tokens: Sequence[int], first: int, targets: Sequence[int], prefix: Span) -> Span:
        span = len(ids), len(ids) + len(tokens)
        ids.extend(tokens)
        positions.extend(range(first, first + len(tokens)))
        labels.extend(targets)
        spans.append((span, prefix))
        return span

    for group in groups:
        shared, prefix = group.shared, (0, 0)
        if shared:
            prefix = lay(group.rows[0].ids[:shared], 0, [-100] * shared, prefix)
        for row in group.rows:
            lay(row.ids[shared:], shared, _targets(row)[shared:], prefix)
    read = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "spans": spans,
    }
    return read, torch.tensor([labels])


def _targets(row: TokenisedExample) -> list[int]:
    """At each place the token that is to follow; -100 where that is not scored."""
    silent = [-100] * (row.prompt_tokens - 1)
    return [*silent, *row.ids[row.prompt_tokens :], -100]
