"""Weights in few bits: of the frozen base of adapters (bitsandbytes), and of a model that is only read (torchao).

nf4    four bits, sixteen values of unequal distance, a scale for every 64 weights, the scales rounded, too
       (Dettmers et al. 2023, QLoRA, Sec. 3)
int8   eight bits, a scale for every row of a layer; products are of the numbers that come out, in the precision
       that is computed in

Linear layers alone are rounded. Embeddings, norms, the output layer and the head of a classifier stay as they are.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal

from selfimprove.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["in_eight_bits", "in_four_bits", "is_plain", "made_in", "need_for"]

_PACKAGES: Final = {"nf4": "bitsandbytes", "int8": "torchao"}


def need_for(tree: object) -> None:
    """Raise unless everything is installed that rounds weights as a recipe says.

    Args:
        tree: of the recipe, plain values.

    Raises:
        ConfigError: something is not.
    """
    if isinstance(tree, dict) and tree.get("quantization"):
        _need(tree["quantization"])
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for part in parts:
        need_for(part)


def _need(quantization: str) -> None:
    package = _PACKAGES[quantization]
    if find_spec(package) is None:
        raise ConfigError(
            f"quantization={quantization} needs {package}, which is not installed: pip install "
            "'selfimprove[quantized]', in a checkout '.[quantized]'"
        )


def in_four_bits(computes: torch.dtype) -> Any:  # noqa: ANN401
    """Return what transformers is told to load linear layers in four bits.

    Args:
        computes: the precision of their products.

    Raises:
        ConfigError: bitsandbytes is not installed.
    """
    _need("nf4")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=computes,
    )


def in_eight_bits(model: Any) -> Any:  # noqa: ANN401
    """Round the linear layers of a model, which must not be trained afterwards, and return it.

    Raises:
        ConfigError: torchao is not installed.
    """
    _need("int8")
    rounding: Any = import_module("torchao.quantization")
    # The body alone: neither the output layer, which may be the embedding, nor the head of a classifier.
    rounding.quantize_(model.base_model, rounding.Int8WeightOnlyConfig())
    return model


def made_in(quantization: Literal["int8"] | None) -> dict[str, str]:
    """Return what a model's identity says of it."""
    return {"quantization": f"int8 by torchao {version('torchao')}"} if quantization else {}


def is_plain(part: torch.nn.Module) -> bool:
    """Tell whether a part is a linear map with ordinary weights, which may be laid out anew.

    Adapters and four bits are other classes of layers, eight bits another class of weights.
    """
    import torch

    return type(part) is torch.nn.Linear and type(part.weight.data) is torch.Tensor
