"""Tokenizers of the usual kinds, chat templates and models of the usual families, small and made here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

TEXTS: Final = (
    "Why is the sky blue? Because of Rayleigh scattering.",
    "  two spaces, a tab\tand a newline\n",
    "ünïcödé — 日本語 😀",
    "12,345.6 + x = y",
    "",
)
_CORPUS: Final = (*TEXTS, "user assistant system model think", "<>|/[]_ im start end of turn INST")

CHATML: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA: Final = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL: Final = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ m.content + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
    "{% endfor %}"
)
LLAMA3: Final = (
    "{% set content %}{% endset %}{% for m in messages %}"
    "{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN3: Final = (
    "{% for m in messages %}{% set content = m.content %}{% if m.role == 'assistant' %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\n') %}"
    "{% endif %}<|im_start|>assistant\n"
    "{% if loop.last %}<think>\n\n</think>\n\n{% endif %}{{ content }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
R1: Final = (  # opens a reasoning block for every answer, and drops the reasoning of earlier ones
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}<|User|>{{ m.content }}{% else %}"
    "<|Assistant|>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
SILENT: Final = (  # drops the system's turn without a word
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>\n{{ m.content }}</s>\n"
    "{% elif m.role == 'assistant' %}<|assistant|>\n{{ m.content }}</s>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MISTRAL_V3: Final = (  # puts the system's text into the last turn, if that is the user's
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}"
    "{{ bos_token }}{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('After the optional system message, conversation roles must alternate') }}"
    "{% endif %}{% if m.role == 'user' %}{% if loop.last and system is defined %}"
    "{{ '[INST] ' + system + '\n\n' + m.content + '[/INST]' }}{% else %}"
    "{{ '[INST] ' + m.content + '[/INST]' }}{% endif %}{% else %}{{ ' ' + m.content + eos_token }}"
    "{% endif %}{% endfor %}"
)
GEMMA3: Final = (  # puts the system's text in front of the first turn, and insists that sides alternate
    "{{ bos_token }}{% set first = '' %}{% set rest = messages %}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ first if loop.first }}{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LAST_USER: Final = (  # shows the user's last turn alone
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | last }}"
    "{% if messages[-1].role == 'assistant' %}<|assistant|>{{ messages[-1].content }}</s>"
    "{% elif add_generation_prompt %}<|assistant|>{% endif %}"
)
JSON: Final = (  # writes what was said as JSON
    "{{ bos_token }}{% for m in messages %}<|im_start|>"
    "{{ {'role': m.role, 'text': m.content} | tojson }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
TEMPLATES: Final = {
    "chatml": CHATML, "gemma": GEMMA, "mistral": MISTRAL, "llama3": LLAMA3, "qwen3": QWEN3, "r1": R1,
    "silent": SILENT, "json": JSON, "mistral v3": MISTRAL_V3, "gemma 3": GEMMA3,
}  # fmt: skip

SPECIAL: Final = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>",
                  "[INST]", "[/INST]", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                  "<|User|>", "<|Assistant|>", "<|user|>", "<|assistant|>")  # fmt: skip

_SIZES: Final[dict[str, Any]] = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    # Wide enough that greedy text does not repeat one token.
    "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
_OWN: Final[dict[str, tuple[Callable[..., Any], dict[str, Any]]]] = {
    "llama": (LlamaConfig, {}),
    "llama, every bias, other rotations": (
        LlamaConfig,
        {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu",
         "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}},
    ),
    "mistral": (MistralConfig, {"head_dim": 16, "sliding_window": None}),
    "qwen2": (Qwen2Config, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, {"head_dim": 8}),
}  # fmt: skip
MODELS: Final = tuple(_OWN)
"""Families that the lean pass runs; Mistral's heads are wider than its width, Qwen2's vocabulary is tied."""


def model_config(family: str, **sizes: Any) -> Any:
    """Return the config of a small model of a family; `sizes` are others than the usual ones."""
    kind, own = _OWN[family]
    return kind(**{**_SIZES, **own, **sizes})


def random_model(family: str, **sizes: Any) -> Any:
    """Return such a model, in float32; norms and biases too are random: as ones and zeros none would be missed."""
    torch.manual_seed(0)
    config = model_config(family, **sizes)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def random_folder(folder: Path, config: Any, tokenizer: Any) -> Path:
    """Write the folder of a model with random weights."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokens(template: str | None = None) -> Any:
    """Bytes as tokens, after <s> and </s>."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {t: i for i, t in enumerate(["<s>", "</s>", *letters])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", chat_template=template
    )


def byte_level() -> Tokenizer:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        _CORPUS * 3,
        trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False),
    )
    return raw


def _unigram(scheme: str) -> Tokenizer:
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    raw.decoder = decoders.Metaspace(prepend_scheme=scheme)
    letters = sorted({c for text in (*_CORPUS, *SPECIAL) for c in text})
    raw.train_from_iterator(
        _CORPUS * 3,
        trainers.UnigramTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"],
                                unk_token="<unk>", initial_alphabet=letters, show_progress=False),
    )  # fmt: skip
    raw.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return raw


def _llama() -> Tokenizer:
    """SentencePiece BPE with byte fallback, of which `</s>` could be merged from plain text."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))]
    letters = sorted({c for text in (*_CORPUS, *SPECIAL) for c in text if c.isascii()} | {"▁"})
    merges = [("▁", "t"), ("▁t", "h"), ("e", "r"), ("<", "/"), ("s", ">"), ("</", "s>")]
    names += [*letters, "▁t", "▁th", "er", "</", "s>"]
    raw = Tokenizer(models.BPE({n: i for i, n in enumerate(names)}, merges, unk_token="<unk>",
                               byte_fallback=True, fuse_unk=True))  # fmt: skip
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    raw.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return raw


_KINDS: Final = {
    "byte-level": byte_level,
    "unigram": lambda: _unigram("always"),
    "unigram, prefix at the start alone": lambda: _unigram("first"),
    "sentencepiece": _llama,
}
KINDS: Final = tuple(_KINDS)


@cache
def _trained(kind: str) -> str:
    return str(_KINDS[kind]().to_str())


@cache
def tokenizer(kind: str = "byte-level", template: str = "chatml", *, special: bool = True) -> Any:
    """Return a fast tokenizer of a kind; `special`: its markers are flagged as such."""
    raw = Tokenizer.from_str(_trained(kind))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    rest = [AddedToken(name, special=special, normalized=not special) for name in SPECIAL[3:]]
    fast.add_tokens(rest, special_tokens=special)
    fast.add_tokens(["<think>", "</think>"])
    fast.chat_template = TEMPLATES[template]
    return fast
