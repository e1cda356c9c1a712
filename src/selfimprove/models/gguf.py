"""A GGUF file as a plain Hugging Face folder: the weights that llama.cpp computes with, in float32.

Quantised weights are unpacked, which is exact: float32 holds scale x integer + offset as llama.cpp
computes it. The tokenizer, its chat template and every token that ends a turn come along.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from selfimprove.errors import EngineError
from selfimprove.models import cache
from selfimprove.models.gguf_splits import CUTS, IGNORE_MERGES, cut
from selfimprove.weights import file_digest

__all__ = ["BYTES_A_WEIGHT", "convert", "find", "folder_of", "require_reader"]

_log = logging.getLogger(__name__)

BYTES_A_WEIGHT: Final = 4
"""Of the folder that a file becomes."""

_ENDS: Final = ("eos", "eot", "eom")
_PLAIN_POSITIONS: Final = ("llama", "mistral", "qwen2", "qwen3")


def find(file: Path) -> Path | None:
    """Return the folder that this file was converted to; None: it was not, yet."""
    return cache.find(file.stem, file_digest(file))


def folder_of(file: Path) -> Path:
    """Return the Hugging Face folder of a GGUF file, converted once and kept in the cache.

    Raises:
        EngineError: it is no whole GGUF file of an architecture that transformers reads, or the
            package `gguf` is missing.
        DiskFullError: there is not enough room for its weights in float32.
    """
    if found := find(file):
        return found
    require_reader()
    reader = _read(file)
    count = sum(int(tensor.n_elements) for tensor in reader.tensors)
    licence = str(_field(reader, "general.license") or "")
    origin = cache.Origin(file.stem, str(file.resolve()), file_digest(file), licence)
    _log.warning(
        "%s: converting it once to a Hugging Face folder, %.1f GB in %s",
        file, BYTES_A_WEIGHT * count / 1e9, cache.place_of(file.stem, origin.sha256),
    )  # fmt: skip
    return cache.keep(
        origin, lambda space: convert(file, space / "model"), BYTES_A_WEIGHT * count, _log.warning
    )


def require_reader() -> None:
    """Check that GGUF files can be read here.

    Raises:
        EngineError: the package `gguf` is missing.
    """
    if find_spec("gguf") is None:
        raise EngineError("reading a .gguf file needs the package gguf: pip install 'gguf>=0.17'")


def convert(file: Path, out: Path) -> None:
    """Write weights, tokenizer, chat template and generation config of a GGUF file to `out`.

    Raises:
        EngineError: it is no whole GGUF file of an architecture that transformers reads.
    """
    reader = _read(file)
    model, tokenizer = _load(file, reader)
    ends = _end_tokens(reader, tokenizer)
    if not ends:
        raise EngineError(f"{file} names no end-of-sequence token: no text of it would ever end")
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.model_max_length = model.config.get_text_config().max_position_embeddings
    model.config.name_or_path = file.stem
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    with _quietly():
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    _drop_strays(out / "tokenizer.json", model.config.get_text_config().vocab_size)


def _drop_strays(file: Path, vocab_size: int) -> None:
    """Drop tokens that the loader adds of its own; the embedding has no row for them."""
    told = json.loads(file.read_text(encoding="utf-8"))
    told["added_tokens"] = [t for t in told["added_tokens"] if t["id"] < vocab_size]
    file.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")


def _read(file: Path) -> Any:  # noqa: ANN401  a GGUFReader
    """Read the header and check that every tensor lies within the file."""
    from gguf import GGUFReader

    try:
        with warnings.catch_warnings(action="ignore"), _quietly():
            reader = GGUFReader(file)
    except (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError) as error:
        raise EngineError(
            f"{file} is no whole GGUF file ({error}): fetch it again, and compare its size and digest "
            "with those of its source"
        ) from error
    _refuse_stretched(file, reader)
    parts = _field(reader, "split.count")
    if parts is not None and parts > 1:
        raise EngineError(
            f"{file} is one of {parts} parts: join them with `llama-gguf-split --merge` first"
        )
    return reader


def _refuse_stretched(file: Path, reader: Any) -> None:  # noqa: ANN401
    """Refuse positions that are stretched, which transformers' loader would pass over in silence."""
    architecture = _field(reader, "general.architecture")
    stretched = _field(reader, f"{architecture}.rope.scaling.type") not in (None, "none")
    factors = any(tensor.name == "rope_freqs.weight" for tensor in reader.tensors)
    if architecture in _PLAIN_POSITIONS and (stretched or factors):
        raise EngineError(
            f"{file} stretches its rotary positions, as Llama 3.1 does, and would be read without that "
            "as another model: use the Hugging Face folder or hub id that it was made of"
        )


