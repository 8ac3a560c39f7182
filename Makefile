# SPDX-License-Identifier: Apache-2.0
# What people and CI run. `make help` lists it.

SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Files of tests that run at a time; they wait far more than they compute.
JOBS ?= 2
# CI has --release here: what is compiled for the extension then serves lints and tests of Rust, too.
CARGO_FLAGS ?=
EXTENSION := python/kedge/_core.abi3.so
RUST_SOURCES := $(shell find rust -name '*.rs' -o -name '*.proto' -o -name Cargo.toml) Cargo.toml Cargo.lock
# Bytecode is part of the install: an agent that compiles at start is 6 MB larger.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPATH := $(CURDIR)/python:$(CURDIR)
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

.PHONY: help setup setup-e2e ext demo test test-fast test-rust lint lock format bench docs wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

$(VENV)/.done: requirements/dev.lock
	PYTHON=$(PYTHON) sh scripts/setup_system.sh build
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	printf '%s\n' $(CURDIR)/python > $$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')/kedge.pth
	printf '#!%s\nfrom kedge.ctl.__main__ import main\nmain()\n' $(CURDIR)/$(BIN)/python > $(BIN)/kedge
	chmod +x $(BIN)/kedge
	touch $@

$(EXTENSION): $(RUST_SOURCES) | $(VENV)/.done
	PYO3_BUILD_EXTENSION_MODULE=1 cargo build --locked --release --package kedge-py
	cp target/release/lib_core.so $@.new && mv $@.new $@
	$(BIN)/python -m compileall -q python/kedge

setup: $(VENV)/.done $(EXTENSION) ## the virtual environment and the extension

setup-e2e: setup ## and what the end-to-end tests run: containerd, runc, CNI, kubectl
	sh scripts/setup_system.sh e2e

ext: $(EXTENSION) ## the extension alone

demo: setup-e2e ## the main job, with real programs, and a report
	$(BIN)/python examples/demo/demo.py

test: setup-e2e test-rust ## every test, real containerd included
	$(BIN)/python -m pytest --e2e -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not alone"
	$(BIN)/python -m pytest --e2e -m alone

test-fast: setup test-rust ## no root, no containers, seconds
	$(BIN)/python -m pytest -m "not e2e and not slow" tests/unit tests/property tests/ffi

test-rust: $(VENV)/.done
	cargo test --locked --quiet --package kedge-core $(CARGO_FLAGS)

lint: setup ## formatting, lints, types, layers, the stub
	cargo fmt --all --check
	cargo clippy --locked --quiet --workspace --all-targets $(CARGO_FLAGS) -- -D warnings
	$(BIN)/ruff format --check python tests bench examples scripts
	$(BIN)/ruff check python tests bench examples scripts
	MYPYPATH=python $(BIN)/mypy
	$(BIN)/lint-imports
	MYPYPATH=python $(BIN)/python -m mypy.stubtest kedge._core --allowlist tests/ffi/stubtest.txt

lock: $(VENV)/.done ## the exact versions of what setup installs, from requirements/*.in
	$(BIN)/pip install --quiet pip-tools
	cd requirements && env -u PIP_FIND_LINKS ../$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o dev.lock dev.in

format: $(VENV)/.done ## rewrite in the project's format
	cargo fmt --all
	$(BIN)/ruff format python tests bench examples scripts
	$(BIN)/ruff check --fix-only --quiet python tests bench examples scripts

bench: setup-e2e ## every benchmark; results into bench/results
	$(BIN)/python -m pytest -q bench/micro
	$(BIN)/python bench/all.py

docs: setup ## generated reference pages
	$(BIN)/python scripts/gen_docs.py

wheel: setup ## a wheel for this platform, into dist/
	$(BIN)/maturin build --locked --release --out dist

clean: ## what the build made
	rm -rf target dist .venv $(EXTENSION)
