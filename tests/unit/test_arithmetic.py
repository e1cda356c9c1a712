"""What `dtype: auto` computes in: by processor and model alone, in sampling and in training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from selfimprove.doctor import examine
from selfimprove.errors import EngineError
from selfimprove.sampling.arithmetic import WIDE, Arithmetic, arithmetic_of, cpu_bfloat16, width_of
from selfimprove.tiny.shipped import folder
from selfimprove.training.model_folder import arithmetic
from selfimprove.training.sft_config import SftConfig

_CPU, _GPU = torch.device("cpu"), torch.device("cuda")


def _cpu(monkeypatch: pytest.MonkeyPatch, *units: str, capability: str = "AVX512") -> None:
    """Pretend to be a CPU with these units."""
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "AMX" in units)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "BF16" in units)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("units", "capability", "found"),
    [
        (("AMX", "BF16"), "AVX512", "AMX"),
        (("BF16",), "AVX512", "AVX512-BF16"),  # Zen 4
        ((), "AVX512", None),  # Skylake, Cascade Lake
        ((), "AVX2", None),
        ((), "DEFAULT", None),  # no x86
        (("AMX", "BF16"), "AVX2", None),  # told to make do with AVX2
    ],
)
def test_a_cpu_multiplies_bfloat16_by_a_unit_of_its_own_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, units: tuple[str, ...], capability: str, found: str | None
) -> None:
    _cpu(monkeypatch, *units, capability=capability)
    assert cpu_bfloat16() == found


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("most", "found"),
    [
        ("AVX2", None),
        ("AVX512_CORE_VNNI", None),
        ("AVX512_CORE_BF16", "AVX512-BF16"),
        ("avx512_core_bf16", "AVX512-BF16"),
        ("AVX512_CORE_AMX", "AMX"),
        ("DEFAULT", "AMX"),
    ],
)
def test_onednn_may_be_told_to_leave_units_alone(
    monkeypatch: pytest.MonkeyPatch, variable: str, most: str, found: str | None
) -> None:
    _cpu(monkeypatch, "AMX", "BF16")
    monkeypatch.setenv(variable, most)
    assert cpu_bfloat16() == found


def test_auto_is_bfloat16_for_wide_models_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _cpu(monkeypatch, "AMX", "BF16")
    picked = {w: arithmetic_of("auto", _CPU, w).dtype for w in (128, WIDE - 1, WIDE, 576, 4096)}
    assert picked == {
        128: "float32", WIDE - 1: "float32", WIDE: "bfloat16", 576: "bfloat16", 4096: "bfloat16"
    }  # fmt: skip
    assert arithmetic_of("auto", _CPU, None).dtype == "float32"
    _cpu(monkeypatch, "BF16")
    assert arithmetic_of("auto", _CPU, 4096) == Arithmetic(
        "float32", "bfloat16 is slower by AVX512-BF16 without AMX"
    )
    _cpu(monkeypatch)
    assert arithmetic_of("auto", _CPU, 4096) == Arithmetic(
        "float32", "this CPU only emulates bfloat16"
    )


def test_what_is_asked_for_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    _cpu(monkeypatch)
    assert arithmetic_of("bfloat16", _CPU, 64) == Arithmetic("bfloat16", "asked for")
    _cpu(monkeypatch, "AMX", "BF16")
    assert arithmetic_of("float32", _CPU, 4096).dtype == "float32"
    assert arithmetic_of("float16", _GPU, 4096).torch_dtype == torch.float16


def test_training_picks_as_sampling_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    LlamaConfig(hidden_size=576, num_attention_heads=9).save_pretrained(tmp_path)
    assert (width_of(tmp_path), width_of(folder())) == (576, 128)
    _cpu(monkeypatch, "AMX", "BF16")
    assert arithmetic(SftConfig(), tmp_path).dtype == "bfloat16"
    assert arithmetic(SftConfig(), folder()).dtype == "float32"
    assert arithmetic(SftConfig(dtype="bfloat16"), folder()).dtype == "bfloat16"
    _cpu(monkeypatch)
    assert arithmetic(SftConfig(), tmp_path).dtype == "float32"


def test_a_folder_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"cannot read the config of {tmp_path}"):
        width_of(tmp_path)


def test_doctor_says_what_is_picked_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    _cpu(monkeypatch, "AMX", "BF16")
    told = examine("tiny")
    assert told["dtype auto"] == (
        "bfloat16: AMX multiplies bfloat16, from a hidden size of 256; else float32"
    )
    assert told["computed in"] == "float32: AMX gains nothing below a hidden size of 256"
    _cpu(monkeypatch)
    told = examine(None)
    assert told["dtype auto"] == "float32: this CPU only emulates bfloat16"
    assert "computed in" not in told


@pytest.mark.slow
def test_a_simulated_avx2_machine_computes_in_float32() -> None:
    """On whatever machine: the two variables are read when torch is loaded."""
    code = "from selfimprove.sampling.arithmetic import cpu_bfloat16; print(cpu_bfloat16())"
    told = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout.strip() == "None"
