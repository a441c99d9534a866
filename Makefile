# Everything sets itself up: `make demo` and `make test` work on a fresh checkout with python3.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
FOUND := $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP := $(PYTHON) -m pip --quiet --disable-pip-version-check
LOG := ../shared/data/bpic2013_incidents.xes.gz

.PHONY: help demo test test-fast matrix check sync pins bench docs clean

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 11

$(PYTHON):
	@test -n "$(FOUND)" || { echo "Everwhen needs Python 3.11 or newer; install one as python3" >&2; exit 1; }
	@$(FOUND) -m venv $(VENV)

$(VENV)/installed-run: $(PYTHON) requirements/build.txt requirements/run.txt pyproject.toml
	@$(PIP) install --require-hashes -r requirements/build.txt
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-demo: $(VENV)/installed-run requirements/demo.txt
	@$(PIP) install --no-deps --require-hashes -r requirements/demo.txt
	@touch $@

$(VENV)/installed-develop: $(VENV)/installed-run requirements/develop.txt
	@$(PIP) install --require-hashes -r requirements/develop.txt
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed-run requirements/bench.txt
	@$(PIP) install --require-hashes -r requirements/bench.txt
	@touch $@

demo: $(VENV)/installed-demo  ## Travel in a real event log, and in a night at a casino (a minute)
	@$(VENV)/bin/everwhen demo $(if $(wildcard $(LOG)),--log $(LOG))
	@PYTHONPATH=examples $(PYTHON) -m bitcraps casino.db --seconds 6

# The tests start hundreds of programs, each of which would compile all of its modules anew.
test test-fast: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/installed-develop  ## Run the tests, on all processors
	@$(PYTHON) -m pytest -n auto

# Quick tests wait for files and other processes about half of their time: two for each processor.
test-fast: $(VENV)/installed-develop  ## Run the quick tests of each room, in one flavour (a minute)
	@$(PYTHON) -m pytest -n $$($(PYTHON) -c 'import os; print(2 * os.cpu_count())') -m "not slow" --ignore tests/_sync tests README.md

matrix:  ## Run the tests on every Python from 3.11 on that is installed
	@$(FOUND) tools/matrix.py

check: $(VENV)/installed-develop  ## Format, lint, types, import rules, generated code
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@$(VENV)/bin/lint-imports --no-cache
	@$(PYTHON) tools/unasync.py --check
	@$(PYTHON) -m tools.front_door --check
	@$(PYTHON) -m tools.api_reference --check
	@$(PYTHON) tools/cli_reference.py --check
	@$(PYTHON) tools/threat_table.py --check

sync: $(VENV)/installed-develop  ## Generate the sync flavour, the references and the threat model's tables
	@$(PYTHON) tools/unasync.py
	@$(PYTHON) -m tools.front_door
	@$(PYTHON) -m tools.api_reference
	@$(PYTHON) tools/cli_reference.py
	@$(PYTHON) tools/threat_table.py

pins: $(VENV)/installed-develop  ## Pin the newest versions of what requirements/*.in name
	@$(PYTHON) tools/pins.py

bench: $(VENV)/installed-bench  ## Measure Everwhen beside its peers (some minutes)
	@$(PYTHON) -m benchmarks.peers
	@$(PYTHON) -m benchmarks.states
	@$(PYTHON) -m benchmarks.large
	@$(PYTHON) -m benchmarks.branches
	@PYTHONPATH=examples $(PYTHON) -m benchmarks.travel
	@$(PYTHON) -m benchmarks.tiers
	@$(PYTHON) -m benchmarks.sql
	@$(PYTHON) -m benchmarks.replay
	@PYTHONPATH=examples $(PYTHON) -m benchmarks.postgres

docs: $(VENV)/installed-develop  ## Build the documentation into site/
	@$(VENV)/bin/zensical build --strict --clean

clean:  ## Remove what was made
	rm -rf $(VENV) .matrix site dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
