"""The tensors of a Hugging Face folder by llama.cpp's names, read and packed one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from selfimprove.errors import EngineError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ARCHITECTURES", "GgufType", "write_weights"]

GgufType: TypeAlias = Literal["f32", "f16", "bf16", "q8_0"]

ARCHITECTURES: Final = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""From transformers' model types to llama.cpp's names."""

_TURNED: Final = ("llama", "mistral")  # llama.cpp turns neighbours of a head there, not its halves
_BLOCK: Final = 32  # numbers with one scale in q8_0


class _Tensor(NamedTuple):
    name: str
    """llama.cpp's."""
    shape: tuple[int, ...]
    kind: Any
    """As it is to be stored, a GGMLQuantizationType."""
    source: Any
    """The open safetensors file."""
    key: str
    heads: int
    """Whose rows are put in another order; 0: they stay."""


def write_weights(writer: Any, folder: Path, config: Any, kind: GgufType) -> None:  # noqa: ANN401
    """Write header and tensors of a GGUFWriter that holds everything else.

    Raises:
        EngineError: a tensor has no place in llama.cpp's model, or a number does not fit float16.
    """
    with ExitStack() as stack:
        tensors = list(_tensors(folder, config, kind, stack))
        for tensor in tensors:
            writer.add_tensor_info(tensor.name, *_stored(tensor), raw_dtype=tensor.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(_packed(folder, tensor))


def _tensors(
    folder: Path,
    config: Any,  # noqa: ANN401
    kind: GgufType,
    stack: ExitStack,
) -> Iterator[_Tensor]:
    from gguf import MODEL_ARCH, get_tensor_name_map
    from safetensors import safe_open

    architecture = MODEL_ARCH[ARCHITECTURES[config.model_type]]
    names = get_tensor_name_map(architecture, config.num_hidden_layers)
    for file in sorted(folder.glob("*.safetensors")):
        source = stack.enter_context(safe_open(file, framework="pt"))
        for key in source.keys():  # noqa: SIM118  no mapping
            if config.tie_word_embeddings and key == "lm_head.weight":
                continue
            name = names.get_name(key, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise EngineError(
                    f"{file}: llama.cpp's {architecture.name.lower()} model has no place for {key}: "
                    "export with --format hf"
                )
            shape = tuple(source.get_slice(key).get_shape())
            yield _Tensor(name, shape, _kind_of(shape, kind), source, key, _heads_of(key, config))


def _heads_of(key: str, config: Any) -> int:  # noqa: ANN401
    if config.model_type in _TURNED and ".q_proj." in key:
        return int(config.num_attention_heads)
    if config.model_type in _TURNED and ".k_proj." in key:
        return int(config.num_key_value_heads)
    return 0


def _kind_of(shape: tuple[int, ...], kind: GgufType) -> Any:  # noqa: ANN401
    """Return how a tensor is stored: norms and biases, and rows that do not divide, more exactly."""
    from gguf import GGMLQuantizationType

    if len(shape) < 2:
        return GGMLQuantizationType.F32
    if kind == "q8_0" and shape[-1] % _BLOCK:
        return GGMLQuantizationType.F16
    return GGMLQuantizationType[kind.upper()]


def _stored(tensor: _Tensor) -> tuple[tuple[int, ...], Any, int]:
    """Return shape, type and bytes as `GGUFWriter.add_tensor_info` wants them."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[tensor.kind]
    count = int(np.prod(tensor.shape))
    return tensor.shape, np.dtype(np.float32), count // block * size


def _packed(folder: Path, tensor: _Tensor) -> np.ndarray[Any, Any]:
    import numpy as np
    from gguf import quantize

    weights = tensor.source.get_tensor(tensor.key).float().numpy()
    if tensor.heads:
        weights = _as_neighbours(weights, tensor.heads)
    with np.errstate(over="ignore"):  # what does not fit is told below
        packed: np.ndarray[Any, Any] = quantize(np.ascontiguousarray(weights), tensor.kind)
    if packed.dtype == np.float16 and not np.isfinite(packed).all():
        raise EngineError(
            f"{folder}: {tensor.key} has numbers that float16 cannot hold: --dtype bf16 or f32"
        )
    return packed


def _as_neighbours(weights: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Put the two halves of each head's rows between each other, [rows, ...] in and out."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)
