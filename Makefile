# Each target creates what it needs, so that it also works on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --constraint constraints.txt

.PHONY: demo test lint prove docs clean

demo: .venv/demo  ## Align a tiny model with all three pipelines and show the results.
	$(BIN)/tutelage run embedded --run runs/demo

test: .venv/test lint  ## Run the linters, the type checker, the import rules and the tests.
	$(BIN)/python -m pytest

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy core plugins tests contrib docs
	$(BIN)/lint-imports --no-cache

prove: .venv/test  ## Measure what the documentation claims; writes docs/proof.json.
	$(BIN)/python -m tests.prove

docs: .venv/test  ## Update the generated pages and the generated parts of the other pages.
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/quoted.py

clean:
	rm -rf .venv runs

.venv/bin/python:
	$(PYTHON) -m venv .venv

# torch is installed first, with its exact pin: any other requirement would download gigabytes of CUDA packages.
.venv/demo: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable '.[transformers]'
	touch $@

.venv/test: .venv/demo
	$(INSTALL) --editable '.[dev]'
	touch $@
