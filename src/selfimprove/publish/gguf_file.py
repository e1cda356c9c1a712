"""A Hugging Face folder as one GGUF file, which llama.cpp and what is built on it (Ollama, LM Studio) open.

Names and shapes are those of llama.cpp's own converter. Norms and biases are float32 in every file, as
llama.cpp wants them; matrices have the precision that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

from selfimprove.errors import EngineError, StoreError
from selfimprove.files import make_folder, require_room, writing_to
from selfimprove.publish.gguf_tokenizer import add_tokenizer, told_of
from selfimprove.publish.gguf_weights import ARCHITECTURES, GgufType, write_weights

__all__ = ["About", "GgufType", "write_gguf"]

_MOST_BYTES: Final[dict[GgufType, float]] = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1.07}
_STORED: Final[dict[str, GgufType]] = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class About:
    """What the file says of itself beside its weights."""

    name: str
    licence: str = ""
    """As an SPDX identifier; empty: not known."""
    description: str = ""


def write_gguf(folder: Path, out: Path, kind: GgufType | Literal["auto"], about: About) -> Path:
    """Write a model folder to a GGUF file, complete or not at all.

    Args:
        folder: of Llama, Mistral, Qwen2 or Qwen3.
        out: the file, which must not be there yet.
        kind: of the matrices; auto: as the folder has them. q8_0 rounds them to 8 bits in blocks of 32.
        about: what the file says of itself.

    Raises:
        EngineError: the package gguf is missing, or llama.cpp has no such model or tokenizer.
        StoreError: the file is there already, or cannot be written.
        DiskFullError: there is not enough room.
    """
    if find_spec("gguf") is None:
        raise EngineError("writing a .gguf file needs the package gguf: pip install 'gguf>=0.17'")
    if out.exists():
        raise StoreError(f"{out} is there already: delete it, or choose another name")
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    _refuse_others(folder, config)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    told = told_of(tokenizer, folder)
    chosen = _as_stored(folder) if kind == "auto" else kind
    make_folder(out.parent)
    require_room(out.parent, _size(folder, chosen))
    partial = out.with_name(f"{out.name}.partial")
    with writing_to(out):
        writer = _begun(partial, config, chosen, about)
        try:
            add_tokenizer(writer, tokenizer, told, config.vocab_size)
            _add_ends(writer, folder, tokenizer)
            write_weights(writer, folder, config, chosen)
            writer.close()
            partial.replace(out)
        finally:
            writer.close()  # what failed on the way, too
            partial.unlink(missing_ok=True)
    return out


def _refuse_others(folder: Path, config: Any) -> None:  # noqa: ANN401
    """Refuse what llama.cpp would compute otherwise."""
    kind = config.model_type
    if kind not in ARCHITECTURES:
        raise EngineError(
            f"{folder} is a {kind} model; GGUF files are written of {', '.join(ARCHITECTURES)}: export "
            "with --format hf, and convert it with llama.cpp's convert_hf_to_gguf.py"
        )
    if (scaled := config.rope_parameters.get("rope_type", "default")) != "default":
        raise EngineError(
            f"{folder} stretches its rotary positions ({scaled}), which is not written to GGUF files "
            "here: export with --format hf, and convert it with llama.cpp's convert_hf_to_gguf.py"
        )
    if config.hidden_act != "silu":
        raise EngineError(
            f"{folder}: llama.cpp knows {kind} with silu alone, not {config.hidden_act}"
        )


def _as_stored(folder: Path) -> GgufType:
    from selfimprove.training.export import stored_dtype

    return _STORED[stored_dtype(folder)]


def _size(folder: Path, kind: GgufType) -> int:
    from selfimprove.training.export import stored_dtype

    stored = {"float32": 4, "bfloat16": 2, "float16": 2}[stored_dtype(folder)]
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / stored
    return int(weights * _MOST_BYTES[kind])


def _begun(path: Path, config: Any, kind: GgufType, about: About) -> Any:  # noqa: ANN401
    from gguf import GGUFWriter, LlamaFileType

    architecture = ARCHITECTURES[config.model_type].lower()
    writer = GGUFWriter(path, architecture)
    writer.add_name(about.name)
    if about.licence:
        writer.add_license(about.licence)
    if about.description:
        writer.add_description(about.description)
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(_context(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(
        {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16,
         "bf16": LlamaFileType.MOSTLY_BF16, "q8_0": LlamaFileType.MOSTLY_Q8_0}[kind]
    )  # fmt: skip
    return writer


def _context(config: Any) -> int:  # noqa: ANN401
    """Return the longest context in which a window hides nothing: llama.cpp has none for these."""
    window = getattr(config, "sliding_window", None)
    longest = int(config.max_position_embeddings)
    return min(longest, int(window)) if window else longest


def _add_ends(writer: Any, folder: Path, tokenizer: Any) -> None:  # noqa: ANN401
    """Write the tokens that end a text: eos is the tokenizer's, eot and eom are the next ones."""
    from transformers import GenerationConfig

    from selfimprove.sampling.loading import stop_tokens

    try:
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:  # a folder without one ends texts as its tokenizer does
        generation = GenerationConfig()
    ends = stop_tokens(generation, tokenizer)
    if not ends:
        raise EngineError(f"{folder} names no end-of-sequence token: no text of it would ever end")
    first = tokenizer.eos_token_id
    ordered = [first, *(e for e in ends if e != first)] if first in ends else list(ends)
    for name, number in zip(("eos", "eot", "eom"), ordered, strict=False):
        getattr(writer, f"add_{name}_token_id")(number)
