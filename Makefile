# Every way to start: `make demo`, `make up`, `make test`, `make setup`. They work on a fresh machine; `make` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
ARGS ?=

# The first Python that is new enough; empty when there is none.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)

# A folder that was moved or copied holds scripts that point to the old place: it is built again.
PLACE := $(shell cat $(STAMP) 2>/dev/null)
ifneq ($(PLACE),$(CURDIR))
MOVED := moved
endif

# Downloads may be slow or break off; pip asks again. A setting of yours wins.
export PIP_RETRIES ?= 10
export PIP_DEFAULT_TIMEOUT ?= 180
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

# No setting of yours reaches a test. One thread a process: several trainers on a small machine spin for each other
# otherwise. The Hub is never asked.
TEST_ENV := env -u REDIS_URL $$(env | sed -n 's/^\(TRAINCTL_[A-Z_]*\)=.*/-u \1/p') OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive TOKENIZERS_PARALLELISM=false \
	HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest
# Processes that share the tests of `make test`, a half each, so that what a file sets up is seldom set up twice; with
# `make test JOBS=0` there is one.
JOBS ?= 2
NO_GPU := $(if $(shell command -v nvidia-smi 2>/dev/null),,-m "not gpu")

# Debian's packages that only tests need, and who may install them.
BROWSERS := chromium chromium-browser google-chrome
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120
MAY_INSTALL := [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null
MISSING := for name in $(BROWSERS); do $$name --version >/dev/null 2>&1 && break; done || echo chromium; \
	command -v curl >/dev/null || echo curl

.PHONY: help setup demo up parts format lint types imports test test-all check moved

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 - /p' Makefile

setup: $(STAMP)  ## .venv with the pinned dependencies
	@:

demo: setup  ## train the bundled sample on a tiny model and show the result
	@$(BIN)/trainctl demo $(ARGS)

up: setup  ## the control center itself, on http://127.0.0.1:7860
	@$(BIN)/trainctl up $(ARGS)

$(STAMP): pyproject.toml constraints.txt $(MOVED)
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; python3 is $$(python3 -V 2>&1 || true)." \
		"Install it (Debian and Ubuntu: apt-get install python3 python3-venv) and try again." >&2; exit 1; }
	@rm -f $(STAMP)
	@[ -z "$(PLACE)" ] || [ "$(PLACE)" = "$(CURDIR)" ] || rm -rf $(VENV)
	@$(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(MAKE) --no-print-directory $(VENV)
	@echo "Installing PyTorch ($$(sed -n 's/^torch==//p' constraints.txt)); the first time this takes some minutes ..."
	@$(BIN)/python -m pip install $$([ -t 1 ] || echo -q) -c constraints.txt torch setuptools
	@echo "Installing everything else ..."
	@$(BIN)/python -m pip install $$([ -t 1 ] || echo -q) -c constraints.txt --no-build-isolation -e '.[worker,dev]'
	@echo "$(CURDIR)" > $(STAMP)

.PHONY: $(VENV)
$(VENV):
	@echo "Making $(VENV) with $$($(PYTHON) -V) ..."
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(MAY_INSTALL) && $(APT) update && $(APT) install -y python3-venv >/dev/null; } || true
	@$(PYTHON) -m venv --clear $(VENV) || { echo "$(PYTHON) cannot make virtual environments here." \
		"Install its venv module (Debian and Ubuntu: apt-get install python3-venv) and try again." >&2; exit 1; }

parts:
	@missing=$$($(MISSING)); [ -z "$$missing" ] || ! { $(MAY_INSTALL); } || { \
		echo "Installing for the tests:" $$missing "..."; \
		$(APT) update && $(APT) install -y --no-install-recommends $$missing >/dev/null || true; }
	@missing=$$($(MISSING)); [ -z "$$missing" ] || echo "Not on this machine, so the tests that need it are skipped:" \
		$$missing "(Debian: apt-get install" $$missing"; as root, make test does it)."

format: setup  ## ruff puts the code in shape
	@$(BIN)/ruff format -q .
	@$(BIN)/ruff check -q --fix-only .

lint: setup  ## ruff's rules and its format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup  ## mypy --strict
	@$(BIN)/mypy

imports: setup  ## who may import whom
	@$(BIN)/lint-imports --no-logo

test: setup parts lint types  ## what CI runs: ruff, mypy and every test but the long ones
	@$(PYTEST) -n $(JOBS) --dist worksteal -m "not slow and not gpu" $(ARGS)

test-all: setup parts lint types  ## the long ones too, and those for a GPU where there is one
	@$(PYTEST) $(NO_GPU) $(ARGS)

check: format lint types imports test  ## format, ruff, mypy, imports, tests: before a commit
