"""Writes the shipped tiny model as a GGUF file, the way llama.cpp's converter does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, dequantize, quantize
from safetensors.torch import load_file

from selfimprove.tiny.shipped import folder

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_HEADS = 4
_OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
_IN_LAYER = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def tiny_weights() -> dict[str, np.ndarray[Any, Any]]:
    """Return the shipped weights in float32, by their Hugging Face names."""
    found = load_file(folder() / "model.safetensors")
    return {name: tensor.float().numpy() for name, tensor in found.items()}


def unpacked(weights: np.ndarray[Any, Any], kind: GGMLQuantizationType) -> np.ndarray[Any, Any]:
    """Return what a file of this kind still knows of some weights, as gguf itself unpacks it."""
    packed: np.ndarray[Any, Any] = dequantize(quantize(weights, kind), kind)
    return packed


def write_gguf(
    path: Path,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    *,
    architecture: str = "llama",
    without: str = "",
    **fields: Any,
) -> Path:
    """Write the model to `path`: matrices in `kind`, norms in float32, all but the tensor `without`.

    `fields` are written as they are, with their dots as double underscores.
    """
    writer = GGUFWriter(path, architecture)
    writer.add_name("Tiny")
    _add_shape(writer)
    _add_tokenizer(writer)
    for name, value in fields.items():
        key = name.replace("__", ".")
        add = writer.add_uint32 if isinstance(value, int) else writer.add_string
        add(key, value)
    for name, weights in tiny_weights().items():
        if _renamed(name) == without:
            continue
        rows = _permuted(weights) if name.endswith(("q_proj.weight", "k_proj.weight")) else weights
        as_stored = kind if rows.ndim == 2 else GGMLQuantizationType.F32
        writer.add_tensor(_renamed(name), quantize(rows, as_stored), raw_dtype=as_stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_shape(writer: GGUFWriter) -> None:
    config = json.loads((folder() / "config.json").read_text())
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _add_tokenizer(writer: GGUFWriter) -> None:
    told = json.loads((folder() / "tokenizer.json").read_text())
    vocab = told["model"]["vocab"] | {t["content"]: t["id"] for t in told["added_tokens"]}
    control = {t["content"] for t in told["added_tokens"]}
    tokens = [f"[PAD{i}]" for i in range(tiny_weights()["model.embed_tokens.weight"].shape[0])]
    for token, number in vocab.items():
        tokens[number] = token
    kinds = [
        TokenType.CONTROL if t in control else TokenType.NORMAL if t in vocab else TokenType.UNUSED
        for t in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in told["model"]["merges"]])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    writer.add_eos_token_id(vocab["<|end|>"])


def _renamed(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    if stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.{suffix}"
    _, _, layer, *rest = stem.split(".")
    return f"blk.{layer}.{_IN_LAYER['.'.join(rest)]}.{suffix}"


def _permuted(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Put the rows of a query or key matrix in the order of llama.cpp's rotary embedding."""
    rows, columns = weights.shape
    halves = weights.reshape(_HEADS, 2, rows // _HEADS // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
