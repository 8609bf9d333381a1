# make test        the tests
# make reproduce   four main figures and their data, into results/
# make derive      rewrite theory/ from symbolic/
# make derivation  the derivation as a document: derivation.tex, and derivation.pdf where pdflatex is installed; with the
#                  digits of every formula, which are counted first (minutes) and listed in certificate.md
# make docs        the site, offline and strict, into docs/_build
# make lint        ruff and mypy alone;  make format: lay the code out
#
# Each sets itself up: a virtual environment in .venv and, per set of extras, one stamp that an edit of pyproject.toml renews.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST_ARGS ?= -n 2

unexport PYTHONDONTWRITEBYTECODE  # the tests start hundreds of processes: each would compile every module anew

.PHONY: test reproduce derive derivation docs lint format
.DELETE_ON_ERROR:

test: .venv/test.stamp
	@$(BIN)/python -m pytest --quiet $(PYTEST_ARGS)

reproduce: .venv/base.stamp
	@$(BIN)/quenched reproduce --force

derive: .venv/derive.stamp
	@$(BIN)/quenched derive

derivation: .venv/derive.stamp
	@$(BIN)/quenched derive --force --certify certificate.md --latex derivation.tex
	@if command -v pdflatex > /dev/null; then for run in 1 2 3; do \
		pdflatex -interaction=batchmode -halt-on-error derivation.tex > /dev/null || exit 1; done; fi

docs: .venv/docs.stamp
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build
	@echo "docs/_build/index.html"

lint: .venv/test.stamp
	@$(BIN)/python -m pytest --quiet tests/test_lint.py tests/test_types.py tests/test_architecture.py

format: .venv/test.stamp
	@$(BIN)/ruff check --quiet --fix . && $(BIN)/ruff format --quiet .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "quenched needs Python 3.11 or newer: make PYTHON=...")'
	@$(PYTHON) -m venv .venv

.venv/base.stamp: pyproject.toml | $(BIN)/python
	@$(INSTALL) --editable . && touch $@

.venv/%.stamp: pyproject.toml | $(BIN)/python
	@$(INSTALL) --editable '.[$*]' && touch $@
