# Every habit is one word; `make` alone lists them.
PYTHON ?= .venv/bin/python
BIN := $(dir $(PYTHON))

.DEFAULT_GOAL := help
.PHONY: help setup lint format types layers test parity parity-quick graphs bench hostile mutants fuzz memory wheel-twice clean

help:  ## list what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv with everything for development except torch
	python3 -m venv .venv
	.venv/bin/pip install -e '.[test]' 'ruff>=0.14' 'mypy>=1.18' 'import-linter>=2.5'

lint:  ## style and formatting
	$(BIN)ruff check .
	$(BIN)ruff format --check .

format:  ## put code into shape
	$(BIN)ruff check --fix .
	$(BIN)ruff format .

types:  ## mypy, strict
	$(PYTHON) -m mypy

layers:  ## who may import whom
	PYTHONPATH=src $(BIN)lint-imports

test:  ## all tests; those that need torch are skipped without it
	$(PYTHON) -m pytest -q

parity-quick:  ## the part of the tests against torch and the reference implementations that CI runs
	$(PYTHON) -m pytest -q -m 'torch or parity'

parity:  ## all of it, on 30 pictures and with every graph exported again; writes docs/parity.md (half an hour)
	rm -f parity.jsonl
	SAMLET_PARITY=all SAMLET_PARITY_TABLE=parity.jsonl $(PYTHON) -m pytest -q -m 'torch or parity'
	$(PYTHON) -m tests.parity_table parity.jsonl > docs/parity.md
	rm -f parity.jsonl

graphs:  ## export the weightless graphs again (needs samlet[export], minutes and 12 GB for ViT-H)
	PYTHONPATH=src $(PYTHON) -m samlet.export.graphs

bench:  ## speed, side by side with the reference
	$(PYTHON) -m benchmarks.nano_and_mobilesam

hostile:  ## attack the server over loopback, at full size (ten minutes; needs schemathesis)
	PYTHONPATH=src $(PYTHON) -m benchmarks.hostile_http
	SAMLET_SCHEMA_EXAMPLES=1000 $(PYTHON) -m pytest -q --timeout=3600 tests/test_server_schemathesis.py

mutants:  ## give every reader 10,000 damaged files (five minutes)
	PYTHONPATH=src $(PYTHON) -m fuzz.mutants

fuzz:  ## search for input that reaches new code, a minute for each reader (needs atheris)
	PYTHONPATH=src $(PYTHON) -m fuzz.guided --seconds 60

memory:  ## see that 100,000 decodes and 10,000 encodes leave nothing in memory (minutes)
	PYTHONPATH=src $(PYTHON) -m benchmarks.memory_slope

wheel-twice:  ## build the wheel four times, on other days and from the sdist: the same bytes, and those of the tree
	SAMLET_WHEEL=whole $(PYTHON) -m pytest -q tests/test_wheel.py

clean:  ## remove caches and builds, not .venv
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
