"""What leaves a run: a trained model in the precision it is used in, rounded once and measured so.

Between stages weights are float32. At a rate of 1e-6 most of what a stage changes is smaller than the
distance between two bfloat16 numbers; rounded after every stage, it would be lost each time. So a
model is rounded beside the line that goes on, and what is measured is the rounded one.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pydantic import Field

from selfimprove.config import Config
from selfimprove.errors import EngineError
from selfimprove.files import read_json, write_json
from selfimprove.remote import whole
from selfimprove.store import Run
from selfimprove.types import ModelRef

if TYPE_CHECKING:
    import torch

__all__ = [
    "Export",
    "ExportConfig",
    "Exported",
    "Exporter",
    "left_the_run",
    "round_weights",
    "stored_dtype",
]

_log = logging.getLogger(__name__)

Export: TypeAlias = Callable[[str, ModelRef], ModelRef]
"""From a step's name and the model it trained to that model as it leaves the run."""

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]

_NAMES: Final[dict[str, Dtype]] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_FEW: Final = 0.5  # of the weights that moved; below, what was learned is mostly rounded away


class ExportConfig(Config):
    """How trained models leave the run, and are measured."""

    dtype: Literal["auto"] | Dtype = Field(default="auto")
    """Of the weights; auto: as the weights of the base are stored. Stages go on from float32."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What rounding a model did."""

    dtype: str
    weights: int
    moved: int
    """Weights that are not the base's."""
    kept: int
    """Those of them that are not the base's after rounding, either."""
    tokens: int = 0
    """Trained on: none."""


@dataclass(frozen=True, slots=True)
class Exporter:
    """Rounds the models of a run."""

    steps: Run
    config: ExportConfig
    base: ModelRef
    """The model that the run's models began as."""
    _done: dict[str, ModelRef] = field(default_factory=dict)

    def __call__(self, name: str, model: ModelRef) -> ModelRef:
        """Return a trained model as it leaves the run: a step of its own where it is rounded.

        Raises:
            EngineError: the weights of the base have no precision that a model could be given.
        """
        dtype = (
            stored_dtype(Path(self.base.path)) if self.config.dtype == "auto" else self.config.dtype
        )
        if dtype == stored_dtype(Path(model.path)):
            return model
        if model.digest not in self._done:
            self._done[model.digest] = self.steps.model(f"{name}-export", round_weights, model,
                                                        self.base, dtype)  # fmt: skip
        return self._done[model.digest]


def left_the_run(root: Path, step: str) -> Path:
    """Return the folder of a step's model as it left the run: rounded, where it was.

    Two steps with the same weights, such as a policy that RL could not better and its start, left once.
    """
    rounded = root / f"{step}-export" / "model"
    if (rounded.parent / "done.json").exists():
        whole(rounded)
        return rounded
    own = read_json(root / step / "done.json")["digest"]
    for made in sorted(root.glob("*-export/step.json")):
        if read_json(made)["inputs"]["model"]["weights"] == own:
            whole(made.parent)
            return made.parent / "model"
    whole(root / step)
    return root / step / "model"


def round_weights(
    model: ModelRef, base: ModelRef, dtype: Dtype, *, out: Path, checkpoints: Path
) -> Exported:
    """Write `model` with weights of `dtype`, and count what is left of its distance to `base`."""
    import torch
    from safetensors.torch import load_file, save_file

    here, there = Path(model.path), getattr(torch, dtype)
    shutil.rmtree(checkpoints, ignore_errors=True)
    shutil.copytree(here, out, ignore=shutil.ignore_patterns("*.safetensors"))
    told = {"weights": 0, "moved": 0, "kept": 0}
    with ExitStack() as stack:
        before = _Weights(Path(base.path), stack)
        for file in sorted(here.glob("*.safetensors")):
            tensors = load_file(file)
            for name, exact in tensors.items():
                tensors[name] = exact.to(there) if exact.is_floating_point() else exact
                for key, count in _changes(exact, tensors[name], before.of(name)).items():
                    told[key] += count
            save_file(tensors, out / file.name, metadata={"format": "pt"})
    _declare(out, dtype)
    _warn_if_few(model, dtype, told)
    return Exported(dtype, **told)


def _changes(
    exact: torch.Tensor, rounded: torch.Tensor, before: torch.Tensor | None
) -> dict[str, int]:
    """Count the weights of a tensor that are not the base's, and those that rounding leaves so."""
    count = exact.numel()
    if before is None or before.shape != exact.shape:
        return {"weights": count}
    moved = exact != before.to(exact.dtype)
    kept = moved & (rounded != before.to(rounded.dtype))
    return {"weights": count, "moved": int(moved.sum()), "kept": int(kept.sum())}


class _Weights:
    """The weights of a folder, read one at a time."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        from safetensors import safe_open

        files = [stack.enter_context(safe_open(f, framework="pt"))
                 for f in folder.glob("*.safetensors")]  # fmt: skip
        self._files = {name: file for file in files for name in file.keys()}  # noqa: SIM118

    def of(self, name: str) -> torch.Tensor | None:
        return self._files[name].get_tensor(name) if name in self._files else None


def _declare(folder: Path, dtype: Dtype) -> None:
    """Write the precision into the folder's config, and the new size into its index."""
    config = read_json(folder / "config.json")
    for part in _parts(config):
        part["dtype"] = dtype
    write_json(folder / "config.json", config)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        told = read_json(index)
        told["metadata"]["total_size"] = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
        write_json(index, told)
    card = folder / "README.md"
    with card.open("a", encoding="utf-8") as file:
        file.write(f"\nWeights rounded from float32 to {dtype}, once.\n")


def _parts(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the config, and the configs within it that name a precision."""
    yield config
    for value in config.values():
        if isinstance(value, dict) and "dtype" in value:
            yield from _parts(value)


def _warn_if_few(model: ModelRef, dtype: Dtype, told: dict[str, int]) -> None:
    if told["kept"] < _FEW * told["moved"]:
        _log.warning(
            "%s: of %d weights that training moved, %.1f %% are the base's again in %s; with "
            "export.dtype=float32 all stay as they were learned",
            model.name, told["moved"], 100 * (1 - told["kept"] / told["moved"]), dtype,
        )  # fmt: skip


def stored_dtype(folder: Path) -> Dtype:
    """Return the precision that most weights of a folder are stored in.

    Raises:
        EngineError: the folder holds no weights in 16 or 32 bits.
    """
    sizes: dict[str, int] = {}
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        for name, about in header.items():
            if name != "__metadata__":
                first, last = about["data_offsets"]
                sizes[about["dtype"]] = sizes.get(about["dtype"], 0) + last - first
    most = max(sizes, key=lambda name: sizes[name], default="")
    if most not in _NAMES:
        raise EngineError(
            f"{folder}: weights stored as {most or 'nothing'} cannot be exported as such: name a "
            "precision, e.g. export.dtype=bfloat16"
        )
    return _NAMES[most]
