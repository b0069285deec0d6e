# Everything needs only Python 3.11, 3.12 or 3.13 with its venv module, and make.
PYTHON ?= python3
VENV ?= .venv
# Pins every package, Airflow included; `make matrix` names others.
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The slow suite starts a real Airflow for each module, which wants the machine for itself.
PYTEST := $(BIN)/python -m pytest
# Processes of the quick tests, three for two cores: many tests wait for an app, and one for each core took 723 s on two
# cores, where three took 518 to 576 s in nine runs.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(max(1, (os.cpu_count() or 1) * 3 // 2))")

.PHONY: help install demo serve test test-all test-thorough test-quick test-main test-airflow coverage mutation soak test-cases test-versions test-versions-quick matrix test-js test-browser test-quality test-integrations screenshots pictures docs docs-test faults \
	bench bench-quick bench-guard lint release-check release-record clean engines engines-slurm engines-docker engines-kubernetes engines-postgres engines-mysql engines-celery platform

help:
	@echo "make demo         tune a model with a real Airflow, print the trials and the best parameters"
	@echo "make serve        the same Airflow for the browser, until Ctrl-C"
	@echo "make test         the quick tests in parallel, then the main job in a real Airflow: about 12 minutes on two cores"
	@echo "make test-airflow the other tests that start a real Airflow: half an hour"
	@echo "make test-thorough  the whole of the tables of which make test plays a sample"
	@echo "make test-cases   DAGs as strangers write them, interrupted at awkward moments, in a real Airflow"
	@echo "make test-all     all four"
	@echo "make coverage     branch coverage of the package by the quick tests, with the processes that they start"
	@echo "make mutation     mutation testing of spec/, lifecycle/ and store/; takes hours (MODULE=... for one file)"
	@echo "make soak         ten experiments for an hour (SECONDS=...) while every process is killed; the table of what grows"
	@echo "make matrix       the tests that depend on versions, on each Airflow and Python that is supported; prints the table"
	@echo "make test-js      lint and unit-test the page's JavaScript with Node 18 or newer and npm, which it installs (as root, on Debian)"
	@echo "make test-browser a real Airflow looked at with Chromium, which it installs (as root, on Debian)"
	@echo "make test-quality generation method \"quality\" with its extra, in an environment of its own"
	@echo "make test-integrations  MLflow and S3 with servers of their own, Weights & Biases, KubernetesPodOperator as the trial"
	@echo "make screenshots  the pictures in docs/images, from the running product"
	@echo "make pictures     each view of the page, light and dark, wide and narrow, of odd experiments, in build/pictures"
	@echo "make faults       kill every process at every crash point; the table of what was lost, doubled, left running or left open"
	@echo "make engines-slurm, engines-docker, engines-kubernetes, engines-postgres, engines-mysql"
	@echo "                  the tests against that engine, which they start themselves (as root, on Debian or Ubuntu)"
	@echo "make engines-celery  a platform's Airflow (Celery, Redis, PostgreSQL, two schedulers, two hosts), its processes killed"
	@echo "make platform     the same with every scenario; both print the table of what was lost, doubled, left running or left open"
	@echo "make engines      the scheduler contract on all schedulers at once, with the whole table"
	@echo "make docs         build the documentation's site in build/site; a warning is an error"
	@echo "make docs-test    run every code block of the documentation"
	@echo "make bench        measure side by side with Ax, TorchX and submitit; bench-quick: in three minutes"
	@echo "make bench-guard  counts and ratios that do not depend on the machine, against the committed baseline"
	@echo "make lint         ruff, mypy, and whether every test can be imported"
	@echo "make release-check  build sdist and wheel, try both in empty environments, check licenses, API and changelog"
	@echo "make clean        remove the environment, the demo's Airflow and caches"

install: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed; try make PYTHON=python3.11")'
	@echo "Installing into $(VENV) (some minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -qq -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

serve: $(STAMP)
	$(BIN)/python scripts/serve.py

test: test-quick test-main

test-all: test test-airflow test-thorough test-cases

test-quick: $(STAMP)
	tests/engines/postgres_install.sh
	$(PYTEST) -n $(WORKERS) -m "not airflow and not docs and not thorough"

# A script is tuned, and an experiment whose task and triggerer are killed.
test-main: $(STAMP)
	$(PYTEST) -m main_job

test-airflow: $(STAMP)
	$(PYTEST) -m "airflow and not cases and not thorough and not main_job"

# The whole of the tables of which the tests above play a sample.
test-thorough: $(STAMP)
	$(PYTEST) -n auto -m "thorough and not airflow"
	$(PYTEST) -m "thorough and airflow and not cases"

