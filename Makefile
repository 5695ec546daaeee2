# `make demo` and `make test` are all a newcomer needs: both make the virtual environment and install first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1
export NUMBA_CACHE_DIR ?= $(CURDIR)/.numba_cache
export PYTHONUNBUFFERED = 1

.PHONY: help install demo test check test-fast bench soak clean

help:
	@echo "make demo   a local network trains a real model, pays for it, and catches a cheater"
	@echo "make test   style, types, import contracts and all tests"
	@echo "make check  style, types and import contracts only"
	@echo "make bench  figures, side by side"
	@echo "make soak   long randomised campaigns (SOAK_SECONDS, default 600)"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25" "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,demo]"
	@touch $(STAMP)

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/python devnet/demo.py

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -m "not soak and not integration" -n 2
	$(BIN)/python -m pytest -m "integration and not soak" -n 2 --dist loadfile --no-loadscope-reorder

bench: $(STAMP)
	$(BIN)/python -m tests.bench

soak: $(STAMP)
	SOAK_SECONDS=$${SOAK_SECONDS:-600} $(BIN)/python -m pytest -m soak
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -m "not soak and not integration" tests/ledger tests/proofs tests/programs tests/primitives tests/consensus

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .numba_cache .demo
