"""What a run needs of a machine's memory, from each model's own config.json: no weight is read.

Bounds, in bytes, of what is held at once in one stage: P parameters, A of adapters (LoRA), D bytes a
number of the arithmetic, T tokens of a piece.

    weights      4 P and, where a rounded copy computes, D P; with adapters D P + 4 A; to draw, D P
                 and on a CPU with AMX what lies packed beside it; of linear layers in four bits 0.52 and
                 in eight bits 1 in place of D
    optimiser    8 P, or 8 A: Adam's two moments
    gradients    4 P, or 4 A; those of a step of one pass take the place of its activations
    beside       other models: under RL the reference and the reward model
    cache        keys and values of `engine.max_batch_tokens` tokens
    activations  of T tokens through every layer, or of one layer with gradient checkpointing, and
                 logits over the vocabulary. On a CPU with what a layer computes on the way: where it was
                 given back lies between what is kept, and the C library does not return that
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import BATCH_TOKENS, MAX_ROWS, READ_TOKENS, EngineConfig
from selfimprove.training.dpo import DpoConfig
from selfimprove.training.policy_config import PolicyGradientConfig
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.training_config import TrainingConfig, piece_tokens

if TYPE_CHECKING:
    import torch

__all__ = ["LIBRARIES", "Need", "Shape", "adapter_weights", "cache_bytes", "machine", "sampling",
           "shape_of", "training"]  # fmt: skip

LIBRARIES: Final = 700 * 2**20
"""Of torch and the libraries above it in a process that trains, without any model (measured)."""

_FLOAT: Final = 4
_ADAM: Final = 8  # two float32 moments a parameter
_NF4: Final = (
    1 / 2 + (1 + _FLOAT / 256) / 64
)  # a scale of a byte for 64 weights, one of float32 for 256 scales
_LOGITS: Final = 3 * _FLOAT  # logits, their float32 copy, and its gradient or its probabilities


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides its memory."""

    parameters: int
    layers: int
    hidden: int
    inner: int
    """Width of the feed-forward layer, of all experts that see a token together."""
    heads: int
    context: int
    """Tokens it can attend to at most."""
    keys_values: int
    """Numbers in the cache a token and layer."""
    vocabulary: int
    linear: tuple[tuple[str, int, int], ...]
    """Name and both widths of each linear layer but the output layer."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one stage holds at once, in bytes."""

    stage: str
    weights: int
    gradients: int = 0
    optimiser: int = 0
    beside: int = 0
    cache: int = 0
    activations: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return (self.weights + self.gradients + self.optimiser + self.beside + self.cache
                + self.activations)  # fmt: skip


@cache
def shape_of(folder: Path) -> Shape:
    """Read the shape of a model from its config.json; its weights need not be there.

    Raises:
        EngineError: the config is damaged or of an unknown architecture.
    """
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
    )

    from selfimprove.sampling.loading import UNREADABLE

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        judges = "SequenceClassification" in str(config.architectures)
        kind: Any = AutoModelForSequenceClassification if judges else AutoModelForCausalLM
        with torch.device("meta"):
            model = kind.from_config(config)
    except UNREADABLE as error:
        raise EngineError(f"cannot read the shape of the model in {folder}: {error}") from error
    return _shape(model, config.get_text_config())


def _shape(model: Any, text: Any) -> Shape:  # noqa: ANN401  a model on the meta device, its config
    import torch
    from transformers.pytorch_utils import Conv1D

    from selfimprove.sampling.loading import head_size

    head = model.get_output_embeddings()
    linear = [
        (name, *layer.weight.shape)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear | Conv1D) and layer is not head
    ]
    heads = text.num_attention_heads
    groups = getattr(text, "num_key_value_heads", None) or heads
    experts = getattr(text, "num_experts_per_tok", None) or 1
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        inner=(getattr(text, "intermediate_size", None) or 4 * text.hidden_size) * experts,
        heads=heads,
        context=getattr(text, "max_position_embeddings", None) or READ_TOKENS,
        keys_values=2 * groups * head_size(text),
        vocabulary=text.vocab_size,
        linear=tuple(linear),
    )


def adapter_weights(shape: Shape, config: TrainingConfig) -> int:
    """Return how many numbers LoRA trains: rank x (inputs + outputs) of every layer that gets one."""
    if config.lora is None:
        return 0
    chosen = config.lora.target_modules
    names = (chosen,) if isinstance(chosen, str) else chosen
    return config.lora.r * sum(
        one + other
        for name, one, other in shape.linear
        if names == ("all-linear",) or name.rpartition(".")[2] in names
    )


def sampling(
    stage: str, shape: Shape, engine: EngineConfig, *, cached: bool = True
) -> Iterator[Need]:
    """Yield what drawing from a model holds; nothing where a server elsewhere does it.

    Without a cache, it is a reward model's: texts are read and no token is chosen.
    """
    if engine.server is not None and engine.server.url is not None:
        return
    device, number = machine(engine.device, engine.dtype, shape)
    if engine.kind == "ray":
        stage, engine = f"{stage}, each replica", engine.of_a_replica
    if engine.server is not None or engine.kind == "vllm":
        yield Need(f"{stage}, by the server (its cache is its own)", number * shape.parameters)
        return
    read = READ_TOKENS * (4 * shape.hidden + 3 * shape.inner) * number
    yield Need(
        stage,
        weights=_rounded(shape, number, 1)
        if engine.quantization
        else number * (shape.parameters + (_packed(shape, device, number) if cached else 0)),
        cache=cache_bytes(shape, engine) if cached else 0,
        activations=read + (MAX_ROWS[device.type] * shape.vocabulary * _LOGITS if cached else 0),
    )


