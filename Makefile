# Nothing but python3 and make is needed; the first target to run creates .venv and installs into it.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1

.PHONY: sample test test-all lint train bench

sample: .venv/installed
	$(BIN)/kdpm2 sample --output samples.png

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

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
