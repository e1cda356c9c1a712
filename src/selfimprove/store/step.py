"""One step of a run: its identity checked on the way in, shards, `done.json` on the way out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from selfimprove.config import fingerprint
from selfimprove.errors import CorruptShardError, StaleStepError, StoreError
from selfimprove.files import make_folder, read_json, sha256_of, write_json, write_replacing
from selfimprove.own_code import code_name
from selfimprove.progress import begun
from selfimprove.provenance import circumstances, difference, inputs_of
from selfimprove.remote import told, whole
from selfimprove.rows import Batch, Funnel, Rows, decode, encode, rows_digest
from selfimprove.types import ModelRef

__all__ = ["Step", "places", "row_type", "trained_model"]

T = TypeVar("T")


def trained_model(folder: Path, base: ModelRef) -> ModelRef:
    """Return the model of a step that is done, as it is noted there."""
    digest = read_json(folder / "done.json")["digest"]
    return ModelRef(f"{base.name} + {folder.name}", str(folder / "model"), digest)


def places(folder: Path) -> dict[str, Path]:
    """Return where a training step writes its model, and where it leaves its checkpoints."""
    return {"out": folder / "model.partial", "checkpoints": folder / "checkpoints"}


class Step(Generic[T]):
    """One step's folder: identity checked on the way in, shards, done.json on the way out."""

    def __init__(
        self,
        folder: Path,
        announce: Callable[[str], None],
        publish: Callable[[Path], None],
        make: Callable[..., Any],
        inputs: tuple[object, ...],
    ) -> None:
        self.folder = folder
        self.name = folder.name
        self._make = make
        self._announce = announce
        self._publish = publish
        self._identity = {
            "made_by": code_name(make),
            "inputs": inputs_of(make, inputs),
        }
        self._refuse_if_stale()

    def _refuse_if_stale(self) -> None:
        path = self.folder / "step.json"
        if path.exists():
            found = read_json(path)
            # Up to 0.1 the module stood before the name, and modules move.
            found["made_by"] = found["made_by"].rpartition(".")[2]
            if found != self._identity:
                raise StaleStepError(
                    f"{told(self.folder)} was made from other inputs ({difference(found, self._identity)})"
                    ": start a new run with --out, or delete that folder to remake the step"
                )

    def claim(self) -> None:
        """Write down what the step is made from; other inputs are refused from here on."""
        path = self.folder / "step.json"
        if not path.exists():
            make_folder(self.folder)
            write_json(path, self._identity)
            self._publish(path)

    def begin(self, shards: int, *, done: int) -> None:
        """Write down how much is to be made, for those who watch; it goes when the step is done."""
        write_json(begun(self.folder), {"total": shards, "of": "shards", "done": done})

    def is_done(self) -> bool:
        """Whether the step is whole; say so to whoever watches."""
        done = (self.folder / "done.json").exists()
        self._announce(f"{self.name}: {'done, read back' if done else 'started'}")
        return done

    def _shard(self, index: int) -> Path:
        return self.folder / f"shard-{index:05d}.parquet"

    def has_shard(self, index: int) -> bool:
        """Whether a shard is whole."""
        return self._shard(index).with_suffix(".json").exists()

    def write_shard(self, index: int, batch: Batch[T], seconds: float) -> None:
        """Write one shard and, last, what it cost."""
        path = self._shard(index)
        write_replacing(path, encode(batch.rows, row_type(self._make)))
        about = {
            "sha256": sha256_of(path),
            "digest": rows_digest(batch.rows),
            "rows": len(batch.rows),
            "tokens_sampled": batch.tokens_sampled,
            "prompt_tokens": batch.prompt_tokens,
            "seconds": round(seconds, 3),
            "engine": dict(batch.engine),
        }
        # The sidecar comes second: a shard without one is a shard that was being written.
        write_json(path.with_suffix(".json"), about)
        self._publish(path.with_suffix(".json"))

    def finish(self, shards: int, funnels: Sequence[Funnel] = ()) -> None:
        """Say that all shards are there."""
        about = [read_json(self._shard(i).with_suffix(".json")) for i in range(shards)]
        engines = [a["engine"] for a in about if a["engine"]]
        done = {
            "digest": fingerprint([a["digest"] for a in about]),
            "shards": shards,
            "rows": sum(a["rows"] for a in about),
            "seconds": round(sum(a["seconds"] for a in about), 3),
            "tokens_sampled": sum(a["tokens_sampled"] for a in about),
            "prompt_tokens": sum(a["prompt_tokens"] for a in about),
            "funnels": [asdict(f) for f in funnels],
            # More than one where a resumed step was finished elsewhere.
            "engines": [told for i, told in enumerate(engines) if told not in engines[:i]],
            **circumstances(),
        }
        self._write_done(done)

    def _write_done(self, done: dict[str, Any]) -> None:
        write_json(self.folder / "done.json", done)
        begun(self.folder).unlink(missing_ok=True)
        self._publish(self.folder / "done.json")

    def read(self) -> Rows[T]:
        """Return the rows of all shards.

        Raises:
            CorruptShardError: a shard does not match its digest.
        """
        whole(self.folder, ("shard-*",))
        done = read_json(self.folder / "done.json")
        items: list[T] = []
        for index in range(done["shards"]):
            path = self._shard(index)
            _check(path, read_json(path.with_suffix(".json"))["sha256"])
            items.extend(decode(path, row_type(self._make)))
        return Rows(tuple(items), done["digest"], self.folder)

    def finish_model(self, trained: dict[str, Any], seconds: float) -> None:
        """Put the model that was written in its place, and say so."""
        from selfimprove.weights import weights_digest

        model = self.folder / "model"
        shutil.rmtree(model, ignore_errors=True)
        places(self.folder)["out"].rename(model)
        done = {
            "digest": weights_digest(model),
            "seconds": round(seconds, 3),
            "tokens_trained": trained["tokens"],
            "training": trained,
            **circumstances(),
        }
        self._write_done(done)
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)

    def read_model(self, base: ModelRef) -> ModelRef:
        """Return the step's model.

        Raises:
            CorruptShardError: the weights do not match their digest.
        """
        from selfimprove.weights import weights_digest

        whole(self.folder)
        found = trained_model(self.folder, base)
        if not Path(found.path).is_dir() or weights_digest(Path(found.path)) != found.digest:
            raise CorruptShardError(
                f"{found.path} does not hold the weights that were trained (digest "
                f"{found.digest[:12]}): delete {self.folder} to train them again"
            )
        return found


def _check(path: Path, expected: str) -> None:
    if not path.exists() or sha256_of(path) != expected:
        raise CorruptShardError(
            f"{path} is missing or was changed after it was written: delete it, its .json and "
            f"{path.parent / 'done.json'}; the next run remakes that shard alone"
        )


def row_type(make: Callable[..., Any]) -> type[Any]:
    """Read the row type from the annotation of what `make` returns: Batch[T], Filtered[T]."""
    returned: Any = get_type_hints(make).get("return")
    while args := get_args(returned):
        returned = args[0]
    if not hasattr(returned, "__dataclass_fields__"):
        raise StoreError(
            f"{make.__qualname__} must say which dataclass its rows are, e.g. -> Filtered[ReasoningPath]: "
            "they are stored by it"
        )
    return returned  # type: ignore[no-any-return]
