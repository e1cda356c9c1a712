"""A dry run: the method's own steps go by on the real data, while no model is loaded and nothing is written.

What a step would draw or train on is counted where it happens, so that no step can be forgotten; what
stands in for the models is in `imagined`. The bounds are those of a run in which all goes well: where
few of the prompts that a model writes are new, a real run lets it write more of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import getdoc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar, cast

from tokenizers import Tokenizer

from selfimprove.config import Config, fingerprint
from selfimprove.files import read_json
from selfimprove.judges.judge_config import RANDOM, JudgeConfig
from selfimprove.models import config_here
from selfimprove.own_code import code_name
from selfimprove.progress import track
from selfimprove.provenance import inputs_of
from selfimprove.rows import Batch, Filtered, Rows
from selfimprove.runtime.imagined import ImaginedEngine, ImaginedScorer, as_hoped, parted
from selfimprove.runtime.plan import PlannedStep, Use
from selfimprove.sampling.engine import Engine, EngineConfig
from selfimprove.store import Run, Training, in_chunks, row_type
from selfimprove.training.dpo import milestones_of
from selfimprove.training.trainings import Training as Job
from selfimprove.types import ModelRef
from selfimprove.weights import weights_digest

__all__ = ["Rehearsal"]

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  items of a sharded step
S = TypeVar("S")

_CHARACTERS_A_TOKEN = 4  # of English text, roughly, where the tokenizer is not here
_SAMPLE = 200_000  # characters
_SETTINGS = (Config, str, int, float, bool)


@dataclass
class Rehearsal(Run):
    """A run that counts."""

    steps: list[PlannedStep] = field(default_factory=list)
    """In the order they happen."""
    uses: list[Use] = field(default_factory=list)
    """Which models were opened or trained, and by which step."""
    absent: list[str] = field(default_factory=list)
    """Models that are not on this machine; a dry run fetches nothing."""

    def __post_init__(self) -> None:
        """Take no lock."""
        self.held = _Recorder(self)
        self._made: dict[str, Any] = {}
        self._imagined: set[str] = set()
        self._shapes: dict[str, Path | None] = {}
        self._step = ""
        self._scratch = TemporaryDirectory(prefix="selfimprove-dry-run-")

    def close(self) -> None:
        """Remove what stood in for models."""
        self._scratch.cleanup()

    def locate(self, name: str) -> ModelRef:
        """Find a model without fetching it; one that is not here is stood in for."""
        folder = config_here(name)
        if folder is None and name not in self.absent:
            self.absent.append(name)
        whole = folder is not None and any(folder.glob("*.safetensors"))
        path = str(folder) if whole else str(self._standing_in(fingerprint(name)))
        model = ModelRef(name, path, f"dry run: {name}")
        self._shapes[model.digest] = folder
        return model

    def rows(
        self, name: str, make: Callable[..., Iterable[T] | Filtered[T]], *inputs: object
    ) -> Rows[T]:
        """Make the rows; where a model's tokenizer is asked that is not here, take them as they are."""
        if name not in self._made:
            self._step, _ = name, row_type(make)  # rows could not be stored without one
            if any(isinstance(i, ModelRef) and self._stands_in(i) for i in inputs):
                items = next(tuple(i) for i in inputs if isinstance(i, Rows))
            else:
                made = make(*inputs)
                items = tuple(map(as_hoped, made.rows if isinstance(made, Filtered) else made))
            items = items or self._all_of(make, inputs)
            self._note(name, make, inputs, rows=len(items))
            if any(isinstance(i, Rows) and i.folder.name in self._imagined for i in inputs):
                self._imagined.add(name)
            self._made[name] = Rows(items, f"dry run: {name}", self.root / name)
        return cast("Rows[T]", self._made[name])

    def _all_of(self, make: Callable[..., object], inputs: Sequence[object]) -> tuple[Any, ...]:
        """Return the imagined rows that a filter was given and kept none of: it may as well keep all."""
        kind = row_type(make)
        given = (i.items for i in inputs if isinstance(i, Rows) and i.folder.name in self._imagined)
        return next((items for items in given if items and isinstance(items[0], kind)), ())

    def sharded(
        self,
        name: str,
        make: Callable[..., Iterator[Batch[T]]],
        items: Iterable[I],
        *inputs: object,
        shard_items: int,
        together: Callable[[I], object] | None = None,
    ) -> Rows[T]:
        """Count what the step would draw, and imagine its rows."""
        if name not in self._made:
            self._step, _ = name, row_type(make)
            chunks = in_chunks(list(items), shard_items, together)
            made = make(chunks, *map(_forgiving, inputs))
            batches = list(track(made, name, len(chunks)))
            self._imagined.add(name)
            found = tuple(as_hoped(row) for batch in batches for row in batch.rows)
            given = (None, *inputs, shard_items)
            self._note(
                name, make, given, rows=len(found), sampled=sum(b.tokens_sampled for b in batches)
            )
            self._made[name] = Rows(found, f"dry run: {name}", self.root / name)
        return cast("Rows[T]", self._made[name])

    def train(
        self, name: str, make: Callable[..., Training], base: ModelRef, *inputs: object
    ) -> ModelRef:
        """Count what the training would cost, and imagine its model."""
        if name not in self._made:
            job = cast("Job", make(base, *inputs))
            shape = self._shapes[base.digest]
            told = job.at_most(_Count((shape or self.root) / "tokenizer.json"))
            self.uses.append(Use(name, shape, job.config, beside=job.beside, draws=job.draws,
                                 longest=told.longest, rows=told.rows))  # fmt: skip
            self._note(name, make, (base, *inputs), sampled=told.sampled, trained=told.trained)
            model = self._after(name, base)
            for step in told.kept:
                kept = self._standing_in(milestones_of(Path(model.path)) / f"step-{step}")
                self._shapes[weights_digest(kept)] = shape
            self._made[name] = model
        return cast("ModelRef", self._made[name])

    def model(
        self, name: str, make: Callable[..., object], base: ModelRef, *inputs: object
    ) -> ModelRef:
        """Imagine a model that no training made."""
        if name not in self._made:
            self._note(name, make, (base, *inputs))
            self._made[name] = self._after(name, base)
        return cast("ModelRef", self._made[name])

    def write(self, name: str, value: object) -> Path:
        """Write nothing."""
        return self.root / name

    def used(self, model: ModelRef, engine: EngineConfig, *, cached: bool) -> None:
        """Note that a step opens a model."""
        shape = self._shapes.get(model.digest)
        if shape is not None:
            self.uses.append(Use(self._step, shape, engine, cached=cached))

    def _note(
        self,
        name: str,
        make: Callable[..., object],
        inputs: Sequence[object],
        *,
        rows: int | None = None,
        sampled: int = 0,
        trained: int = 0,
    ) -> None:
        state = _state(self.root / name, make, inputs)
        does, measures = _first_line(make), ".evaluation." in make.__module__
        self.steps.append(PlannedStep(name, does, rows, sampled, trained, state, measures))

    def _stands_in(self, model: ModelRef) -> bool:
        return Path(model.path).is_relative_to(self._scratch.name)

    def _after(self, name: str, base: ModelRef) -> ModelRef:
        """Return the model that a step would leave: of the shape of what it began with."""
        path = self._standing_in(f"{name}/model")
        model = ModelRef(f"{base.name} + {name}", str(path), f"dry run: {name}")
        self._shapes[model.digest] = self._shapes[base.digest]
        return model

    def _standing_in(self, name: str | Path) -> Path:
        """Return a folder that looks like a model in float32, with nothing in it."""
        folder = Path(self._scratch.name) / name
        if not folder.is_relative_to(self._scratch.name):
            raise ValueError(f"{folder} is no place of a dry run's own")
        folder.mkdir(parents=True, exist_ok=True)
        about = {"__metadata__": {"of": str(name)},
                 "nothing": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}  # fmt: skip
        head = json.dumps(about).encode()
        whole = len(head).to_bytes(8, "little") + head + bytes(4)
        (folder / "model.safetensors").write_bytes(whole)
        (folder / "config.json").write_text("{}", encoding="utf-8")
        return folder


