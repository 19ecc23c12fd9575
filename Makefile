# `make demo` and `make test` do their own set-up, on a fresh machine too; each step is done only
# when what it depends on has changed.
#
#   setup        system packages, the Python environment .venv, the build in build/
#   demo         the five models: eager beside Stator, checked elementwise
#   test         lint and all tests      unit         the tests that take about a minute together
#   conformance  every op against torch (K=name: one op), and every sample that torch tests its own
#                operators with: hours; goes on where it was interrupted
#   zoo          models of five libraries, each checked, into docs/generated/zoo.md: an hour; goes on
#                where it was interrupted (K="name ...": those alone, not into docs)
#   fuzz         N random graphs (N=10000, from SEED=1 on, in blocks of 500): passes, the CPU engine and
#                torch against the reference kernels; those that differ are left in build/fuzz
#   bench        the demo, call overhead, memory, what is kept between calls, new sizes; JSON files
#                and a plot in build/bench
#                (PEERS="inductor onnxruntime openvino": beside those of them that are installed)
#   wheel        dist/*.whl, built, installed elsewhere and tested
#   lint         format and includes     golden       rewrites golden files and generated docs
#   readme       puts the last bench's times into README.md
#   clean        removes the builds (not .venv)

SHELL := /bin/bash
BUILD := build
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
CTEST := ctest --test-dir $(BUILD) --output-on-failure --parallel 2
CXX_FILES = $(shell git ls-files '*.cc' '*.h')
# Paths in what ccache compares count from here, so that clones share what it holds.
export CCACHE_BASEDIR := $(CURDIR)

.PHONY: setup packages build demo test unit conformance zoo fuzz bench wheel lint golden readme clean

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

demo: packages $(BUILD)/build.ninja
	@cmake --build $(BUILD) --target stator_ffi
	@$(PYTHON) bench/models.py

test: lint build
	@$(CTEST)
	@$(PYTEST) test

# In two processes of one thread, each half of the time.
UNIT := $(PYTEST) -m "not slow" --ignore test/conformance
UNIT_SECOND := $(wildcard test/python/test_[e-z]*.py)
unit: export OMP_NUM_THREADS := 1
unit: build
	@$(CTEST)
	@$(UNIT) test $(addprefix --ignore ,$(UNIT_SECOND)) > $(BUILD)/unit.log 2>&1 & first=$$!; \
	  $(UNIT) $(UNIT_SECOND); second=$$?; wait $$first; first=$$?; \
	  cat $(BUILD)/unit.log; exit $$((first + second))

conformance: build
	@$(PYTEST) test/conformance/test_ops.py $(if $(K),-k $(K))
ifndef K
	@$(PYTHON) test/conformance/opinfo.py $(BUILD)/opinfo --docs
endif

.venv/.zoo: .venv/.installed
	@tools/install_python.sh zoo
	@touch $@

zoo: build .venv/.zoo
	@$(PYTHON) bench/run_zoo.py $(BUILD)/zoo $(if $(K),$(K),--docs)

N := 1000
SEED := 1
fuzz: build
	@seq $(SEED) 500 $$(($(SEED) + $(N) - 1)) | OMP_NUM_THREADS=1 nice -n 15 \
	  xargs -P $$(nproc) -I{} sh -c '$(BUILD)/test/fuzz compare {} 500 $(BUILD)/fuzz; a=$$?; \
	  $(PYTHON) test/fuzz/torch_check.py --seed {} --count 500 && exit $$a'

bench: build
	@$(PYTHON) bench/models.py --json $(BUILD)/bench/models.json --peers $(PEERS)
	@$(PYTHON) bench/overhead.py --json $(BUILD)/bench/overhead.json
	@$(PYTHON) bench/memory.py --json $(BUILD)/bench/memory.json
	@$(PYTHON) bench/reuse.py --json $(BUILD)/bench/reuse.json
	@$(PYTHON) bench/dynamic.py --json $(BUILD)/bench/dynamic.json
	@$(PYTHON) bench/plot.py $(BUILD)/bench

wheel: build
	@rm -rf dist
	@$(PYTHON) -c "from scikit_build_core.build import build_wheel; build_wheel('dist')"
	@STATOR_WHEEL=$$(echo dist/*.whl) $(PYTEST) test/python/test_package.py

lint: .venv/.installed
	@.venv/bin/clang-format --dry-run --Werror $(CXX_FILES)
	@$(PYTHON) tools/lint_includes.py
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

golden: build
	@STATOR_UPDATE_GOLDEN=1 $(CTEST) --tests-regex Golden
	@STATOR_UPDATE_GOLDEN=1 $(PYTEST) test/cli test/conformance/test_core_aten.py \
		test/python/test_settings.py -k generated

readme:
	@$(PYTHON) bench/readme.py $(BUILD)/bench

clean:
	@rm -rf $(BUILD) build-wheel dist python/torch_stator/lib
