"""Loads a Hugging Face causal language model and its tokenizer: safetensors only, quietly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from selfimprove.errors import EngineError
from selfimprove.sampling.quantized import in_eight_bits, in_four_bits

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

__all__ = [
    "UNREADABLE",
    "check_folder",
    "context_length",
    "head_size",
    "load_model",
    "load_tokenizer",
    "made_by",
    "pick_device",
    "read_causal",
    "stop_tokens",
]


UNREADABLE: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError,
                     ZeroDivisionError, SafetensorError, StrictDataclassError)  # fmt: skip
"""What transformers raises for a folder with damaged or foreign files."""

_hf_logging: Any = transformers_logging  # its functions carry no types


def pick_device(name: str) -> torch.device:
    """Return the device that `EngineConfig.device` names.

    Raises:
        EngineError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise EngineError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; "
            "use device=cpu or device=auto"
        )
    return device


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds no model, or one in another format.

    Raises:
        EngineError: what is missing.
    """
    if not (folder / "config.json").is_file():
        raise EngineError(f"{folder} is no model folder: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise EngineError(
            f"{folder} has no *.safetensors; only safetensors weights are read: "
            "save the model again with safe_serialization=True"
        )


def load_model(
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    quantization: Literal["int8"] | None = None,
) -> Any:  # noqa: ANN401
    """Return the model of `folder` in evaluation mode on `device`, its weights as `dtype`.

    Args:
        folder: of the model.
        dtype: of weights and arithmetic.
        device: where it goes.
        quantization: of its linear layers, which are then only read.

    Raises:
        EngineError: the folder holds no causal language model.
        ConfigError: what rounds them is not installed.
    """
    model = read_causal(folder, dtype)
    # Rounded before it goes to the device, which need not have room for the rest.
    return (in_eight_bits(model) if quantization else model).to(device).eval()


def read_causal(folder: Path, dtype: torch.dtype, *, four_bits: bool = False) -> Any:  # noqa: ANN401
    """Return the model of `folder`, every weight of it from there.

    Args:
        folder: of the model.
        dtype: of weights and arithmetic.
        four_bits: hold linear layers in NF4, to train adapters around them.

    Raises:
        EngineError: the folder holds no causal language model, or lacks some of its weights.
        ConfigError: four bits are asked for, and what rounds to them is not installed.
    """
    rounding = {"quantization_config": in_four_bits(dtype)} if four_bits else {}
    loader: Any = AutoModelForCausalLM
    with _quiet():
        try:
            model, told = loader.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True,
                output_loading_info=True, **rounding,
            )  # fmt: skip
        except UNREADABLE as error:
            raise EngineError(f"cannot load a causal model from {folder}: {error}") from error
    missing = sorted(told["missing_keys"])
    if missing:  # transformers makes them up
        raise EngineError(
            f"{folder} lacks {len(missing)} weights of its architecture, such as {missing[0]}: it is "
            "no whole model; copy or save it again"
        )
    return model


def made_by(model: Any, weights: str) -> dict[str, str]:  # noqa: ANN401
    """Return what decides the bits that a loaded model computes; `weights` is their digest."""
    return {
        "version": version("selfimprove"),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "device": _name(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "weights": weights,
    }


def _name(device: torch.device) -> str:
    """Return a GPU's own name, or what the processor can do."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"


_TOO_LONG: Final = "sequence-length-is-longer-than-the-specified-maximum"


def load_tokenizer(folder: Path) -> Any:  # noqa: ANN401
    """Return the tokenizer of `folder`.

    Raises:
        EngineError: the folder holds none.
    """
    with _quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # tokenizers raises nothing narrower
            raise EngineError(f"cannot load a tokenizer from {folder}: {error}") from error
    # What is too long is shortened or refused here, and never reaches the model.
    tokenizer.deprecation_warnings[_TOO_LONG] = True
    return tokenizer


def stop_tokens(generation: Any, tokenizer: Any) -> list[int]:  # noqa: ANN401
    """Return every token that ends a text: the generation config's, else the tokenizer's."""
    found = generation.eos_token_id
    if found is None:
        found = tokenizer.eos_token_id
    if found is None:
        return []
    return [found] if isinstance(found, int) else list(found)


def context_length(config: Any) -> int | None:  # noqa: ANN401
    """Return how many tokens a model of this config can attend to; None: it sets no limit."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def head_size(config: Any) -> int:  # noqa: ANN401
    """Return how many numbers the key of one head has, by the model's text config."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading prints progress bars and advice that say nothing to who runs a recipe."""
    level, bars = _hf_logging.get_verbosity(), _hf_logging.is_progress_bar_enabled()
    _hf_logging.set_verbosity_error()
    _hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        _hf_logging.set_verbosity(level)
        if bars:
            _hf_logging.enable_progress_bar()
