"""Run by an interpreter that has xllamacpp, which brings llama.cpp's own server: serves a file until it is ended.

Usage: python llama_server.py FILE PORT CONTEXT
"""

import sys
import time

import xllamacpp


def main() -> None:
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.port = int(sys.argv[2])
    params.n_parallel = 4
    params.n_ctx = 4 * int(sys.argv[3])  # shared out among those that are served at once
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.use_jinja = True
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    while True:
        time.sleep(60)


main()