@dataclass(frozen=True, slots=True)
class _Recorder:
    """Holds no model, and notes which would be."""

    of: Rehearsal
    says: ImaginedEngine = field(default_factory=ImaginedEngine)
    """One for all steps: no text is imagined twice."""

    def engine(self, model: ModelRef, config: EngineConfig) -> Engine:
        """Return an engine that imagines."""
        self.of.used(model, config, cached=True)
        return self.says

    def scorer(
        self, model: ModelRef, config: EngineConfig, load: Callable[[Path, EngineConfig], S]
    ) -> S:
        """Return a scorer that imagines."""
        self.of.used(model, config, cached=False)
        return cast("S", ImaginedScorer())

    def free(self) -> None:
        """Do nothing."""


class _Count:
    """Counts the tokens of texts: of the first ones by the tokenizer, and of the others by what it made of those."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer)) if tokenizer.is_file() else None
        self._read, self._tokens = (0, 0) if self._tokenizer else (_CHARACTERS_A_TOKEN, 1)

    def __call__(self, text: str) -> int:
        imagined, real = parted(text)
        if self._tokenizer is None or self._read > _SAMPLE:
            return imagined + round(len(real) * self._tokens / self._read)
        found = len(self._tokenizer.encode(real).ids)
        self._read, self._tokens = self._read + len(real), self._tokens + found
        return imagined + found


def _forgiving(given: object) -> object:
    """Return what a step is given, so that imagined words stop it nowhere and nobody's own code is run."""
    if not isinstance(given, JudgeConfig):
        return given
    if given.function is not None:
        return RANDOM
    return given.model_copy(update={"max_unscored": 1.0})


def _state(
    folder: Path, make: Callable[..., object], inputs: Sequence[object]
) -> Literal["to do", "begun", "done", "stale"]:
    """Compare a step's folder with the code and settings that it would be made by now.

    Whether the rows and models that it was made from are still the same shows in the run alone.
    """
    if not (folder / "step.json").exists():
        return "to do"
    told = read_json(folder / "step.json")
    wanted = inputs_of(make, [i if isinstance(i, _SETTINGS) else None for i in inputs])
    same = told["made_by"].rpartition(".")[2] == code_name(make) and all(
        told["inputs"].get(name) == value for name, value in wanted.items() if value is not None
    )
    if not same:
        return "stale"
    return "done" if (folder / "done.json").exists() else "begun"


def _first_line(make: Callable[..., object]) -> str:
    """Say in a line what a step does."""
    said = (getdoc(make) or make.__name__).partition("\n")[0].replace("`", "")
    return re.split(r"[;:.(]", said, maxsplit=1)[0].strip()
