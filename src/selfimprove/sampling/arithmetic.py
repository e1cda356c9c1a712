"""In which precision a processor computes fast: on a CPU bfloat16 where it has AMX, else float32.

A CPU without AMX or AVX512-BF16 emulates bfloat16, several to many times slower than float32; with
AVX512-BF16 alone it was slower, too; and a narrow model gains nothing by it anywhere. The rule depends on processor and model alone, never on a timing, so that a
run is computed alike each time. Figures: docs/engines.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import torch

from selfimprove.errors import EngineError

__all__ = ["WIDE", "Arithmetic", "arithmetic_of", "cpu_bfloat16", "hidden_size", "width_of"]

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]

WIDE: Final = 256
"""Hidden size from which bfloat16 is faster on a CPU with AMX."""


class Arithmetic(NamedTuple):
    """A precision, and why it is computed in."""

    dtype: Dtype
    why: str

    def __str__(self) -> str:
        """Say both."""
        return f"{self.dtype}: {self.why}"

    @property
    def torch_dtype(self) -> torch.dtype:
        """The same, as torch names it."""
        named: torch.dtype = getattr(torch, self.dtype)
        return named


def arithmetic_of(
    dtype: Literal["auto"] | Dtype, device: torch.device, width: int | None
) -> Arithmetic:
    """Return the precision that is computed in on `device`.

    Args:
        dtype: the precision asked for; auto: the fast one.
        device: where.
        width: the model's hidden size; None: not known.
    """
    if dtype != "auto":
        return Arithmetic(dtype, "asked for")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Arithmetic("bfloat16", "the GPU multiplies bfloat16")
        return Arithmetic("float32", "the GPU has no bfloat16")
    unit = cpu_bfloat16()
    if unit is None:
        return Arithmetic("float32", "this CPU only emulates bfloat16")
    if unit == "AVX512-BF16":
        return Arithmetic("float32", "bfloat16 is slower by AVX512-BF16 without AMX")
    if width is None or width < WIDE:
        return Arithmetic("float32", f"AMX gains nothing below a hidden size of {WIDE}")
    return Arithmetic("bfloat16", "AMX multiplies bfloat16")


def width_of(folder: Path) -> int | None:
    """Return the hidden size of the model in a folder; None where its config does not say.

    Raises:
        EngineError: the folder's config cannot be read.
    """
    from transformers import AutoConfig

    from selfimprove.sampling.loading import UNREADABLE

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise EngineError(f"cannot read the config of {folder}: {error}") from error
    return hidden_size(config)


def hidden_size(config: Any) -> int | None:  # noqa: ANN401  of any model of transformers
    """Return the hidden size of a model with this config; None where it does not say."""
    return getattr(config.get_text_config(), "hidden_size", None)


def cpu_bfloat16() -> Literal["AMX", "AVX512-BF16"] | None:
    """Return the unit by which this CPU multiplies bfloat16, as torch and oneDNN may use it.

    Both can be told to make do with less (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA), which counts.
    """
    if not torch.backends.mkldnn.is_available():
        return None
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return None
    if torch.cpu._is_amx_tile_supported() and _may_use("AMX"):
        return "AMX"
    if torch.cpu._is_avx512_bf16_supported() and _may_use("BF16"):
        return "AVX512-BF16"
    return None


# Instruction sets by oneDNN's names, least first; each holds those before it.
_SETS: Final = (
    "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI",
    "AVX512_CORE_BF16", "AVX10_1_512", "AVX512_CORE_FP16", "AVX10_1_512_AMX", "AVX512_CORE_AMX",
    "AVX10_1_512_AMX_FP16", "AVX512_CORE_AMX_FP16",
)  # fmt: skip
_LEAST: Final = {"BF16": "AVX512_CORE_BF16", "AMX": "AVX10_1_512_AMX"}


def _may_use(unit: Literal["AMX", "BF16"]) -> bool:
    most = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT"
    if most.upper() not in _SETS:  # DEFAULT, or a newer one
        return True
    return _SETS.index(most.upper()) >= _SETS.index(_LEAST[unit])
