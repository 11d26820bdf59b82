# Every target does its own set-up; nothing is needed but Python 3.10 or newer (PYTHON=... names another one).
PYTHON ?= python3
BIN := .venv/bin
# Two set-ups share .venv: what the demo runs, and everything that development needs on top.
DEMO := .venv/.demo
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Each test file runs in one process, because its fixtures are made once a file. One thread a process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: setup setup-demo demo test test-slow test-all lint coverage bench campaign matrix dist release-check tables results \
	studies-smoke docs clean

setup: $(READY)

setup-demo: $(DEMO)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv .venv

# Python compiles what the demo imports when it imports it; compiling the rest would take longer than installing it.
$(DEMO): pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --no-compile -e ".[scan,train]"
	@touch $(DEMO)

$(READY): pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[dev,docs]"
	@# lightly asks for torchvision, which the tests and benchmarks do without: they need its losses only.
	$(PIP) --no-deps lightly
	@touch $(DEMO) $(READY)

demo: $(DEMO)
	$(BIN)/pairsift demo

# What one waits for while changing code.
test: $(READY)
	$(PYTEST) -m "not slow"

# Tests in tests/slow or marked so: kills, browsers, Ray, two training processes, notebooks, examples, new environments.
test-slow: $(READY)
	$(PYTEST) -m slow

# Both suites in one run, so that its last line counts all tests.
test-all: $(READY)
	$(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The share of src that the fast suite executes. It fails below the floor in pyproject.toml.
coverage: $(READY)
	$(PYTEST) -m "not slow" --cov --cov-report=term:skip-covered --cov-report=xml

bench: setup
	for name in loss step input theory scan startup; do $(BIN)/python -m lab.benchmarks.$$name || exit 1; done

campaign: setup
	for name in kill fuzz soak repeat; do $(BIN)/python tests/slow/campaigns/$$name.py || exit 1; done

matrix: setup
	$(BIN)/python tests/slow/release/matrix.py $(if $(PYTHONS),--pythons $(PYTHONS)) --output lab/benchmarks/results/matrix.jsonl

dist: setup
	$(PIP) build
	$(BIN)/python -m build

release-check: setup
	$(BIN)/python tests/slow/release/check.py

tables: setup
	$(BIN)/python -m lab.pages --write

# Tables and figures of all runs that are there; with one seed asked for nothing is trained. A figure is drawn
# anew where it shows something else.
results: setup
	for name in $(notdir $(patsubst %/runs.jsonl,%,$(wildcard lab/results/*/runs.jsonl))); do \
	  $(BIN)/python -m lab $$name --seeds 1 -o lab/results || exit 1; done
	$(BIN)/python -m lab.pages --write
	$(BIN)/python -m lab.figures --write

studies-smoke: setup
	$(BIN)/python -m pytest tests/lab/test_study_command.py -k smoke

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

clean:
	rm -rf .venv runs site dist .coverage coverage.xml .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
