"""What a run with LoRA learned, as adapters of its base: taken out of the difference of their weights.

Every stage merges its adapters (docs/adr/0002). The sum of all that were merged is a matrix of low rank
again, so a singular value decomposition gives it back, whatever the number of stages: exact but for the
rounding of the merged weights to float32, which is the yardstick of what counts as zero here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from selfimprove.errors import TrainingError
from selfimprove.files import write_json

if TYPE_CHECKING:
    import torch

__all__ = ["Pair", "low_rank", "write_adapter"]

_ROUNDED: Final = 2.0**-24  # of a float32, relative, at most
_STAGES: Final = 4.0  # roundings on the way, each of which adds its own
_FIRST: Final = 16
_MOST: Final = 512


class Pair(NamedTuple):
    """A matrix of low rank, B @ A."""

    a: torch.Tensor
    """[rank, columns]"""
    b: torch.Tensor
    """[rows, rank]"""


def write_adapter(model: Path, base: Path, out: Path, name: str, revision: str | None) -> int:
    """Write a PEFT folder that makes `model` of `base`; return its rank.

    Args:
        model: with float32 weights, as the run's last stage wrote them.
        base: what the run began with.
        out: the folder to write, which is there.
        name: of the base, a hub id where it has one.
        revision: of that hub id.

    Raises:
        TrainingError: more than linear layers changed, or by more than adapters could; or nothing did.
    """
    import torch
    from safetensors.torch import save_file

    pairs = dict(_pairs(model, base))
    if not pairs:
        raise TrainingError(f"{model} has the weights of its base: there is no adapter to write")
    rank = max(pair.a.shape[0] for pair in pairs.values())
    tensors: dict[str, torch.Tensor] = {}
    for weight, pair in pairs.items():
        layer = f"base_model.model.{weight.removesuffix('.weight')}"
        pad = rank - pair.a.shape[0]
        padded_a = torch.nn.functional.pad(pair.a, (0, 0, 0, pad))
        padded_b = torch.nn.functional.pad(pair.b, (0, pad))
        tensors[f"{layer}.lora_A.weight"] = padded_a.contiguous()
        tensors[f"{layer}.lora_B.weight"] = padded_b.contiguous()
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    write_json(out / "adapter_config.json", _config(pairs, rank, name, revision))
    for file in (*model.glob("tokenizer*"), *model.glob("*.jinja")):
        shutil.copy(file, out)
    return rank


def _config(pairs: dict[str, Pair], rank: int, name: str, revision: str | None) -> dict[str, Any]:
    layers = sorted({weight.removesuffix(".weight") for weight in pairs})
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": name,
        "revision": revision,
        "r": rank,
        "lora_alpha": rank,  # the pairs hold their own scale
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": layers,
    }


def _pairs(model: Path, base: Path) -> Iterator[tuple[str, Pair]]:
    """Yield every weight that changed, by name, as two thin matrices."""
    with ExitStack() as stack:
        before = _opened(base, stack)
        for name, source in _opened(model, stack).items():
            if name not in before:
                raise TrainingError(f"{model} has weights {name} that its base {base} lacks")
            exact, start = source.get_tensor(name).float(), before[name].get_tensor(name).float()
            change = exact - start
            if not change.any():
                continue
            pair = low_rank(change, exact) if change.ndim == 2 and "embed" not in name else None
            if pair is None:
                raise TrainingError(
                    f"{model} was not trained with adapters alone: {name} changed as no adapter changes "
                    "it. Export it whole, with --format hf; a run with `lora` set can be exported so"
                )
            yield name, pair


def _opened(folder: Path, stack: ExitStack) -> dict[str, Any]:
    from safetensors import safe_open

    files = [stack.enter_context(safe_open(f, framework="pt"))
             for f in sorted(folder.glob("*.safetensors"))]  # fmt: skip
    return {name: file for file in files for name in file.keys()}  # noqa: SIM118


def low_rank(change: torch.Tensor, exact: torch.Tensor) -> Pair | None:
    """Return two thin matrices whose product is `change` up to the rounding of `exact`.

    Both have the shape [rows, columns]. None: no rank that is worth having gives it.
    """
    import torch

    allowed = _STAGES * _ROUNDED * float(exact.norm())
    change = change.double()  # the rest of a norm is a difference of squares
    total = float(change.norm())
    width = min(change.shape)
    asked = _FIRST
    torch.manual_seed(0)  # svd_lowrank draws; only how well it fits could depend on it
    while True:
        asked = min(asked, width)
        u, s, v = torch.svd_lowrank(change, q=asked, niter=4)
        left = (total**2 - torch.cumsum(s**2, 0)).clamp(min=0).sqrt()
        enough = (left <= allowed).nonzero()
        if len(enough):
            rank = int(enough[0]) + 1
            root = s[:rank].sqrt()
            return Pair((v[:, :rank] * root).T.float(), (u[:, :rank] * root).float())
        if asked >= min(width // 2, _MOST):
            return None
        asked *= 2
