# Everything a developer runs; the same commands run in CI. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock

.DEFAULT_GOAL := help
.PHONY: help bench test test-model lint types format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

bench: $(VENV)/.ready ## train the shipped patterns, run pytest -m accuracy over them, end with the comparison
	$(BIN)/python -m pytest -m accuracy patterns

test: $(VENV)/.ready ## the project's own tests: no model, no network, under 3 minutes
	$(BIN)/python -m pytest tests -m "not model" -n 2

test-model: $(VENV)/.ready ## the tests that need the default model
	$(BIN)/python -m pytest tests -m model

lint: $(VENV)/.ready ## ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.ready ## mypy --strict
	$(BIN)/mypy

format: $(VENV)/.ready ## let ruff rewrite what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and caches; adapters and reports stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Versions are locked in requirements.lock; torch is locked by version alone, its builds differ by platform.
$(VENV)/.ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[cpu,speed,xdist,dev]"
	@touch $@
