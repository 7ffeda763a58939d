# The two doors: `make demo` and `make test`. Each sets up what it needs in .venv. With CXX=clang++ they build anew.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILER := $(notdir $(firstword $(CXX)))
# Without byte-compiling: most of what the frameworks bring is never imported, and the rest is compiled when it is, once.
# Images of containers often forbid to keep what was compiled; then each of the suite's processes would start anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --quiet --no-compile
# Each step says first what it does and how long that takes: on two cores, and for what is downloaded at 10 MB/s.
SAY = @echo "==>"
INSTALL := $(PIP) --config-settings=build-dir=build/$(COMPILER)
# PyTorch by its exact version: without it, the newest build brings gigabytes that nothing here uses.
TORCH := torch==2.13.0
WHEELS := build/wheels/$(COMPILER)
# What is installed comes from one compiler at a time.
STAMP = rm -f $(filter-out %-$(COMPILER),$(wildcard $(VENV)/.train-* $(VENV)/.test-* $(VENV)/.bench-* $(VENV)/.docs-*)) && touch $@
SOURCES := pyproject.toml CMakeLists.txt $(shell find native src third_party -type f -not -name '*.pyc')

.PHONY: demo test lint bench docs wheel clean

demo: $(VENV)/.train-$(COMPILER)
	$(SAY) "Training an LSTM on real speech: some ten seconds, then its report"
	@$(BIN)/glasscell train --output runs/japanese-vowels

# Two test processes for two cores; the tests of threads need two of them whatever the machine has.
test: $(VENV)/.test-$(COMPILER)
	$(SAY) "Running the suite: ten to twenty minutes"
	@GLASSCELL_NUM_THREADS=2 $(BIN)/python -m pytest -n 2 --dist worksteal

# The peers beside glasscell; close everything else first. BENCH="--mode step --json step.json" and the like picks.
bench: $(VENV)/.bench-$(COMPILER)
	$(SAY) "Timing every shape in every mode: half an hour; BENCH=\"--grid quick\" takes some minutes"
	@$(BIN)/python -m benchmarks --grid full $(BENCH)

# A warning is an error, and so is a link inside the site that leads nowhere.
docs: $(VENV)/.docs-$(COMPILER)
	$(SAY) "Building the site: half a minute; then open docs/_build/index.html"
	@KERAS_BACKEND=jax $(BIN)/python -m sphinx -q -W --keep-going -E -b html docs docs/_build
	@$(BIN)/python docs/check_links.py docs/_build

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "glasscell needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) --version`; try: make PYTHON=python3.11"; exit 1; }
	$(SAY) "Making a virtual environment in $(VENV): some seconds"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.train-$(COMPILER): $(VENV)/.python $(SOURCES)
	$(SAY) "Compiling glasscell, and installing Keras, JAX and what draws the report: two minutes, 200 MB to download"
	@$(INSTALL) '.[train]'
	@$(STAMP)

# What it takes to compile and what it takes to unpack the frameworks is much the same: side by side.
$(VENV)/.test-$(COMPILER): $(VENV)/.python $(SOURCES)
	@$(MAKE) --no-print-directory --jobs=2 wheel $(VENV)/.frameworks
	$(SAY) "Installing glasscell and what else the tests need: a minute, 250 MB to download"
	@$(PIP) --no-deps --force-reinstall $(WHEELS)/*.whl
	@$(PIP) "$$(echo $(WHEELS)/*.whl)[test]"
	@$(STAMP)

$(VENV)/.bench-$(COMPILER): $(VENV)/.python $(VENV)/.frameworks $(SOURCES)
	$(SAY) "Compiling glasscell, and installing the peers: two minutes, 200 MB to download"
	@$(INSTALL) '.[bench]'
	@$(STAMP)

$(VENV)/.docs-$(COMPILER): $(VENV)/.python $(SOURCES)
	$(SAY) "Compiling glasscell, and installing Sphinx and what the pages import: two minutes, 400 MB to download"
	@$(PIP) $(TORCH)
	@$(INSTALL) '.[docs]'
	@$(STAMP)

wheel: $(VENV)/.python
	$(SAY) "Compiling glasscell: half a minute"
	@rm -rf $(WHEELS)
	@$(BIN)/python -m pip wheel --quiet --no-deps --config-settings=build-dir=build/$(COMPILER) --wheel-dir $(WHEELS) .

$(VENV)/.frameworks: $(VENV)/.python
	$(SAY) "Installing PyTorch, TensorFlow and JAX: two minutes, 600 MB to download"
	@$(PIP) $(TORCH) tensorflow-cpu jax
	@touch $@

$(VENV)/.lint: $(VENV)/.python pyproject.toml
	$(SAY) "Installing ruff and mypy: some seconds"
	@$(PIP) 'ruff>=0.17,<0.18' 'mypy>=2.4,<3' 'numpy>=2.0' rich typer
	@touch $@

clean:
	rm -rf $(VENV) build dist
