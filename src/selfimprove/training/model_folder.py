"""The model that is trained: loaded with its precision stated, written as a plain folder.

Every folder holds float32 weights, whatever the arithmetic: the next stage goes on from what this one
learned, to the last bit. Weights are rounded once, by `export`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch
from transformers import set_seed

from selfimprove.errors import TrainingError
from selfimprove.sampling.arithmetic import Arithmetic, arithmetic_of, width_of
from selfimprove.sampling.loading import load_tokenizer, pick_device, read_causal, stop_tokens
from selfimprove.training.quiet import quietly
from selfimprove.training.training_config import LoraConfig, TrainingConfig

__all__ = ["adapted", "arithmetic", "load", "load_frozen", "merged", "save", "write",
           "write_once"]  # fmt: skip

_SHARD: Final = "4GB"  # a file of weights, which `export` reads at once

_CARD = """\
---
library_name: transformers
base_model: {base}
tags: [selfimprove, sft]
---
# Fine-tuned by selfimprove

Base: `{base}`. The loss was taken on completions alone. Made with {versions}.
"""


def arithmetic(config: TrainingConfig, base: Path) -> Arithmetic:
    """Return the precision that a training of `base` computes in, and why.

    Raises:
        EngineError: the folder holds no model.
    """
    return arithmetic_of(config.dtype, pick_device("auto"), width_of(base))


def load_frozen(base: Path, config: TrainingConfig, trainer: Any) -> Any:  # noqa: ANN401
    """Return the model of `base`, which `trainer` will read and never change.

    Its weights have the precision of those that are trained: rounded ones would be another model, and
    its distance from the policy that of the rounding.

    Raises:
        EngineError: the folder holds no causal language model or no tokenizer.
    """
    computes = torch.bfloat16 if trainer.args.bf16 else torch.float32
    stored = computes if trainer.computes_rounded else _stored(config, computes)
    model = read_causal(base, stored, four_bits=config.four_bits).requires_grad_(False)
    if not trainer.shared_out:
        model = model.to(trainer.accelerator.device)
    # Where it computes, and as the policy does there.
    trainer.lighten(model)
    return trainer.frozen(model.eval())


def load(base: Path, config: TrainingConfig, seed: int) -> tuple[Any, Any, list[int]]:
    """Return model, tokenizer and stop tokens of `base`, with adapters where they are asked for.

    Raises:
        EngineError: the folder holds no causal language model or no tokenizer.
        TrainingError: the model has no stop token.
    """
    tokenizer = load_tokenizer(base)
    computes = arithmetic(config, base).torch_dtype
    model = read_causal(base, _stored(config, computes), four_bits=config.four_bits)
    stop = stop_tokens(model.generation_config, tokenizer)
    if not stop:
        raise TrainingError(
            f"{base} names no end-of-sequence token: nothing would teach it to stop"
        )
    if tokenizer.eos_token_id in stop:  # the first is put behind texts that end in none
        stop = [tokenizer.eos_token_id, *(t for t in stop if t != tokenizer.eos_token_id)]
    set_seed(seed % 2**32)
    return (adapted(model, config.lora, "CAUSAL_LM") if config.lora else model), tokenizer, stop


def _stored(config: TrainingConfig, computes: torch.dtype) -> torch.dtype:
    """Full weights stay in float32: small updates would be lost in bfloat16. Frozen ones may be."""
    return computes if config.lora else torch.float32


def adapted(model: Any, lora: LoraConfig, task: str) -> Any:  # noqa: ANN401
    """Return the model with adapters that are to be trained; `task` is one of peft's.

    Raises:
        TrainingError: the model has no layers of the names that are to get some.
    """
    from peft import LoraConfig as PeftLora
    from peft import get_peft_model

    modules = lora.target_modules
    config = PeftLora(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type=task,
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise TrainingError(f"lora.target_modules={modules}: {error}") from error


def write_once(trainer: Any, base: Path, out: Path) -> None:  # noqa: ANN401
    """Write the model of a trainer that is done; of several processes the first one does it."""
    whole = trainer.whole_model()
    if trainer.is_world_process_zero():
        write(whole, base, out)
    trainer.accelerator.wait_for_everyone()


def write(model: Any, base: Path, out: Path) -> None:  # noqa: ANN401
    """Write float32 weights, tokenizer, chat template, generation config and card."""
    if hasattr(model, "merge_and_unload"):
        model = merged(model, lambda: read_causal(base, torch.float32))
    model.config.use_cache = True
    save(model, out)
    # Read anew: the trainer may have given its copy a padding token.
    load_tokenizer(base).save_pretrained(out)
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("torch", "transformers", "trl"))
    text = _CARD.format(base=base.name, versions=versions)
    (out / "README.md").write_text(text, encoding="utf-8")


def merged(model: Any, base: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return the model with its adapters merged into the base's own weights, in float32.

    The frozen weights it was trained around may be a copy of those, in bfloat16 or in four bits.

    Args:
        model: with adapters.
        base: reads its base in float32; asked only where some weights were rounded.
    """
    frozen = (p for p in model.parameters() if not p.requires_grad)
    if all(p.dtype == torch.float32 for p in frozen):
        return model.to("cpu").merge_and_unload()
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    exact = get_peft_model(base(), model.peft_config[model.active_adapter])
    set_peft_model_state_dict(exact, get_peft_model_state_dict(model))
    return exact.merge_and_unload()


def save(model: Any, out: Path) -> None:  # noqa: ANN401
    """Write weights, in float32, and config."""
    with quietly():
        model.to(torch.float32).save_pretrained(out, max_shard_size=_SHARD)
