# make quickstart: everything from nothing to a report.   make test: the tests.   make check: what CI runs.
PYTHON ?= python3
CONFIG ?= recipes/configs/quickstart.yaml
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help quickstart test check format release-check nightly gpu-check
help:
	@echo "make quickstart   install, then train four people's adapters on the embedded world and write a report"
	@echo "make test         install what the tests need and run them"
	@echo "make check        lint, format check, types and tests: what CI runs"
	@echo "make format       format the code"
	@echo "make release-check   sdist and wheel; from the wheel, outside the checkout, a short quickstart, fit, train and evaluate"
	@echo "make nightly      what CI runs, then the release check"
	@echo "make gpu-check    on a machine with a card: real sizes, one iteration each, and a table"

.venv/installed: pyproject.toml setup.py
	@echo "Making the environment in .venv (some minutes and some GB the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what tests and checks need ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[dev]"
	@touch $@

quickstart: .venv/installed
	@$(BIN)/accelerate launch --config_file accelerate_config.yaml recipes/quickstart.py --config $(CONFIG)
	@command -v pamela >/dev/null || echo "(pamela is in $(BIN): source $(BIN)/activate first)"

test: .venv/installed-dev
	$(BIN)/python -m pytest

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

release-check: .venv/installed-dev
	.ci/release_check

nightly:
	.ci/run
	$(MAKE) release-check

gpu-check: .venv/installed-dev
	$(BIN)/python benchmarks/gpu_check.py