def _rounded(shape: Shape, number: int, each: float) -> int:
    """Return the bytes of a model whose linear layers take `each` bytes a weight, and all else `number`."""
    linear = sum(one * other for _, one, other in shape.linear)
    return round(each * linear) + number * (shape.parameters - linear)


def _packed(shape: Shape, device: torch.device, number: int) -> int:
    """Return how many weights lie in the memory twice at most.

    Queries, keys and values are one product; an output layer may be the embedding, too.
    """
    from selfimprove.sampling.arithmetic import cpu_bfloat16

    if device.type != "cpu" or number == _FLOAT or cpu_bfloat16() != "AMX":
        return 0
    joined = sum(
        one * other
        for name, one, other in shape.linear
        if name.endswith(("q_proj", "k_proj", "v_proj"))
    )
    return joined + shape.vocabulary * shape.hidden


def cache_bytes(shape: Shape, engine: EngineConfig) -> int:
    """Return the size of the cache at its fullest; a GPU whose memory is free may be given more."""
    _, number = machine(engine.device, engine.dtype, shape)
    return (engine.max_batch_tokens or BATCH_TOKENS) * shape.layers * shape.keys_values * number


def training(  # noqa: PLR0913  a training, what is held beside it, and where
    stage: str,
    shape: Shape,
    config: TrainingConfig,
    longest: int,
    *,
    beside: int = 0,
    cache: int = 0,
    on: str = "auto",
) -> Need:
    """Return what a training of the model holds, on rows of up to `longest` tokens.

    `beside` other models of its size are held, too; `on` names the device, `cuda` one that is not here.
    """
    device, number = machine(on, config.dtype, shape)
    adapters = adapter_weights(shape, config)
    lora = config.lora is not None
    trained = adapters if lora else shape.parameters
    stored = (number if lora else _FLOAT) * shape.parameters
    if config.four_bits:
        stored = _rounded(shape, number, _NF4)
    rounded = number * shape.parameters if number < _FLOAT and not lora else 0
    longest = min(longest, shape.context)
    # A prefix that rows share is among the tokens of a piece.
    tokens = max(piece_tokens(config, device.type), _together(config) * longest)
    # Only a CPU keeps the probabilities of attention, which a fused kernel computes again.
    seen = longest if device.type == "cpu" else 0
    activations = tokens * _a_token(shape, config, number, seen)
    gradients = _FLOAT * trained
    if _rows_of_a_step(config) * longest <= tokens:
        # All activations are there before the first gradient, and all gradients behind the last of them.
        gradients = max(gradients - activations, 0)
    return Need(
        stage,
        weights=stored + rounded + _FLOAT * adapters,
        gradients=gradients,
        optimiser=_ADAM * trained,
        beside=beside * stored,
        cache=cache,
        activations=activations,
    )


def _rows_of_a_step(config: TrainingConfig) -> int:
    """Return how many rows teach before the weights change: those of a batch, each pair or draw counted."""
    return config.batch_size * _together(config)


def _together(config: TrainingConfig) -> int:
    """Return how many rows a pass never parts: draws of a prompt, a pair, the four gaps of a preference."""
    if isinstance(config, PolicyGradientConfig):
        return config.n
    if isinstance(config, RewardConfig):
        return 4
    return 2 if isinstance(config, DpoConfig) else 1


def _a_token(shape: Shape, config: TrainingConfig, number: int, seen: int) -> int:
    """Bytes that one token of a piece keeps for the backward pass; `seen` keys, on a CPU alone."""
    # Inputs and outputs of both norms, queries, and what attention returns; keys and values; gate, up and
    # their product.
    numbers = 6 * shape.hidden + shape.keys_values + 3 * shape.inner + shape.heads * seen
    if seen:
        # Queries and keys before they are rotated and the three parts of the rotation, what attention
        # returns before it is laid out, and what attention and feed-forward layer add.
        layer = (numbers + 7 * shape.hidden + 2 * shape.keys_values) * number
    else:
        # A GPU's norms and gates are not ours: float32 copies, two more sums, and the gate's activation.
        layer = (numbers + 2 * shape.hidden + shape.inner) * number + 2 * _FLOAT * shape.hidden
    kept = shape.layers * layer
    if config.gradient_checkpointing:
        kept = shape.layers * shape.hidden * number + layer
    # A reward model ends in one number instead. Only a CPU (`seen`) widens few logits at a time: it keeps
    # them and their gradient, in the precision of the model.
    logits = 2 * number if seen else _LOGITS
    return kept if isinstance(config, RewardConfig) else kept + shape.vocabulary * logits


def machine(device: str, dtype: Any, shape: Shape) -> tuple[torch.device, int]:  # noqa: ANN401
    """Return where a model computes, and the bytes of a number there."""
    import torch

    if device == "cuda":  # whether or not there is one here
        return torch.device(device), _FLOAT if dtype == "float32" else torch.bfloat16.itemsize
    from selfimprove.sampling.arithmetic import arithmetic_of
    from selfimprove.sampling.loading import pick_device

    where = pick_device(device)
    return where, arithmetic_of(dtype, where, shape.hidden).torch_dtype.itemsize
