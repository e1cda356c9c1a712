"""A random-weight model whose few whole-phrase tokens make it state answers now and then."""

from __future__ import annotations

from pathlib import Path

_STATED = [*(str(n) for n in range(10)), "(A)", "(B)", "(C)", "(D)", "yes", "no", "white"]
_SCORES = [f" Score: {k}" for k in range(6)]
_NEXT = "\nInstruction:"
_UNKNOWN = " The answer is it is not possible to tell."


def random_qwen2(folder: Path) -> Path:
    """Write a random Qwen2-architecture folder: two layers, the tiny tokenizer, long context.

    Phrases such as ' The answer is 7.' are single tokens, so that sampling at random states an
    answer in most paths and every step of a run has something to do.
    """
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from selfimprove.tiny.shipped import folder as shipped

    tokenizer = AutoTokenizer.from_pretrained(shipped("tiny"))
    tokenizer.add_tokens([*(f" The answer is {a}." for a in _STATED), _UNKNOWN, *_SCORES, _NEXT])
    tokenizer.model_max_length = 16_384
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16_384,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
