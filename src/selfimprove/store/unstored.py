"""Steps of a run that is not kept: made, handed on, and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeVar

from selfimprove.rows import Batch, Filtered, Rows
from selfimprove.sampling.served import Held, Several
from selfimprove.store.run import Run, in_chunks
from selfimprove.types import ModelRef

__all__ = ["Unstored"]

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  items of a sharded step


@dataclass
class Unstored(Run):
    """A run without a folder, whose models all stay in memory."""

    root: Path = field(default=Path(), init=False)
    held: Held = field(default_factory=Several)

    def __post_init__(self) -> None:
        """Take no lock."""

    def close(self) -> None:
        """Give the memory of models back."""
        self.held.free()

    def rows(
        self, name: str, make: Callable[..., Iterable[T] | Filtered[T]], *inputs: object
    ) -> Rows[T]:
        """Return the rows that `make(*inputs)` gives."""
        made = make(*inputs)
        return Rows(tuple(made.rows if isinstance(made, Filtered) else made), "", self.root / name)

    def sharded(
        self,
        name: str,
        make: Callable[..., Iterator[Batch[T]]],
        items: Iterable[I],
        *inputs: object,
        shard_items: int,
        together: Callable[[I], object] | None = None,
    ) -> Rows[T]:
        """Return the rows that `make` gives, chunk by chunk."""
        chunks = in_chunks(list(items), shard_items, together)
        found = tuple(row for batch in make(chunks, *inputs) for row in batch.rows)
        return Rows(found, "", self.root / name)

    def train(
        self, name: str, make: Callable[..., object], base: ModelRef, *inputs: object
    ) -> NoReturn:
        """Refuse: a model that is trained is kept.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{name}: nothing is trained without a folder")

    model = train