# Subprocesses are measured too, as far as they are not killed; those of a real Airflow are not.
coverage: $(STAMP)
	tests/engines/postgres_install.sh
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n auto -m "not airflow and not docs and not thorough" $(TESTS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# MODULE=spec/limits.py is one file; without it all of spec/, lifecycle/ and store/. SAMPLE=20 tries so many changes of each.
mutation: $(STAMP)
	$(BIN)/python scripts/mutation.py $(MODULE) $(if $(SAMPLE),--sample $(SAMPLE))

SECONDS ?= 3600
soak: $(STAMP)
	tests/engines/postgres_install.sh
	PYTHONPATH=.:scripts $(BIN)/python -m tests.soak --seconds $(SECONDS)

# DAGs and interruptions that once lost a trial or left an app running: half an hour on two cores.
test-cases: $(STAMP)
	$(PYTEST) -m cases

# What depends on the versions of Airflow and Python: a part of the tests, without other engines.
test-versions: test-versions-quick
	$(PYTEST) tests/e2e/test_dags.py tests/e2e/test_faults_airflow.py

test-versions-quick: $(STAMP)
	$(PYTEST) -n auto -m "not thorough and not airflow" tests/operators tests/triggers tests/hooks tests/plugin tests/notifications tests/test_*.py

matrix:
	$(PYTHON) scripts/matrix.py $(CELLS)

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-test: $(STAMP)
	$(PYTEST) -n 2 --dist worksteal tests/docs

engines: $(STAMP)
	$(PYTEST) tests/contracts tests/e2e/test_slurm_airflow.py -m "slurm or docker or not airflow"

engines-slurm: $(STAMP)
	$(PYTEST) tests/contracts tests/e2e/test_slurm_airflow.py -m slurm

engines-docker: $(STAMP)
	$(PYTEST) tests/contracts -m docker

engines-kubernetes: $(STAMP)
	$(PYTEST) tests/contracts -m kubernetes

engines-postgres: $(STAMP)
	tests/engines/postgres_install.sh
	$(PYTEST) -n auto tests/store tests/faults -m postgres

engines-mysql: $(STAMP)
	tests/engines/apt_install.sh mariadb-server
	$(PYTEST) -n auto tests/store -m mysql

# Airflow's provider for Celery is not part of the environment either.
engines-celery: $(STAMP)
	tests/engines/celery.sh $(BIN)/python -m "celery and not platform"

platform: $(STAMP)
	tests/engines/celery.sh $(BIN)/python -m celery

# The extra "quality" (JAX) is not part of the environment: most users do not have it.
test-quality: $(STAMP)
	tests/engines/quality.sh $(BIN)/python

# Neither MLflow nor Weights & Biases nor AWS's clients are part of the environment.
test-integrations: $(STAMP)
	tests/engines/integrations.sh $(BIN)/python

# ESLint for the page's JavaScript, axe-core for the browser tests; both are used in development only.
node_modules/.installed: package.json
	command -v npm > /dev/null || tests/engines/apt_install.sh nodejs npm
	npm install --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@

test-js: node_modules/.installed
	npm run --silent lint
	npm run --silent test

test-browser: $(STAMP) node_modules/.installed
	tests/engines/browser_install.sh
	tests/engines/apt_install.sh nginx-light
	$(PYTEST) -m browser

pictures: $(STAMP)
	tests/engines/browser_install.sh
	PYTHONPATH=scripts:. $(BIN)/python -m tests.browser.pictures build/pictures

screenshots: $(STAMP)
	tests/engines/browser_install.sh
	$(BIN)/python scripts/screenshots.py

faults: $(STAMP)
	$(BIN)/python -m tests.faults

# One torch thread: the sides share the cores with each other and with the apps.
bench: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

bench-quick: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks --quick

bench-guard: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.guard

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# mypy does not read the tests, and ruff does not see that a module has lost what another imports from it.
	@said=$$($(PYTEST) --collect-only -qq 2>&1) || { echo "$$said"; exit 1; }

# RELEASE=1: the changelog must have the date of the release.
release-check: $(STAMP)
	$(BIN)/python scripts/release/check.py $(if $(RELEASE),--release)

# Run this after a release: the next one's changes are compared with it.
release-record: $(STAMP)
	PYTHONPATH=. $(BIN)/python scripts/release/api.py

clean:
	rm -rf $(VENV) node_modules .matrix .release .mutation .airflow build dist .pytest_cache .mypy_cache .ruff_cache
