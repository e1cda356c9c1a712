"""A run is a folder; a step is a folder in it; `done.json`, written last, says that it is whole.

    RUN/recipe.json                 the resolved recipe
    RUN/<step>/step.json            the step's identity: who made it, from which inputs
    RUN/<step>/shard-00000.parquet  rows, with shard-00000.json beside it: digest, tokens, seconds
    RUN/<step>/model/               or, for a training step, a Hugging Face folder
    RUN/<step>/done.json            digest, cost and funnel; its existence means: complete

A step's identity is the name of the function that makes it and the content of its inputs: configs, rows of
earlier steps (by digest), models (by weights digest), seeds. Same identity: read back. Another:
`StaleStepError`, never silent reuse and never a silent remake.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, TypeVar

from selfimprove.errors import (
    LockedRunError,
    TrainingError,
)
from selfimprove.files import (
    make_folder,
    write_json,
    writing_to,
)
from selfimprove.freed import hand_back
from selfimprove.models import locate
from selfimprove.progress import track
from selfimprove.provenance import plain
from selfimprove.remote import Here, Keeper
from selfimprove.rows import Batch, Filtered, Rows
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.served import Held, Memory, Served
from selfimprove.store.step import Step, places
from selfimprove.types import ModelRef

__all__ = ["Run", "Training", "TrainingResult", "in_chunks"]

_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  items of a sharded step


class TrainingResult(Protocol):
    """What a training reports; a frozen dataclass, stored field by field."""

    @property
    def tokens(self) -> int:
        """Tokens trained on, padding left out."""
        ...


class Training(Protocol):
    """A training that is set up (`training.trainings`)."""

    def fit(self, *, out: Path, checkpoints: Path) -> TrainingResult:
        """Train, and write the model to `out`, going on from what `checkpoints` holds."""
        ...


@dataclass
class Run:
    """One run folder, held by one writer; every step of a method goes through it, and every model."""

    root: Path
    announce: Callable[[str], None] = field(default=lambda _line: None)
    """Called with a line for a person whenever a step starts, resumes or is read back."""
    elsewhere: Callable[[Path], dict[str, Any]] | None = None
    """Trains the step of this folder in processes of its own and returns what `make` would report,
    field by field; None: steps are trained in this process."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """Serves the run's models."""
    seed: int = 0
    """From which all randomness of the run follows, stream by stream (`seeds`)."""
    held: Held = field(default_factory=Memory)
    """The model that is in memory."""
    keeper: Keeper = field(default_factory=Here)
    """Keeps what is made, beside or in the place of the folder."""

    def __post_init__(self) -> None:
        """Take the folder's lock, which the system drops when this process dies.

        Raises:
            LockedRunError: another living process holds it.
            RemoteError: a URL keeps the run, and cannot be reached.
            StoreError: the folder cannot be written.
        """
        make_folder(self.root)
        with writing_to(self.root):
            self._lock = (self.root / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            self._lock.close()
            raise LockedRunError(
                f"{self.root} is being written by process {holder}: wait for it, or choose "
                "another folder with --out"
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()} on {socket.gethostname()}")
        self._lock.flush()
        try:
            self.keeper.hold(self.announce)
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Give back the memory of models, publish what is left, and let the lock go."""
        self.held.free()
        try:
            self.keeper.release()
        finally:
            self._lock.close()

    def _step_of(
        self, name: str, make: Callable[..., object], inputs: tuple[object, ...]
    ) -> Step[Any]:
        return Step(self.root / name, self.announce, self.keeper.publish, make, inputs)

    def locate(self, name: str) -> ModelRef:
        """Find a model by name, folder, `.gguf` file or hub id.

        Raises:
            EngineError: there is no such model.
        """
        return locate(name)

    def asks(self, model: ModelRef, engine: EngineConfig | None = None) -> Served:
        """Return a model to be asked by a step, through the run's engine or one of its own."""
        return Served(model, engine or self.engine, self.held)

    def rows(
        self, name: str, make: Callable[..., Iterable[T] | Filtered[T]], *inputs: object
    ) -> Rows[T]:
        """Return the rows that `make(*inputs)` gives; made once, then read back.

        Raises:
            StaleStepError: the step exists and was made from other inputs.
            CorruptShardError: a stored shard does not match its digest.
        """
        step: Step[T] = self._step_of(name, make, inputs)
        if not step.is_done():
            started = time.monotonic()
            made = make(*inputs)
            funnels = made.funnels if isinstance(made, Filtered) else ()
            rows = list(made.rows if isinstance(made, Filtered) else made)
            step.claim()  # not before: what fails leaves nothing that binds its inputs
            step.write_shard(0, Batch(rows), time.monotonic() - started)
            step.finish(shards=1, funnels=funnels)
        return step.read()

    def sharded(
        self,
        name: str,
        make: Callable[..., Iterator[Batch[T]]],
        items: Iterable[I],
        *inputs: object,
        shard_items: int,
        together: Callable[[I], object] | None = None,
    ) -> Rows[T]:
        """Return the rows of a long step, made shard by shard so that a kill loses at most one.

        `make(chunks, *inputs)` gets the chunks (lists of `shard_items` items) that are still
        missing and yields one `Batch` for each, in order. A batch may depend on nothing but its
        chunk and the inputs: so a resumed step equals an uninterrupted one. Neighbours for which
        `together` gives the same are never parted.

        Raises:
            StaleStepError: the step exists and was made from other inputs.
            CorruptShardError: a stored shard does not match its digest.
        """
        held = list(items)
        source = items if isinstance(items, Rows) else [plain(item) for item in held]
        step: Step[T] = self._step_of(name, make, (source, *inputs, shard_items))
        if not step.is_done():
            step.claim()
            chunks = in_chunks(held, shard_items, together)
            missing = [i for i in range(len(chunks)) if not step.has_shard(i)]
            step.begin(len(chunks), done=len(chunks) - len(missing))
            if missing and len(missing) < len(chunks):
                self.announce(f"{name}: resuming, {len(chunks) - len(missing)} shards are there")
            started = time.monotonic()
            batches = make([chunks[i] for i in missing], *inputs)
            for index, batch in zip(missing, track(batches, name, len(missing)), strict=True):
                step.write_shard(index, batch, time.monotonic() - started)
                started = time.monotonic()
            step.finish(shards=len(chunks))
            hand_back()
        return step.read()

    def train(
        self, name: str, make: Callable[..., Training], base: ModelRef, *inputs: object
    ) -> ModelRef:
        """Return the model that the training writes which `make(base, *inputs)` sets up.

        It goes on by itself from the checkpoints that it finds, which are removed at the end.

        Raises:
            StaleStepError: the step exists and was made from other inputs.
            CorruptShardError: the stored weights do not match their digest.
            DiskFullError: there is no room for checkpoints or the model.
        """
        if self.elsewhere is not None:
            return self._model(name, make, base, inputs, self.elsewhere)

        def here(folder: Path) -> dict[str, Any]:
            return asdict(make(base, *inputs).fit(**places(folder)))  # type: ignore[call-overload, no-any-return]

        return self._model(name, make, base, inputs, here)

    def model(
        self, name: str, make: Callable[..., TrainingResult], base: ModelRef, *inputs: object
    ) -> ModelRef:
        """Return the model that `make(base, *inputs, out=, checkpoints=)` writes; nothing is trained.

        Raises:
            StaleStepError: the step exists and was made from other inputs.
            CorruptShardError: the stored weights do not match their digest.
        """

        def here(folder: Path) -> dict[str, Any]:
            return asdict(make(base, *inputs, **places(folder)))  # type: ignore[call-overload, no-any-return]

        return self._model(name, make, base, inputs, here)

    def _model(
        self,
        name: str,
        make: Callable[..., object],
        base: ModelRef,
        inputs: tuple[object, ...],
        write: Callable[[Path], dict[str, Any]],
    ) -> ModelRef:
        step: Step[object] = self._step_of(name, make, (base, *inputs))
        if not step.is_done():
            step.claim()
            started = time.monotonic()
            shutil.rmtree(places(step.folder)["out"], ignore_errors=True)
            self.held.free()
            with writing_to(step.folder), _within_memory(name):
                told = write(step.folder)
                step.finish_model(told, time.monotonic() - started)
            hand_back(cycles=True)
        return step.read_model(base)

    def write(self, name: str, value: object) -> Path:
        """Write a JSON file of the run itself, such as its summary, replacing what was there."""
        path = self.root / name
        write_json(path, value)
        self.keeper.publish(path)
        return path


def in_chunks(
    items: Sequence[I], size: int, together: Callable[[I], object] | None = None
) -> list[list[I]]:
    """Return the items of each shard; neighbours for which `together` gives the same are in one."""
    if together is None:
        return [list(items[i : i + size]) for i in range(0, len(items), size)]
    chunks: list[list[I]] = []
    for _, group in groupby(items, together):
        kept = list(group)
        if chunks and len(chunks[-1]) + len(kept) <= size:
            chunks[-1] += kept
        else:
            chunks.append(kept)
    return chunks


@contextmanager
def _within_memory(name: str) -> Iterator[None]:
    """Say what to do when a training runs out of memory; torch says so in a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).lower()
        if not any(words in said for words in _NO_MEMORY):
            raise
        raise TrainingError(
            f"{name}: out of memory: lower piece_tokens or max_length of that training, set its "
            "gradient_checkpointing=true, train adapters (lora.r=16), or take a smaller model; --dry-run "
            "tells what each stage holds. Run again then: all that was finished is kept"
        ) from error
