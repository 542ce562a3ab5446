# Every target sets `.venv` up first; what is already set up is skipped in under a second.
#   make demo                      train, evaluate and draw the small BANet on generated data
#   make test ARGS='-k roi_inlay'  ARGS is handed to pytest (or to the demo, the fuzz)
#   make setup PYTHON=python3.11   the Python that .venv is made from

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# A file's tests stay in one process, since they share what they build; conftest.py sorts the files.
PYTEST = $(BIN)/python -m pytest --numprocesses $(MAX_JOBS) --dist loadfile --no-loadscope-reorder
CXX_SOURCES = $(shell find ops tests -name '*.cpp' -o -name '*.hpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick fuzz reliability lint docs wheel clean distclean FORCE

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/done/mmbanet ## make .venv: torch, mmcv from source, mmdet, mmbanet with its operators

demo: setup ## generate data, train, evaluate both fusion heads, print the table, draw pictures
	$(BIN)/python tools/demo.py $(ARGS)

test: setup ## run the test suite, a process a core
	$(PYTEST) $(ARGS)

quick: setup ## run the changed packages' tests, two sets of parameters each; or ARGS=tests/test_ops
	@tests="$(or $(ARGS),$$($(BIN)/python tools/dev/changed_tests.py))"; \
	[ -n "$$tests" ] || { echo 'nothing has changed that has tests'; exit 0; }; \
	set -x; $(PYTEST) -m 'not slow' --sets 2 $$tests

fuzz: setup ## call the operators with 100,000 random sets of RoIs under sanitizers
	$(BIN)/python tools/dev/fuzz.py $(ARGS)

reliability: setup ## count how often all goes well when something goes wrong: docs/reliability.md
	PYTHONPATH=tools $(BIN)/python -m reliability $(ARGS)

lint: setup ## check style (ruff, clang-format) and who imports whom (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(CXX_SOURCES)

docs: setup ## build the documentation into docs/_build/html; warnings are errors
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo 'documentation: docs/_build/html/index.html'

wheel: setup ## build a source distribution and a wheel into dist
	$(BIN)/python -c "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"

clean: ## remove build products and caches; .venv, data/ and work_dirs/ stay
	rm -rf build dist docs/_build *.egg-info mmbanet/.mim .pytest_cache .hypothesis .ruff_cache .import_linter_cache
	find mmbanet ops tests tools configs examples -name __pycache__ -type d -prune -exec rm -rf {} +
	find mmbanet -name '*.so' -delete

distclean: clean ## remove .venv as well, so that the next set-up starts from nothing
	rm -rf $(VENV)

# The set-up: four steps, each with a file in .venv/done that says when it was finished.

DONE := $(VENV)/done
SITE := $(VENV)/lib/python*/site-packages
MMCV := $(DONE)/mmcv-$(shell sed -n 's/^onedl-mmcv==//p' constraints.txt)
PIP := $(BIN)/python -m pip install --no-compile --constraint constraints.txt
PIP_MMCV = CFLAGS="$$CFLAGS $(INCLUDE_TORCH)" $(PIP) --no-deps --no-build-isolation onedl-mmcv
ANEW := --force-reinstall --no-cache-dir

# setuptools takes CFLAGS in place of Python's own flags, so the optimisation level has to be said:
# without it mmcv's operators take 1.8 to 4.3 times as long. -g0 halves the time of compilation.
$(DONE)/%: override export CFLAGS := -O3 -DNDEBUG -g0 $(CFLAGS)
$(DONE)/%: export CXX := $(CXX)
$(DONE)/%: export TMPDIR := $(CURDIR)/$(VENV)/tmp
# Files that are compiled at once: a core and 2 GiB of memory for each.
MAX_JOBS ?= $(shell awk -v cores=$$(nproc) '/MemTotal/ { jobs = int($$2 / 2^21); \
	print jobs < 1 ? 1 : jobs < cores ? jobs : cores }' /proc/meminfo)
export MAX_JOBS
# Without a GPU: PyTorch's CPU builds, since PyPI's bring gigabytes of CUDA libraries.
TORCH_INDEX = $(shell command -v nvidia-smi >/dev/null || $(BIN)/python -m pip config list | \
	grep -E 'index-url|find-links|no-index' >/dev/null || echo --extra-index-url https://download.pytorch.org/whl/cpu)
# An interrupted pip leaves packages that it then takes for installed; INSTALLER is the last file of one.
FORGET_TORN = for package in $(SITE)/*.dist-info; do [ -e $$package/INSTALLER ] || rm -rf $$package; done; \
	rm -rf $(VENV)/tmp; mkdir -p $(VENV)/tmp

# torch's headers take three quarters of the time of mmcv's files: GCC reads them once for all. Without
# (another compiler, no memory, a space in the path) the compilation takes longer, no more.
TORCH_H := $(CURDIR)/$(VENV)/tmp/torch.h
INCLUDES = $$($(BIN)/python -c 'import sysconfig; from torch.utils.cpp_extension import include_paths; \
	print(*(f"-I{path}" for path in [*include_paths(), sysconfig.get_path("include")]))')
PRECOMPILE = echo '\#include <torch/types.h>' > $(TORCH_H); \
	$(BIN)/python -m pip cache list onedl_mmcv 2>&1 | grep -q '\.whl' || ! $(CXX) --version | grep -q 'Free Software' || \
	$(CXX) $$CFLAGS -w -fPIC -std=c++17 $(INCLUDES) -x c++-header $(TORCH_H) -o $(TORCH_H).gch 2>/dev/null || rm -f $(TORCH_H).gch
INCLUDE_TORCH := $(if $(word 2,$(CURDIR)),,-include $(TORCH_H))

$(DONE)/venv:
	@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || { echo \
	'set-up stopped: Python 3.10, 3.11 (tested) or 3.12 with its venv module is needed. Install it (Debian or Ubuntu:' \
	'apt install python3 python3-venv python3-dev) and name it: make PYTHON=python3.11' >&2; exit 1; }
	@echo '#include <Python.h>' | $(CXX) -std=c++17 -x c++ -fsyntax-only \
	-I"$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')" - || { echo \
	'set-up stopped: a C++17 compiler and the headers of Python are needed. Install them (Debian or Ubuntu:' \
	'apt install g++ python3-dev) or name another compiler: make CXX=clang++' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(@D) && touch $@

$(DONE)/packages: constraints.txt | $(DONE)/venv
	@$(FORGET_TORN)
	grep -v '^onedl-mmcv==' constraints.txt | $(PIP) $(TORCH_INDEX) --requirement /dev/stdin
	grep -qs 'headless = True' $(SITE)/cv2/version.py || $(PIP) --force-reinstall --no-deps opencv-python-headless
	@touch $@

# mmcv is compiled anew for another torch. A wheel that pip has kept may be for another one, too.
TORCH := $(wildcard $(SITE)/torch-*.dist-info/RECORD)
$(TORCH): $(DONE)/packages ;
$(MMCV): $(TORCH) | $(DONE)/packages
	@$(FORGET_TORN)
	@echo "mmcv's operators: compiling takes some minutes on 2 cores (out of memory? make setup MAX_JOBS=1)"
	@$(if $(INCLUDE_TORCH),$(PRECOMPILE))
	$(PIP_MMCV) $(if $(wildcard $@),$(ANEW))
	$(BIN)/python tools/dev/check_mmcv.py || { $(PIP_MMCV) $(ANEW) && $(BIN)/python tools/dev/check_mmcv.py; }
	@rm -f $(DONE)/mmcv-* && touch $@

$(DONE)/mmbanet: $(MMCV) setup.py pyproject.toml $(shell find ops) $(if $(wildcard mmbanet/_ops*.so),,FORCE)
	@$(FORGET_TORN)
	$(PIP) --no-build-isolation --editable '.[onedl,onnx,hotcoco,test,docs]'
	$(BIN)/python -c 'import torch, mmbanet._ops'
	@touch $@
