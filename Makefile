# Everything a developer or CI does here, with plain Python 3.11 and make. `make help` lists it.
# The environment is built once, in .venv, and again when pyproject.toml or the pins change. For another Python, as in
# `make test PYTHON=python3.13`, one of its own is built beside it, in .venv-3.13.

PYTHON ?= python3
JOBS ?= 2

ifneq ($(origin PYTHON),file)
VERSION := $(filter-out 3.11,$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null))
endif
VENV := .venv$(addprefix -,$(VERSION))
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
SOURCES := statemachine model tests bench specs

# No tool asks a registry for a newer version of itself.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv check evidence test bench docs lint nightly clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s  %s\n", $$1, $$2 }' Makefile

venv: $(STAMP) ## build the environment in .venv

check: $(STAMP) ## check the rules: every reachable state of the small scopes, and the rest of `statemachine check`
	@$(BIN)/statemachine check

evidence: $(STAMP) ## run every engine whole, and hunt every break with each: below twenty minutes
	@.ci/spin
	@$(BIN)/statemachine evidence --jobs $(JOBS)

test: $(STAMP) ## run the tests, without the nightly ones
	@$(BIN)/python -m pytest -n $(JOBS)

bench: $(STAMP) $(PEERS_STAMP) ## measure, and compare with peers in .venv-peers
	@$(BIN)/python -m bench

docs: $(STAMP) ## write the generated documents in specs/ anew, and the API reference into build/api
	@$(BIN)/statemachine docs
	@$(BIN)/python -m sphinx -q -E -W -b html specs/api build/api
	@echo "the API reference begins at build/api/index.html"

lint: $(STAMP) ## format, style and types
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python

nightly: $(STAMP) ## the long tests, the top rung of the ladder of scopes among them, then the other rungs
	@$(BIN)/python -m pytest -n $(JOBS) -m nightly || [ $$? -eq 5 ]  # 5: no test is marked so
	@$(BIN)/statemachine explore --ladder

clean: ## remove the environment, caches and build artefacts
	@rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find $(SOURCES) -type d -name __pycache__ -prune -exec rm -rf {} +

# An environment that is there is brought up to date in place, which takes seconds; `make clean` first for a new one.
# -qq: errors only.
$(STAMP): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not that: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "building $(VENV) (once, takes about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq -c .ci/constraints.txt -e '.[check,diagrams,dev,ray]'
	@touch $@

# What is compared with has an environment of its own. Without a registry there is none: that is said, and the rest is
# measured all the same.
$(PEERS_STAMP): bench/peers/requirements.txt | $(STAMP)
	@$(BIN)/python -m bench.peers.environment || true
