# Each target does all the set-up that it needs on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --constraint constraints.txt

.PHONY: demo test lint prove docs clean

demo: .venv/demo  ## Align a tiny model by all three pipelines and show what each of them did.
	$(BIN)/tutelage run --run runs/demo

test: .venv/test lint  ## Everything that must hold: lint, types, import rules, tests.
	$(BIN)/python -m pytest

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy core plugins tests contrib docs
	$(BIN)/lint-imports --no-cache

prove: .venv/test  ## The long shows; writes docs/proof.json.
	$(BIN)/python -m tests.prove

docs: .venv/test  ## Write the generated pages again.
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/quoted.py

clean:
	rm -rf .venv runs

.venv/bin/python:
	$(PYTHON) -m venv .venv

# torch comes first and by its exact pin: any other spec pulls gigabytes of CUDA.
.venv/demo: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable '.[phi2]'
	touch $@

.venv/test: .venv/demo
	$(INSTALL) --editable '.[dev]'
	touch $@
