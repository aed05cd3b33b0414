# Everything runs from one virtual environment, made on first use. Nothing here reads an
# environment variable to decide what to do.

PYTHON := python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m

# What an installation compiles or reads: a change asks for a new one.
SOURCES := pyproject.toml setup.py $(wildcard native/src/* native/include/scanwright/*)

.PHONY: test demo bench formal slow format clean distclean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --upgrade pip

# Without torch: enough to generate, simulate and run the demonstration.
$(VENV)/.installed-sim: $(SOURCES) | $(VENV)/bin/python
	$(RUN) pip install --quiet --editable ".[sim]"
	touch $@

# torch is named first and exactly, so that no later requirement can pull a CUDA build.
$(VENV)/.installed-test: $(SOURCES) | $(VENV)/bin/python
	$(RUN) pip install --quiet "torch==2.13.0"
	$(RUN) pip install --quiet --editable ".[test]"
	touch $@ $(VENV)/.installed-sim

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(RUN) mypy
	$(BIN)/lint-imports
	$(RUN) pytest -n 2 --dist worksteal

demo: $(VENV)/.installed-sim
	$(RUN) sim.demo

formal: $(VENV)/.installed-test
	$(RUN) pytest -n 2 -m "slow or not slow" sim/formal

slow: $(VENV)/.installed-test
	$(RUN) pytest -n 2 --dist worksteal -m slow

bench: $(VENV)/.installed-test
	$(RUN) bench.run

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	find build -mindepth 1 ! -name .gitignore -delete
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info

distclean: clean
	rm -rf $(VENV) native/*.so
