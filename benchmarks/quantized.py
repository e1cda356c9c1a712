"""Weights in few bits beside whole ones: their memory, what adapters learn around them, what is read by them.

    python benchmarks/quantized.py                          # the shipped model, on the CPU
    python benchmarks/quantized.py --model smollm2-135m     # a real one; `selfimprove models get smollm2-135m` before

Memory is that of the loaded weights, counted. LoRA and QLoRA learn the same rows of the tiny world in the same
order; beside the loss around four bits stands that of the merged model, whose weights are whole, on the same held-out
rows. A model in int8 is asked about the same rows as the model itself: how far are the chances of the next token, and
how often do both hold the same one to be the likeliest. Needs the extra `quantized`. The last line is one of JSON.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import keep, say  # first: it imports selfimprove before torch

# isort: split
import torch

from selfimprove.data.preferences import read_preferences
from selfimprove.data.sources import Source
from selfimprove.models import locate
from selfimprove.sampling.loading import load_model, load_tokenizer
from selfimprove.training import model_folder
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import tokenise
from selfimprove.training.training_config import LoraConfig
from selfimprove.types import Example

_HELD_OUT = 16
_CPU = torch.device("cpu")


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--model", default="tiny")
    asked.add_argument("--steps", type=int, default=20)
    asked.add_argument("--batch", type=int, default=8)
    asked.add_argument("--json", type=Path)
    told = asked.parse_args()
    base = Path(locate(told.model).path)
    sources = [Source(source="train", format="tiny", limit=told.steps * told.batch + _HELD_OUT)]
    rows = [Example(p.prompt, p.chosen) for p in read_preferences(sources, 0).rows]
    trained, held_out = rows[:-_HELD_OUT], rows[-_HELD_OUT:]
    result = {"model": told.model, **_memory(base), "int8": _read_alike(base, held_out),
              "held_out_base": _loss(base, held_out)}  # fmt: skip
    for name, bits in (("lora", None), ("qlora", "nf4")):
        lora = LoraConfig.model_validate({"r": 8, "quantization": bits})
        config = SftConfig(learning_rate=1e-3, batch_size=told.batch, max_steps=told.steps,
                           dtype="float32", lora=lora)  # fmt: skip
        result[name] = _learned(base, trained, held_out, config)
        say(f"{name}: {result[name]}")
    keep(result, told.json)


def _memory(base: Path) -> dict[str, int]:
    """Bytes of the model's weights in float32, and with linear layers in NF4 and in int8."""
    found = {"float32": _bytes(load_model(base, torch.float32, _CPU).parameters())}
    config = SftConfig(dtype="float32", lora=LoraConfig(quantization="nf4"))
    model, *_ = model_folder.load(base, config, 0)
    frozen = [p for p in model.parameters() if not p.requires_grad]
    scales = [s for p in frozen if (s := getattr(p, "quant_state", None)) is not None]
    found["nf4"] = _bytes(frozen) + _bytes(t for s in scales for t in (s.absmax, s.state2.absmax))
    found["int8"] = _bytes(load_model(base, torch.float32, _CPU, "int8").parameters())
    for name, size in found.items():
        say(f"{name}: {size / 1e6:.1f} MB, {size / found['float32']:.2f} of float32")
    return {f"{name}_bytes": size for name, size in found.items()}


def _bytes(tensors: Any) -> int:  # noqa: ANN401
    """Bytes of tensors, of those that they are made of where they are."""
    found = 0
    for tensor in tensors:
        inner = getattr(tensor.data, "__tensor_flatten__", None)
        found += _bytes(getattr(tensor.data, n) for n in inner()[0]) if inner else tensor.nbytes
    return found


@torch.inference_mode()
def _logits(model: Any, base: Path, rows: list[Example]) -> list[torch.Tensor]:  # noqa: ANN401
    """Logits of every completion's tokens, a row at a time."""
    tokenizer = load_tokenizer(base)
    found = []
    for row in tokenise(rows, tokenizer, [tokenizer.eos_token_id], 512, None).rows:
        ids = torch.tensor([row.ids])
        found.append(model(input_ids=ids, use_cache=False).logits[0, row.prompt_tokens - 1 : -1])
    return found


def _read_alike(base: Path, rows: list[Example]) -> dict[str, float]:
    """How near the chances of a model in int8 are to those of the model, and how long both take."""
    models = {
        name: load_model(base, torch.float32, _CPU, bits)  # type: ignore[arg-type]
        for name, bits in (("float32", None), ("int8", "int8"))
    }
    seconds: dict[str, float] = {}
    found = {}
    for name in ("float32", "int8"):
        _logits(models[name], base, rows[:2])
        started = time.perf_counter()
        found[name] = torch.cat(_logits(models[name], base, rows))
        seconds[name] = time.perf_counter() - started
    exact, rounded = (found[name].log_softmax(-1) for name in ("float32", "int8"))
    told = {
        "kl_nats": (exact.exp() * (exact - rounded)).sum(-1).mean().item(),
        "same_likeliest": (exact.argmax(-1) == rounded.argmax(-1)).float().mean().item(),
        "tokens": float(len(exact)),
        "times_as_long": seconds["int8"] / seconds["float32"],
    }
    say(f"int8 beside float32: {told}")
    return told


def _learned(
    base: Path, trained: list[Example], held_out: list[Example], config: SftConfig
) -> dict[str, float]:
    """Losses of a training at its begin and end, of the merged model on held-out rows, and seconds."""
    with TemporaryDirectory() as root:
        out = Path(root) / "model"
        told = train_sft(base, trained, config, out=out, checkpoints=Path(root) / "c", seed=0)
        losses = {"held_out_merged": _loss(out, held_out)}
        if config.four_bits:
            losses["held_out_in_four_bits"] = _loss(out, held_out, rounded=base)
    return {"first": told.first_loss, "last": told.final_loss, **losses, "seconds": told.seconds}


def _loss(folder: Path, rows: list[Example], rounded: Path | None = None) -> float:
    """Loss of a model; `rounded` names the base whose share in its weights is rounded before."""
    model, tokenizer = load_model(folder, torch.float32, _CPU), load_tokenizer(folder)
    if rounded is not None:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        whole = load_model(rounded, torch.float32, _CPU).model
        for name, own in whole.named_parameters():
            if name.endswith("_proj.weight"):
                told = quantize_4bit(own.data, compress_statistics=True, quant_type="nf4")
                model.model.get_parameter(name).data += dequantize_4bit(*told) - own.data
    logits = _logits(model, folder, rows)
    given = tokenise(rows, tokenizer, [tokenizer.eos_token_id], 512, None).rows
    of = [torch.tensor(row.ids[row.prompt_tokens :]) for row in given]
    return torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat(of)).item()


if __name__ == "__main__":
    main()
