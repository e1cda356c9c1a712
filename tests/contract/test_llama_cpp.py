"""Exported GGUF files in a real llama.cpp: its tokens, its chat text, its logits and its greedy text are ours.

Runs where SELFIMPROVE_LLAMA_CPP names an interpreter with xllamacpp, as `make test-llama-cpp` does.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.families import TEXTS, tokenizer
from tests.unit.test_gguf_export import cut_as, made
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfimprove.errors import EngineError
from selfimprove.models import locate
from selfimprove.publish.gguf_file import About, write_gguf

_PYTHON = os.environ.get("SELFIMPROVE_LLAMA_CPP", "")
pytestmark = pytest.mark.skipif(
    not _PYTHON, reason="`make test-llama-cpp` fetches llama.cpp and runs this"
)
_NEW = 24
_TOP = 20  # tokens of each step whose chances are compared
_CHAT = [{"role": "user", "content": "Why is the sky blue? It's 12 o'clock."}]
_MORE = (
    "It's 'there', 'real' and 'mine'. x = 12\n\n 3  4",
    "She'll say: 1,234!\n\tyes\r\n  end ",
    "Q: Tom has 12 apples and Anna 7. How many?\nA: 12 + 7 = 19. The answer is 19.",
    "def f(x):\n    return {'a': x ** 2}  # 北京大学 Ärger über Straße 🙂",
)


def said(file: Path, texts: list[str], ids: list[int]) -> dict[str, Any]:
    asked = json.dumps({"texts": texts, "turns": _CHAT, "ids": ids, "new": _NEW, "top": _TOP})
    script = Path(__file__).with_name("llama_cpp_says.py")
    # An absolute path that is not resolved: a venv's python is a link to another.
    done = subprocess.run([os.path.abspath(_PYTHON), str(script), str(file)], input=asked, text=True,  # noqa: PTH100
                          capture_output=True, check=True, timeout=900)  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def ours(folder: Path, ids: list[int]) -> tuple[list[int], torch.Tensor]:
    """Return greedy tokens, and the log-probabilities of every token at each step, [steps, vocabulary]."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    asked = torch.tensor([ids])
    with torch.no_grad():
        whole = model.generate(asked, attention_mask=torch.ones_like(asked), do_sample=False,
                               max_new_tokens=_NEW, min_new_tokens=_NEW)  # fmt: skip
        logits = model(whole).logits[0, len(ids) - 1 : -1].double()
    return whole[0, len(ids) :].tolist(), logits.log_softmax(-1)


def compared(folder: Path, file: Path, *, far: float, exact: bool = True) -> float:
    """Compare llama.cpp's view of a file with ours of its folder; return how far chances are apart.

    Args:
        folder: the model as transformers reads it.
        file: made of it.
        far: by how much a log-probability may differ, in nats, among the likeliest tokens.
        exact: the greedy texts must be one; else they are compared as far as they are.
    """
    fast = AutoTokenizer.from_pretrained(folder)
    chat = str(fast.apply_chat_template(_CHAT, add_generation_prompt=True, tokenize=False))
    texts = [*TEXTS, *_MORE, chat]
    ids = fast(chat).input_ids
    theirs = said(file, texts, ids)
    assert theirs["chat"] == chat
    for text, found in zip(texts, theirs["tokens"], strict=True):
        assert found == fast(text).input_ids, text
    tokens, likely = ours(folder, ids)
    drawn = theirs["drawn"]["tokens"]
    if exact:
        assert drawn == tokens
    steps = theirs["drawn"]["completion_probabilities"]
    if len(steps) < _NEW:  # of bytes that are no whole letter none are told
        return 0.0
    same = next((n for n, (a, b) in enumerate(zip(drawn, tokens, strict=True)) if a != b), _NEW - 1)
    apart: float = max(
        abs(top["logprob"] - float(mine[top["id"]]))
        for step, mine in zip(steps[: same + 1], likely, strict=False)
        for top in step["top_logprobs"]
    )
    assert apart < far
    return apart


@pytest.mark.parametrize(("kind", "far"), [("f32", 1e-3), ("f16", 0.2), ("bf16", 0.2)])
def test_the_shipped_model(tmp_path: Path, kind: Any, far: float) -> None:
    folder = Path(locate("tiny").path)
    file = write_gguf(folder, tmp_path / "tiny.gguf", kind, About("tiny"))
    compared(folder, file, far=far, exact=kind == "f32")


@pytest.mark.parametrize(
    ("family", "name"),
    [("llama", "llama-bpe"), ("mistral", "tekken"), ("qwen2", "qwen2"), ("qwen3", "qwen2")],
)
def test_each_family(tmp_path: Path, family: str, name: str) -> None:
    folder = made(tmp_path / "model", family, cut_as(name))
    file = write_gguf(folder, tmp_path / f"{family}.gguf", "f32", About(family))
    compared(folder, file, far=2e-2)


def test_pairs_of_sentencepiece(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "llama", tokenizer("sentencepiece", "mistral"))
    file = write_gguf(folder, tmp_path / "spm.gguf", "f32", About("spm"))
    fast = AutoTokenizer.from_pretrained(folder)
    texts = ["the other", "Why there?", "  two spaces", "ä — 日", "12,345.6 + x = y"]
    found = said(file, texts, fast("the other").input_ids)["tokens"]
    assert found == [fast(text).input_ids for text in texts]


@pytest.mark.parametrize(("kind", "far"), [("f32", 5e-3), ("q8_0", 1.5)])
def test_smollm2(tmp_path: Path, kind: Any, far: float) -> None:
    try:
        folder = Path(locate("smollm2-135m").path)
    except EngineError:
        pytest.skip("`selfimprove models get smollm2-135m` fetches it")
    file = write_gguf(folder, tmp_path / "smollm2.gguf", kind, About("smollm2"))
    compared(folder, file, far=far, exact=kind == "f32")
