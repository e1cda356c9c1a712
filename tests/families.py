"""Tokenizers of the usual kinds and chat templates of the usual families, small and made here."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

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
from transformers import PreTrainedTokenizerFast

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
