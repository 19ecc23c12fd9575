# `make demo` and `make test` do their own set-up, on a fresh machine too; each step is done only
# when what it depends on has changed.
#
#   setup        system packages, the Python environment .venv, the build in build/
#   demo         the five models: eager beside Stator, checked elementwise
#   test         all tests               unit         those that take about a minute together
#   conformance  every op against torch (K=name: one op)
#   bench        the demo, call overhead and memory, with JSON files and a plot
#   lint         format and includes     golden       rewrites golden files and generated docs
#   clean        removes the build (not .venv)

SHELL := /bin/bash
BUILD := build
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
CTEST := ctest --test-dir $(BUILD) --output-on-failure --parallel 2
CXX_FILES = $(shell git ls-files '*.cc' '*.h')

.PHONY: setup packages build demo test unit conformance bench lint golden clean

setup: build

packages:
	@tools/install_packages.sh

.venv/.installed: pyproject.toml constraints.txt tools/install_python.sh | packages
	@tools/install_python.sh
	@touch $@

$(BUILD)/build.ninja: CMakePresets.json .venv/.installed
	@cmake --preset dev

build: packages $(BUILD)/build.ninja
	@cmake --build $(BUILD)

demo: build
	@$(PYTHON) bench/models.py

test: build
	@$(PYTHON) tools/lint_includes.py
	@$(CTEST)
	@$(PYTEST) test

unit: build
	@$(CTEST)
	@$(PYTEST) test -m "not slow" --ignore test/conformance

conformance: build
	@$(PYTEST) test/conformance $(if $(K),-k $(K))

bench: build
	@$(PYTHON) bench/models.py --json $(BUILD)/bench/models.json
	@$(PYTHON) bench/overhead.py --json $(BUILD)/bench/overhead.json
	@$(PYTHON) bench/memory.py --json $(BUILD)/bench/memory.json
	@$(PYTHON) bench/plot.py $(BUILD)/bench

lint: .venv/.installed
	@.venv/bin/clang-format --dry-run --Werror $(CXX_FILES)
	@$(PYTHON) tools/lint_includes.py
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

golden: build
	@STATOR_UPDATE_GOLDEN=1 $(CTEST) --tests-regex Golden
	@STATOR_UPDATE_GOLDEN=1 $(PYTEST) test/cli -k generated

clean:
	@rm -rf $(BUILD) python/torch_stator/lib
