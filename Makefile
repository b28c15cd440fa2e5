# Each target creates what it needs, so that it also works on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
# Modules are compiled when they are first imported, which takes less time than compiling all of them. The compiled files
# must be kept: without them, each process that a test starts would compile its libraries again.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt
# Each of the two processes of pytest-xdist runs whole files. One thread each, so that they do not compete for the cores.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test pytest test-slow lint style types prove docs site clean

demo: .venv/demo  ## Align a tiny model with all three pipelines and show the results.
	$(BIN)/tutelage run embedded --run runs/demo

# The type checker runs beside the tests, which sometimes wait for a service or for a process.
test: style  ## Run the linters, the import rules, the type checker and the tests, except for those marked slow.
	$(MAKE) --no-print-directory --jobs=2 types pytest

pytest: .venv/test  ## Run the tests alone, except for those marked slow.
	$(TEST)

test-slow: .venv/test  ## Run the tests marked slow: further cases of a behaviour of which `make test` runs one.
	$(TEST) -m slow

lint: style types  ## Run the linters, the import rules and the type checker.

style: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: .venv/test
	$(BIN)/mypy core plugins tests contrib docs

prove: .venv/test  ## Measure what the documentation claims; writes docs/proof.json.
	$(BIN)/python -m tests.prove

docs: .venv/test  ## Update the generated pages and the generated parts of the other pages.
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/quoted.py

site: .venv/site  ## Build the pages into a site with a search, in site/; a broken link is an error.
	$(BIN)/python -m sphinx -b html -W --keep-going -q -c docs . site
	@echo "open site/README.html"

clean:
	rm -rf .venv runs site

.venv/bin/python:
	$(PYTHON) -m venv .venv

# It is installed first, with its exact pin: any other requirement would download gigabytes of CUDA packages.
TORCH := torch==2.13.0

.venv/demo: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) $(TORCH)
	$(INSTALL) --editable '.[transformers,report]'
	touch $@

# The extra `dev` has what the demo needs. Installing that first would take several seconds more.
.venv/test: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) $(TORCH)
	$(INSTALL) --editable '.[dev]'
	touch .venv/demo $@

.venv/site: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --editable '.[docs]'
	touch $@

