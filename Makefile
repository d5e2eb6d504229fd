# The words a newcomer types. Every target does its own set-up; nothing needs root but test-system.
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
VENV ?= .venv
PY := $(VENV)/bin/python
BOOT ?= $(shell for p in python3.12 python3.11 python3.13 python3 python3.14; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)

.PHONY: help setup models demo test test-system lint types format lock fidelity bench-farm clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.ready ## make .venv from the lock file

$(VENV)/.ready: requirements.lock pyproject.toml
	@test -n "$(BOOT)" || { echo "benchfarm needs Python 3.11 or newer with venv: none of python3.11..3.14 or python3 on PATH is. Install one, or run make BOOT=/path/to/python" >&2; exit 2; }
	test -x $(PY) || $(BOOT) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

models: setup ## make the small models that tests and the demo measure
	$(PY) examples/models/make.py

demo: models ## measure a real ONNX and a real TFLite model here, and over a real SSH server
	$(PY) -m examples.demo

test: setup ## every test that needs neither root nor Debian packages
	$(PY) -m pytest

test-system: setup ## the tests that need Debian packages (OpenSSH's sshd) and root
	$(PY) -m pytest -m system

lint: setup ## style, types, floors, and the agent's Python 3.8
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/vermin -q --no-tips --violations -t=3.8- --eval-annotations agents/farm_agent

types: setup ## mypy alone
	$(VENV)/bin/mypy

format: setup ## ruff, writing
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench-farm: setup ## how fast is the farm: the tables of docs/farm-speed.md
	$(PY) -m benchmarks.farm

fidelity: models ## how true are our numbers: the table of docs/fidelity.md
	$(PY) -m benchmarks.fidelity

lock: ## write requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--extra farm --extra s3 --extra onnxruntime --extra litert --group dev pyproject.toml -o requirements.lock

clean: ## remove what the targets above made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache out build dist
