# Everything needs only Python 3.11 or newer with its venv module, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The slow suite starts a real Airflow for each module, which wants the machine for itself.
PYTEST := $(BIN)/python -m pytest

.PHONY: help install demo serve test test-quick test-airflow docs docs-test faults lint wheel-check clean \
	engines-slurm engines-docker engines-kubernetes engines-postgres

help:
	@echo "make demo         tune a model with a real Airflow, print the trials and the best parameters"
	@echo "make serve        the same Airflow for the browser, until Ctrl-C"
	@echo "make test         all tests: the quick ones in parallel, then those that start a real Airflow"
	@echo "make faults       kill every process at every crash point; the table of what was lost, doubled or left running"
	@echo "make engines-slurm, engines-docker, engines-kubernetes, engines-postgres"
	@echo "                  the tests against that engine, which they start themselves (as root, on Debian or Ubuntu)"
	@echo "make docs         build the documentation's site in build/site; a warning is an error"
	@echo "make docs-test    run every code block of the documentation"
	@echo "make lint         ruff and mypy"
	@echo "make wheel-check  build the wheel and try it in an empty environment"
	@echo "make clean        remove the environment, the demo's Airflow and caches"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.11")'
	@echo "Installing into $(VENV) (some minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -qq -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

serve: $(STAMP)
	$(BIN)/python scripts/serve.py

test: test-quick test-airflow

test-quick: $(STAMP)
	$(PYTEST) -n auto -m "not airflow and not docs"

test-airflow: $(STAMP)
	$(PYTEST) -m airflow

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-test: $(STAMP)
	$(PYTEST) -n 2 --dist worksteal tests/docs

engines-slurm engines-docker engines-kubernetes: engines-%: $(STAMP)
	$(PYTEST) -m $*

engines-postgres: $(STAMP)
	tests/engines/postgres_install.sh
	$(PYTEST) -n auto -m postgres

faults: $(STAMP)
	$(BIN)/python -m tests.faults

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel-check: $(STAMP)
	scripts/wheel_check.sh $(BIN)/python

clean:
	rm -rf $(VENV) .airflow build dist .pytest_cache .mypy_cache .ruff_cache
