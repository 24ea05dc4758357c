# The two commands of the README, each with all its set-up. `uv` users: `uv run melanoma-zoo compare`,
# `uv run pytest`. Options for the comparison go into ARGS: make compare ARGS="--no-latency".

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
IMAGES ?=
OUTPUT ?= out
TIMINGS ?= .benchmarks
BENCH = benchmarks -o python_files='bench_*.py' -o addopts= --import-mode=importlib --benchmark-only

# The first interpreter here that is one of the supported versions; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)

.PHONY: compare test lint types docs check readme bench gpu clean

# The published scores are small: a few seconds are spent on them, and it goes on without them.
compare: $(VENV)/.compare
	$(if $(findstring predictions,$(ARGS)),,@$(BIN)/melanoma-zoo data fetch published-scores --optional --retries 0 --max-time 10)
	$(BIN)/melanoma-zoo compare --output $(OUTPUT) $(ARGS)

# As many processes as cores; the tests of one file share what they set up.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cog --check README.md docs/cards.md

readme: $(VENV)/.dev
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cog -r README.md docs/cards.md

check: lint types docs test

# Timings of the parts, with pytest-benchmark, into .benchmarks/latest.json once all are there;
# BASELINE=.benchmarks/latest.json compares with those of the last run.
bench: $(VENV)/.dev
	$(if $(BASELINE),@test -f $(BASELINE) || { echo "BASELINE=$(BASELINE): there is no such file" >&2; exit 2; })
	mkdir -p $(TIMINGS)
	$(BIN)/python -m pytest $(BENCH) --benchmark-json=$(TIMINGS)/new.json \
	$(if $(BASELINE),--benchmark-compare=$(BASELINE)) $(ARGS)
	mv $(TIMINGS)/new.json $(TIMINGS)/latest.json

# Everything that a CUDA machine can say. Nothing is installed: PYTHON is one that has torch, timm, pandas,
# click and rich, by default that of the commands above where there is one. ARGS="--quick sge_b3 baseline_b3" shortens
# all of it, ARGS="--device cpu --quick" tries it without a GPU. Image files are made up; IMAGES=DIR takes real ones.
# Where all that predict needs is there too, it is timed beside timm's benchmark at last. A CUDA test that failed fails
# the command (error 5), with all else done.
GPU_PYTHON = $(or $(if $(filter file,$(origin PYTHON)),$(wildcard $(BIN)/python)),$(PYTHON),python3)
gpu:
	@why=$$("$(GPU_PYTHON)" -c 'import click, pandas, rich, timm, torch' 2>&1) || { \
	echo "$(GPU_PYTHON): $$(printf "%s" "$$why" | tail -n 1); name a Python with torch, timm, pandas, click and rich: make gpu PYTHON=/path/to/python" >&2; exit 4; }
	"$(GPU_PYTHON)" -m reports.gpu $(if $(IMAGES),--images "$(IMAGES)") $(ARGS)

clean:
	rm -rf $(VENV) $(OUTPUT)

# A stamp is newer than what it was made from only after a complete install, so an interrupted
# set-up starts again and a current one is skipped.
$(VENV)/.python: | check-python
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.compare: pyproject.toml $(VENV)/.python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.compare

.PHONY: check-python
check-python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=/path/to/python" >&2; exit 1; }
