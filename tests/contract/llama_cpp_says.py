"""Run by an interpreter that has xllamacpp, which brings llama.cpp's own server: what it makes of a file.

Usage: python llama_cpp_says.py FILE < {"texts": [...], "turns": [...], "ids": [...], "new": 24, "top": 20}
"""

import json
import sys
import urllib.request
from typing import Any

import xllamacpp


def main() -> None:
    asked = json.load(sys.stdin)
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx = 512
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.warmup = False
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32  # ours are
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.use_jinja = True
    server = xllamacpp.Server(params)

    def told(page: str, **body: object) -> Any:
        request = urllib.request.Request(
            f"{server.listening_address}{page}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    found = {
        "tokens": [
            told("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
            for text in asked["texts"]
        ],
        "chat": told("/apply-template", messages=asked["turns"])["prompt"],
        "drawn": told("/completion", prompt=asked["ids"], n_predict=asked["new"], temperature=0.0,
                      ignore_eos=True, n_probs=asked["top"], cache_prompt=False, return_tokens=True),
    }  # fmt: skip
    sys.stdout.write("\n" + json.dumps(found))
    sys.stdout.flush()


main()
