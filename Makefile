# Everything a person or CI runs. `make demo` and `make test` need only Python 3.11, make, pip and apt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROUNDS ?= 5
# Processes that are started many times compile their modules once, also where the environment says otherwise.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-rest test-loops explore check install install-test lint types imports clean

demo: install            ## the whole loop on emulated GPUs; leaves the dashboard up
	$(BIN)/fleetune demo --stay

test: install-test       ## all tests: whole loops, which wait more than they compute, beside everything else
	$(MAKE) --no-print-directory -j 2 -k test-loops test-rest

test-rest: install-test  ## one process more than two cores: many wait for engines and disks
	$(BIN)/pytest -n 3 --dist worksteal --ignore=tests/e2e

test-loops: install-test ## what it says is printed at its end, or two would write on one line
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests/e2e > $(VENV)/loops.log 2>&1; \
	  ended=$$?; cat $(VENV)/loops.log; exit $$ended

explore: install-test    ## properties on new examples, a few minutes a round; `make test` repeats known ones
	for round in $$(seq $(ROUNDS)); do $(BIN)/pytest -n 3 -m hypothesis --hypothesis-profile exploring --ignore=tests/e2e \
	  || exit 1; done

check: lint types imports test   ## what CI runs

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-test
	$(BIN)/mypy

imports: install-test
	$(BIN)/lint-imports

install: $(VENV)/.installed

install-test: install $(VENV)/.system

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh deploy/system-packages.sh python3-venv
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/fleetune twin compile
	@touch $@

$(VENV)/.system: deploy/system-packages.sh   # a real browser, database, Prometheus, Alertmanager and Redis, for the tests only
	@command -v git >/dev/null || sh deploy/system-packages.sh git
	@sh deploy/system-packages.sh chromium postgresql prometheus prometheus-alertmanager redis-server
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
