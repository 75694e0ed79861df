# Nothing but make and python3 has to be there (3.11 or later for the pinned versions; 3.10 or 3.11 for the oldest); the
# first target to run creates a virtual environment and installs into it.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1

# The modules that need NumPy and SciPy alone are tested with nothing else, on each of these that is there.
PYTHONS := 3.10 3.11 3.12 3.13
CORE := $(PYTHONS:%=test-core-%) test-core-oldest
CORE_TESTS := $(addprefix tests/test_,$(addsuffix .py,curves curves_by_name noise_schedule other_solvers prediction raised spacing table))

# The Python of the machine with a GPU.
GPU_PYTHON := 3.12
GPU_PLATFORMS := manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64

.PHONY: sample test test-all test-oldest test-core $(CORE) test-matrix lint soak mutate train train-digits train-emoji bench batching gpu-wheels pictures docs

sample: .venv/installed
	$(BIN)/kdpm2 sample --output samples.png --force

test: .venv/installed
	$(BIN)/pytest

test-all: .venv/installed
	$(BIN)/pytest -m ""

test-oldest: .venv-oldest/installed
	.venv-oldest/bin/pytest

test-core: $(CORE)

# The oldest NumPy and SciPy run on the oldest Python.
$(CORE): core-python = python$(patsubst oldest,$(firstword $(PYTHONS)),$(@:test-core-%=%))
$(CORE): test-core-%:
	@if $(core-python) -c '' 2>/dev/null; then \
	    $(MAKE) --no-print-directory .venv-core-$*/installed PYTHON=$(core-python) && \
	    .venv-core-$*/bin/python -m pytest --noconftest $(CORE_TESTS); \
	else echo "not run: there is no $(core-python)"; fi

# Everything, and at the end a line for each: the versions, and what pytest said last.
test-matrix: SHELL := bash
test-matrix: .SHELLFLAGS := -o pipefail -c
test-matrix:
	@mkdir -p .matrix; failed=0; \
	for run in test test-oldest $(CORE); do \
	    $(MAKE) --no-print-directory $$run | tee .matrix/$$run || failed=1; \
	done; \
	for run in test test-oldest $(CORE); do \
	    echo "$$run: $$(.venv$${run#test}/bin/python tests/versions.py):" $$(tail -n 1 .matrix/$$run | tr -d =); \
	done; exit $$failed

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Half an hour of faults at random, and then processes that are killed a hundred times.
soak: .venv/installed
	$(BIN)/python -m tests.soak --minutes 30 --seed 0
	$(BIN)/python -m tests.soak.kill --times 100

mutate: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[mutate]'
	$(BIN)/python tests/mutation/run.py

train: train-digits train-emoji

train-digits: .venv/installed
	$(BIN)/python training/train.py
	$(BIN)/python training/evaluate.py

# An hour or so on two cores; a run that was stopped goes on.
train-emoji: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train-emoji]'
	$(BIN)/python -m training.emoji.train
	$(BIN)/python -m training.emoji.evaluate

# A few minutes on a machine that does nothing else.
bench: .venv/installed
	$(BIN)/python -m benchmarks --json benchmarks/last.json --plot benchmarks/elements.png --markdown benchmarks/README.md \
	    $(addprefix --gpu ,$(wildcard benchmarks/gpu.json)) --force

# Some minutes, on a machine that does nothing else. One thread: where two wait for one another, a neighbour's work shows.
batching: .venv/installed
	$(BIN)/python -m benchmarks --only batching --threads 1 --json benchmarks/batching.json --force
	$(BIN)/python -m docs.batching_figures benchmarks/batching.json
	$(BIN)/python -m docs.batching_picture

# What benchmarks/gpu.sh installs on a machine that has torch, Triton and NumPy, and no network.
gpu-wheels: .venv/installed
	rm -rf benchmarks/wheels
	$(BIN)/python -m pip download --quiet --constraint constraints.txt --dest benchmarks/wheels --only-binary :all: \
	    --python-version $(GPU_PYTHON) $(GPU_PLATFORMS:%=--platform %) diffusers
	rm -f $(foreach package,torch triton numpy,benchmarks/wheels/$(package)-*.whl)
	du -sh benchmarks/wheels

# Every picture of the documentation. What `make batching` measured is drawn again, and not measured.
pictures: .venv/installed
	$(BIN)/python -m docs.pictures
	$(BIN)/python -m docs.option_pictures
	$(BIN)/python -m docs.batching_picture
	$(BIN)/python -m docs.page_pictures

# The site, in site/; a warning is an error.
docs: .venv/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

.venv/docs-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

.venv/installed: constraints.txt
.venv/installed: extras := dev,browser
.venv-oldest/installed: constraints-oldest.txt
.venv-oldest/installed: extras := dev
.venv/installed .venv-oldest/installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint $(filter constraints%,$^) --editable '.[$(extras)]'
	# Its samplers are a test's reference; what else it would install is for training.
	$(@D)/bin/python -m pip install --quiet --constraint $(filter constraints%,$^) --no-deps k-diffusion
	touch $@

.venv-core-oldest/installed: constraints = --constraint constraints-oldest.txt
.venv-core-%/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet $(constraints) numpy scipy hypothesis pytest
	$(@D)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@
