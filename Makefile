# Two commands do all the set-up: `make demo` and `make test`. Needs Python 3.11 and make, nothing else.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check bench install install-all lock clean help

help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

demo: install    ## install the core, then run the main job through the Airflow DAGs
	$(BIN)/outwatch demo

test: install-all  ## install everything, then run all tests with coverage of each package
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --durations=10

check: install-all  ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install-all  ## measure speed against the plain way, and draw the chart (half an hour)
	$(BIN)/python -m pip install --quiet lap
	$(BIN)/python -m benchmarks.speed $(BENCH)
	$(BIN)/python -m benchmarks.chart

install: $(VENV)/core.done          ## the core: no torch
install-all: $(VENV)/all.done       ## the core, Ultralytics with torch, and what the tests need

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.done: $(VENV)/bin/python requirements.lock pyproject.toml
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/all.done: $(VENV)/core.done requirements-all.lock
	$(PIP) -r requirements-all.lock
	touch $@

lock:            ## resolve pyproject.toml again into the two lock files
	bash .ci/lock

clean:           ## remove the environment and all embedded state
	rm -rf $(VENV) .outwatch
