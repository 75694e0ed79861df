# Nothing but make and python3 (3.11 or later: the pinned versions need it) has to be there; the first target to run
# creates .venv and installs into it.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1

.PHONY: sample test test-all lint train bench pictures

sample: .venv/installed
	$(BIN)/kdpm2 sample --output samples.png --force

test: .venv/installed
	$(BIN)/pytest

test-all: .venv/installed
	$(BIN)/pytest -m ""

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

train: .venv/installed
	$(BIN)/python training/train.py
	$(BIN)/python training/evaluate.py

bench: .venv/installed
	$(BIN)/python benchmarks/compare.py

pictures: .venv/installed
	$(BIN)/python docs/pictures.py

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	# Its samplers are a test's reference; what else it would install is for training.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps k-diffusion
	touch $@
