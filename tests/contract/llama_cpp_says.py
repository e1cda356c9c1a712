"""Run by an interpreter that has llama-cpp-python: what it makes of a GGUF file, as JSON.

Usage: python llama_cpp_says.py FILE < {"texts": [...], "ids": [...], "new": 24}
"""

import json
import sys

import numpy as np
from llama_cpp import Llama


def main() -> None:
    asked = json.load(sys.stdin)
    model = Llama(sys.argv[1], n_ctx=512, n_batch=512, n_threads=1, logits_all=True, verbose=False)
    tokens = [model.tokenize(text.encode(), add_bos=True, special=True) for text in asked["texts"]]
    model.eval(asked["ids"])
    logits = np.array(model.scores[: len(asked["ids"])], dtype=np.float64)
    model.reset()
    drawn = []
    for token in model.generate(asked["ids"], top_k=1, temp=0.0, repeat_penalty=1.0):
        drawn.append(int(token))
        if len(drawn) == asked["new"]:
            break
    template = model.metadata.get("tokenizer.chat_template")
    ends = [n for n in range(model.n_vocab()) if model._model.token_is_eog(n)] if hasattr(
        model._model, "token_is_eog") else []  # fmt: skip
    told = {"tokens": tokens, "logits": logits.tolist(), "drawn": drawn, "template": template,
            "eos": model.token_eos(), "ends": ends}  # fmt: skip
    json.dump(told, sys.stdout)


main()
