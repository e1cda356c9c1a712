"""How a model is trained: the part of a config that every training shares."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from selfimprove.config import Config

__all__ = ["LoraConfig", "ParallelConfig", "TrainingConfig", "piece_tokens"]


# Activations that stay in a CPU's cache are worth more than wide matrices.
_PIECE_TOKENS: Final = {"cpu": 2_048, "cuda": 16_384}


class LoraConfig(Config):
    """Low-rank adapters; merged into the weights at the end."""

    r: int = Field(default=16, ge=1)
    """Rank."""
    alpha: int = Field(default=32, ge=1)
    """The adapter counts alpha / r times."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that is dropped, in SFT and of reward models. Preference training
    and RL compare probabilities with a reference's, and drop nothing."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Which layers get one; all-linear: every one but the output layer."""
    quantization: Literal["nf4"] | None = None
    """nf4: hold the frozen linear layers in four bits while adapters learn around them (QLoRA; extra
    `quantized`); adapters are merged into the base's own weights all the same. None: as they are."""

    later: ClassVar[frozenset[str]] = frozenset({"quantization"})


class ParallelConfig(Config):
    """How the processes of a training hold its model; no step is made anew for it."""

    fsdp: Literal["auto"] | bool = "auto"
    """Share weights, gradients and moments out over the processes (FSDP2) instead of a copy in each (DDP);
    auto: where a copy would fill more than seven tenths of a GPU."""
    cpu_offload: bool = False
    """Keep what is shared out in the memory of the host, and bring it to the GPU layer by layer."""


class TrainingConfig(Config):
    """What every training is told; the defaults are LMSI's (Sec. 4) where the paper gives one."""

    learning_rate: float = Field(default=5e-5, gt=0)
    """Highest learning rate. LMSI: 5e-5."""
    batch_size: int = Field(default=32, ge=1)
    """Examples per optimiser step. LMSI: 32."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the examples. The paper gives steps instead."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps, instead of `epochs`. LMSI: 10,000."""
    piece_tokens: int | None = Field(default=None, ge=1)
    """Tokens computed at once, for memory and speed alone; None: 2,048 on a CPU, else 16,384."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes down after the warm-up."""
    warmup_frac: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps in which the learning rate goes up."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the arithmetic; auto: bfloat16 on a GPU that has it, and on a CPU with AMX from a hidden size
    of 256. The weights themselves are float32 all the same."""
    gradient_checkpointing: bool = False
    """Compute activations twice to keep fewer of them: for models that fill the memory."""
    save_every: int = Field(default=200, ge=1)
    """Steps between checkpoints, of which two are kept."""
    lora: LoraConfig | None = None
    """Train adapters and merge them; None: all weights."""
    parallel: ParallelConfig = Field(default_factory=ParallelConfig)
    """How several processes share the model."""

    @property
    def four_bits(self) -> bool:
        """Whether the weights that adapters are trained around are held in four bits."""
        return self.lora is not None and self.lora.quantization == "nf4"

    @model_validator(mode="before")
    @classmethod
    def _rounds_what_is_frozen(cls, tree: Any) -> Any:  # noqa: ANN401  whatever was given
        if isinstance(tree, dict) and "quantization" in tree:
            raise ValueError(
                "quantization: weights of four bits cannot be trained, only adapters around them: set "
                "lora.quantization=nf4"
            )
        return tree

    @model_validator(mode="after")
    def _rounds_whole_weights(self) -> Self:
        if self.four_bits and self.parallel.fsdp is True:
            raise ValueError(
                "parallel.fsdp=true with lora.quantization: four-bit weights are not shared out; each process "
                "holds all of them (parallel.fsdp=false)"
            )
        return self

    def identifying(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Leave out what says where a model is held while it learns, not what it learns."""
        told = super().identifying(tree)
        told.pop("parallel", None)
        return told


def piece_tokens(config: TrainingConfig, device: str | None = None) -> int:
    """Return the tokens of a pass: what a recipe says, or what suits a kind of device; None: the one here."""
    from selfimprove.sampling.loading import pick_device  # needs torch

    return config.piece_tokens or _PIECE_TOKENS[device or pick_device("auto").type]
