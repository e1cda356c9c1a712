# One word a task; each sets up first, which is instant when nothing changed.
VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
# Two cores by default everywhere: more threads than cores make small models slower.
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup demo test check fix docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: setup
	$(BIN)/selfimprove run recipes/lmsi-tiny.yaml --out runs/demo/lmsi controls=[unfiltered]
	$(BIN)/selfimprove run recipes/self-rewarding-tiny.yaml --out runs/demo/self-rewarding
	$(BIN)/selfimprove run recipes/pit-tiny.yaml --out runs/demo/pit ablations=[] evaluation.temperatures=[]
	$(BIN)/selfimprove report runs/demo/lmsi runs/demo/self-rewarding runs/demo/pit --out runs/demo/report.html
	@echo "open runs/demo/report.html in a browser"

test: setup
	$(BIN)/python -m pytest -q --cov=selfimprove --cov-report=term:skip-covered --cov-fail-under=85

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

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache
