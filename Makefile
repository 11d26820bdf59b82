# Every target does its own set-up; nothing is needed but Python 3.10 or newer (PYTHON=... names another one).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test lint bench campaign matrix release-check tables docs clean

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

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	for name in loss step input theory scan startup; do $(BIN)/python benchmarks/$$name.py || exit 1; done

campaign: setup
	$(BIN)/python tests/campaigns/kill.py

matrix: setup
	$(BIN)/python tests/release/matrix.py

release-check: setup
	$(BIN)/python tests/release/check.py

tables: setup
	$(BIN)/python benchmarks/tables.py --write

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

clean:
	rm -rf .venv runs site .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