def _field(reader: Any, name: str) -> Any:  # noqa: ANN401  whatever the header holds
    field = reader.get_field(name)
    return None if field is None else field.contents()


def _load(file: Path, reader: Any) -> tuple[Any, Any]:  # noqa: ANN401
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    loader: Any = AutoModelForCausalLM
    architecture = _field(reader, "general.architecture")
    here: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    try:
        with _quietly():
            model, told = loader.from_pretrained(
                file.parent,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                **here,
                **_heads(reader, architecture),
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **here)
    except Exception as error:  # tokenizers raises nothing narrower
        raise EngineError(
            f"{file} cannot be read as a causal language model: its architecture is {architecture!r}, "
            f"and transformers says: {_first_line(error)}. Use a Hugging Face folder of the model"
        ) from error
    missing = sorted(told["missing_keys"])
    if missing:  # they would be random numbers
        raise EngineError(
            f"{file} lacks {len(missing)} tensors of its architecture {architecture!r}, such as "
            f"{missing[0]}: it is no whole model"
        )
    _cut_as_llama_cpp(tokenizer, _field(reader, "tokenizer.ggml.pre"))
    return model, tokenizer


def _heads(reader: Any, architecture: str) -> dict[str, int]:  # noqa: ANN401
    """Return the size of a head where transformers' loader takes 128 whatever the file says."""
    size = _field(reader, "qwen3.attention.key_length")
    return {"head_dim": int(size)} if architecture == "qwen3" and size is not None else {}


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _cut_as_llama_cpp(tokenizer: Any, name: str | None) -> None:  # noqa: ANN401
    """Cut texts as the file says; transformers' loader knows some of the cuts, and not all of each."""
    if name in CUTS:
        tokenizer.backend_tokenizer.pre_tokenizer = cut(name)
    if name in IGNORE_MERGES:
        tokenizer.backend_tokenizer.model.ignore_merges = True


def _end_tokens(reader: Any, tokenizer: Any) -> list[int]:  # noqa: ANN401
    """Return every token that ends a text, the one that ends a turn of the chat template first."""
    named = [_field(reader, f"tokenizer.ggml.{end}_token_id") for end in _ENDS]
    ends = [*_turn_end(tokenizer), *(int(token) for token in named if token is not None)]
    return list(dict.fromkeys(ends))


def _turn_end(tokenizer: Any) -> list[int]:  # noqa: ANN401
    """Return the special token that the chat template puts right behind an assistant's turn."""
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        return []
    said = "selfimprove"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": said}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except TemplateError:
        return []
    behind = tokenizer(text.rpartition(said)[2].lstrip(), add_special_tokens=False).input_ids
    added = tokenizer.added_tokens_decoder
    return [token for token in behind[:1] if token in added and added[token].special]


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the loader's advice from whoever runs a recipe; its bars are for a terminal."""
    from transformers.utils import logging as hf_logging

    level = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        if sys.stderr.isatty():
            yield
        else:
            with redirect_stderr(io.StringIO()):
                yield
    finally:
        hf_logging.set_verbosity(level)
