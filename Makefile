# Everything a developer runs; the same commands run in CI. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock

.DEFAULT_GOAL := help
.PHONY: help backends rivals test-backends test-slow test-mlx test-plain test-avx2 test-none bench bench-full on-gpu arms test test-bare test-lowest test-model test-browser coverage docs rooms dist lint types format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

bench: $(VENV)/.ready ## train the shipped patterns, run pytest -m accuracy over them, end with the comparison
	$(BIN)/python -m pytest -m accuracy patterns

bench-full: $(VENV)/.ready ## measure every quality metric on the shipped patterns; the gates alone decide
	$(BIN)/python -m pytest -m "sanity or accuracy or generalization or consistency or retention" --engram-gate-only patterns

on-gpu: ## measure the cuda backend on this machine's NVIDIA GPU in nine minutes: one JSON file, one table
	bash benchmarks/on_gpu.sh

arms: $(VENV)/.ready ## compare every kind of adapter on the shipped patterns: one table, one plot
	$(BIN)/engram-bench arms --speed

# Two workers, a core each. `worksteal` leaves neighbours on one worker: what they share is imported and trained once. Bytecode
# is written, whatever the environment says of it: every process that a test starts would compile everything again.
FAST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal

test: $(VENV)/.ready ## run the project's own tests: no model, no network, under 3 minutes
	$(FAST) tests -m "not model and not browser and not slow"

test-slow: $(VENV)/.ready ## every kind of adapter that PEFT knows, every architecture, and properties on ten times the examples
	$(FAST) tests -m "slow and not model and not browser"
	$(FAST) tests -m "hypothesis and not slow and not model and not browser" --hypothesis-profile=thorough

# Where a processor makes a difference; `make test` runs these files with whatever this machine can do.
PLAIN_TESTS := $(addprefix tests/backends/,machine torch/test_operators.py torch/test_products.py torch/test_training.py \
  torch/test_decoding.py torch/test_memory.py torch/test_both.py mlx/test_kernels.py cuda/test_runtime.py)
PLAIN := $(FAST) $(PLAIN_TESTS)

test-plain: test-avx2 test-none ## run the tests that depend on the processor with AVX2 only, and without optional abilities

test-avx2: $(VENV)/.ready
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(PLAIN)

test-none: $(VENV)/.ready
	ENGRAM_CAPABILITIES=none $(PLAIN)

coverage: $(VENV)/.backends ## run make test with branch coverage, mlx included; fails below the floor in pyproject.toml
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest tests -m "not model and not browser" -n 2
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --skip-empty

test-bare: $(VENV)-bare/.ready ## run make test without torch, pytest-xdist and pytest-benchmark
	$(VENV)-bare/bin/python -m pytest tests -m "not model and not browser"

test-lowest: $(VENV)-lowest/.ready ## run make test with the oldest versions that pyproject.toml allows, without torch
	$(VENV)-lowest/bin/python -m pytest tests -m "not model and not browser" -n 2

test-model: $(VENV)/.ready ## run the tests that need the default model
	$(BIN)/python -m pytest tests -m model

backends: $(VENV)/.backends ## add mlx (on a CPU with a fast BLAS) and Unsloth to the environment

rivals: $(VENV)/.backends $(VENV)/lm-eval/.ready ## install what benchmarks/against_*.py compares with: mlx-lm, Unsloth, lm-evaluation-harness

test-backends: $(VENV)/.backends ## run the contract of the cuda backend in its own process: Unsloth patches transformers
	$(BIN)/python -c "from engram_bench.backends.machine.nvidia import find_gpu as f; raise SystemExit(f() is None)" \
	  || export ENGRAM_UNSLOTH_CPU=1; $(BIN)/python -m pytest tests/backends/cuda/test_contract.py

test-mlx: $(VENV)/.mlx ## the tests of the mlx backend, which `make test` runs too where mlx is installed
	$(FAST) tests -m "not model and not browser" -k mlx

test-browser: $(VENV)/.ready ## test the HTML report in a headless Chromium, installed with apt where that is allowed
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  apt-get install -qqy --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
	  { echo "test-browser: no chromium found: apt-get install chromium" >&2; exit 1; }
	ENGRAM_BROWSER_REQUIRED=1 $(BIN)/python -m pytest tests/browser

docs: $(VENV)/.ready ## build the pages of docs/ as site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

rooms: ## measure the package by its imports and draw docs/img/rooms.svg
	$(PYTHON) docs/rooms.py
	$(PYTHON) docs/rooms.py --svg docs/img/rooms.svg

dist: $(VENV)/.ready ## build wheel and source archive into dist/, and look into both
	rm -rf dist
	$(BIN)/python -m build
	ENGRAM_DIST=dist $(BIN)/python -m pytest tests/test_packaging.py

lint: $(VENV)/.ready ## run ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.ready ## run mypy --strict
	$(BIN)/mypy

format: $(VENV)/.ready ## let ruff rewrite what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environments and caches; adapters and reports stay
	rm -rf $(VENV) $(VENV)-bare $(VENV)-lowest .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Versions are locked in requirements.lock; torch is locked by version alone, its builds differ by platform.
$(VENV)/.ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[cpu,speed,xdist,sweep,data,browser,docs,dev]"
	@touch $@

$(VENV)-bare/.ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)-bare
	$(VENV)-bare/bin/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[dev]"
	@touch $@

# pip has no way to ask for the oldest versions; uv has. What only builds and checks (ruff, mypy) is left out.
$(VENV)-lowest/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/pip install --quiet --disable-pip-version-check --constraint requirements.lock uv
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct \
	  --editable ".[speed,xdist,test]"
	@touch $@

# Unsloth is installed without its dependencies: they bring CUDA builds of torch and triton, which its CPU fallback does not
# need (on a machine with an NVIDIA GPU use `pip install unsloth`). The rest is what it imports, and what three servers need.
UNSLOTH_NEEDS := trl "datasets<5" accelerate psutil protobuf sentencepiece tyro msgspec pillow hf_transfer structlog
$(VENV)/.backends: $(VENV)/.ready
	$(PIP) --editable ".[mlx]" $(UNSLOTH_NEEDS) "transformers[serving]" xllamacpp
	$(PIP) --no-deps unsloth unsloth_zoo
	@touch $@

$(VENV)/.mlx: $(VENV)/.ready
	$(PIP) --editable ".[mlx]"
	@touch $@

# In an environment of its own, as its users have it: it shares no version and no patched library with ours.
$(VENV)/lm-eval/.ready: requirements.lock
	$(PYTHON) -m venv $(VENV)/lm-eval
	$(VENV)/lm-eval/bin/pip install --quiet --disable-pip-version-check --constraint requirements.lock "lm_eval[hf]" peft
	@touch $@
