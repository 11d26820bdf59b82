# Every target does its own set-up; nothing is needed but Python 3.10 or newer (PYTHON=... names another one).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test lint bench campaign matrix release-check tables results studies-smoke docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,docs]"
	@# lightly asks for torchvision, which the tests and benchmarks do without: they need its losses only.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps lightly
	@touch $(READY)

demo: setup
	$(BIN)/pairsift demo

# A file of tests is one process's, as what is set up for it is made once; files that take long come first.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	for name in loss step input theory scan startup; do $(BIN)/python -m lab.benchmarks.$$name || exit 1; done

campaign: setup
	for name in kill fuzz soak repeat; do $(BIN)/python tests/campaigns/$$name.py || exit 1; done

matrix: setup
	$(BIN)/python tests/release/matrix.py --output lab/benchmarks/results/matrix.jsonl

release-check: setup
	$(BIN)/python tests/release/check.py

tables: setup
	$(BIN)/python -m lab.pages --write

# Tables and figures of all runs that are there; with one seed asked for nothing is trained. A figure is drawn by Chromium
# where what it shows has changed.
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
	rm -rf .venv runs site .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
