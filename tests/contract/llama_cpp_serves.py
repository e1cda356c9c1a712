"""Run by an interpreter that has xllamacpp: llama.cpp's own server, until it is killed.

Usage: python llama_cpp_serves.py FILE PORT
"""

import sys
import threading

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = 2048
params.n_parallel = 4
params.cpuparams.n_threads = 1
params.warmup = False
params.use_jinja = True
params.port = int(sys.argv[2])
server = xllamacpp.Server(params)
threading.Event().wait()
