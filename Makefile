# Needs python3 (3.11 or newer) with venv, and make. Everything else is installed into .venv from hashed locks.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# what running needs, and what developing needs on top of it
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
# a lock is complete: nothing is resolved at install time, where each pip would do it in its own way
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
PROVIDER ?= stripe
SECONDS ?= 60
AT ?= 2026-12-31 23:50
# what was compiled is kept: the processes that the tests start would compile all of it again
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up demo test test-at cover check bench chaos contract mutate fmt lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

$(RUNS): requirements/embedded.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed; found: $$($(PYTHON) --version 2>&1). Name another: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV): what running needs (once, half a minute beside the downloads)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes -r requirements/embedded.lock
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(READY): requirements/dev.lock $(RUNS)
	@echo "setting up $(VENV): what developing needs (once, half a minute more)"
	@$(INSTALL) --require-hashes -r requirements/dev.lock
	@touch $@

up: $(RUNS) ## start everything, print the addresses; Ctrl-C stops all, data stays in .local
	@exec $(BIN)/python -m embedded up

demo: $(RUNS) ## one payment from checkout to receipt, headless (PROVIDER=payplus and others); exit code 0 only if all happened
	@exec $(BIN)/python -m embedded demo --provider $(PROVIDER)

test: $(READY) ## the whole suite, on all processors; each has PostgreSQL and Temporal of its own
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# a program is followed by one other at a time, so what moves the clock is not tested by itself there
test-at: $(READY) ## the suite as if it were AT='2026-12-31 23:50' (in the zone TZ), without touching the clock; Linux on x86-64
	@$(BIN)/python -m tests.at '$(AT)' $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder \
	  --ignore tests/deploy/test_at.py

cover: $(READY) ## the same with line coverage, which must be 90 % or more; takes nearly twice as long
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered --cov-fail-under=90

check: $(READY) ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(READY) ## ratios against a bare workflow, in one run; writes bench/results.json
	@$(BIN)/python -m bench

chaos: $(READY) ## payments under kill -9, failing providers and hostile webhooks; exit code 0 only if every promise held
	@exec $(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

contract: $(READY) ## the conformance suite against PROVIDER's own test system, with the keys of a test account from the environment; not run without
	@$(BIN)/python -m tests.contract $(PROVIDER) || test $$? -eq 77

mutate: $(READY) ## rules and postings changed in one place at a time: do tests notice? About half an hour; writes build/mutation.txt
	@exec $(BIN)/python -m tests.mutation $(if $(PART),--part $(PART)) $(if $(MODULE),--module $(MODULE))

fmt: $(READY) ## format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only .

# each smaller lock begins as a copy of the next larger one, so that all name the same versions
LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --generate-hashes --universal --no-emit-index-url --no-header

lock: $(READY) ## write requirements/*.lock from pyproject.toml; UPGRADE=1 moves to the newest versions
	@$(LOCK) --extra dev $(if $(UPGRADE),--upgrade) -o requirements/dev.lock
	@cp requirements/dev.lock requirements/embedded.lock
	@$(LOCK) --extra embedded -o requirements/embedded.lock
	@cp requirements/embedded.lock requirements/runtime.lock
	@$(LOCK) -o requirements/runtime.lock

clean: ## remove .venv and caches; the data in .local stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +
