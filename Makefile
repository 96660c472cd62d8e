# make book   executes the chapters (papermill, default profile quick), renders the book, prints the page to open
# make test   passes the tests
# Narrow with CHAPTER=03_sdst PROFILE=smoke DEVICE=cpu SEEDS=0,1 DATA_ROOT=/path; KEEP=1 puts the executed chapters
# into book/chapters, too. See `make help`.

CHAPTER ?= all
PROFILE ?= quick
DEVICE  ?= auto
SEEDS   ?=
DATA_ROOT ?=
RERUN   ?=
KEEP    ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first interpreter on the path that runs and is new enough (a shim for a missing version exists but does not run).
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python3.13 python; do \
	"$$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

.PHONY: help env test book render contents archive lint lock clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

env: $(STAMP) ## make .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found; name one: make env PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked versions into $(VENV) (once; a minute or more)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check
	@touch $(STAMP)

test: env ## pass the tests
	$(BIN)/python -m pytest

book: env ## execute the chapters, render the book, print the page to open
	$(BIN)/python -m vtg_lib.book.build build --chapter "$(CHAPTER)" --profile "$(PROFILE)" --device "$(DEVICE)" \
	  $(if $(SEEDS),--seeds "$(SEEDS)") $(if $(DATA_ROOT),--data-root "$(DATA_ROOT)") $(if $(RERUN),--rerun) $(if $(KEEP),--keep)

render: env ## render the executed chapters as they are, training nothing
	$(BIN)/python -m vtg_lib.book.build render

contents: env ## write the lists of chapters (README, contents, first page) and the README's claims
	$(BIN)/python -m vtg_lib.book.build contents

archive: env ## the run store and its weights as one file to deposit
	$(BIN)/python -m vtg_lib.book.archive

lint: env ## style, format and types
	$(BIN)/python -m ruff check vtg_lib tests
	$(BIN)/python -m ruff format --check vtg_lib tests
	$(BIN)/python -m mypy vtg_lib

lock: env ## rewrite requirements.lock from the present environment
	$(BIN)/python -m vtg_lib.book.build lock

clean: ## remove builds (keeps .venv, data and results)
	rm -rf _build build
