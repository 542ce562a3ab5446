# Every target sets `.venv` up first; what is already set up is skipped in under a second.
#   make demo                      train, evaluate and draw the small BANet on generated data
#   make test ARGS='-k roi_inlay'  ARGS is handed to pytest (or to the demo, the fuzz)
#   make setup PYTHON=python3.11   the Python that .venv is made from

PYTHON ?= python3
VENV := .venv
ARGS ?=
CXX_SOURCES = $(shell find ops tests -name '*.cpp' -o -name '*.hpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz lint clean distclean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## make .venv: torch, mmcv from source, mmdet, mmbanet with its operator
	@$(PYTHON) tools/dev/bootstrap.py

demo: setup ## generate data, train, evaluate both fusion heads, print the table, draw pictures
	$(VENV)/bin/python tools/demo.py $(ARGS)

test: setup ## run the test suite
	$(VENV)/bin/python -m pytest $(ARGS)

fuzz: setup ## call the operators with 100,000 random sets of RoIs under sanitizers
	$(VENV)/bin/python tools/dev/fuzz.py $(ARGS)

lint: setup ## check style: ruff (lint and format) and clang-format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run --Werror $(CXX_SOURCES)

clean: ## remove build products and caches; .venv, data/ and work_dirs/ stay
	rm -rf build dist *.egg-info mmbanet/.mim .pytest_cache .hypothesis .ruff_cache
	find mmbanet ops tests tools configs examples -name __pycache__ -type d -prune -exec rm -rf {} +
	find mmbanet -name '*.so' -delete

distclean: clean ## remove .venv as well, so that the next set-up starts from nothing
	rm -rf $(VENV)
