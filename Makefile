# Everything a person or CI runs. `make up` and `make test` need nothing but Python 3.11, make and
# a C compiler; they set up what they use.

PYTHON ?= python3
RUN := .venv/bin/
export PYTHON

.PHONY: help up setup setup-dev check test test-all bench docs clean lock

help:  ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

up: setup  ## set everything up, serve, and run a sample function; ARGS=... are options of `pilotlight up`
	@$(RUN)pilotlight up --demo $(ARGS)

setup:  ## make .venv/bin/pilotlight
	@scripts/setup runtime

setup-dev:
	@scripts/setup dev

check: setup-dev  ## lint, types, layers, documentation
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy
	$(RUN)lint-imports
	$(RUN)python scripts/generate_lambda_api.py --check
	$(RUN)python scripts/generate_compatibility.py --check
	$(RUN)mkdocs build --quiet --strict

test: setup-dev  ## all tests that fit into some minutes
	$(RUN)pytest $(ARGS)

test-all: setup-dev  ## also long chaos, fuzz and soak runs
	$(RUN)pytest --run-long $(ARGS)

bench: setup-dev  ## measure the promised numbers as ratios
	$(RUN)python -m benchmarks $(ARGS)

docs: setup-dev  ## build the documentation into site/
	$(RUN)mkdocs build --strict

lock: setup-dev  ## renew the locked requirements
	$(RUN)python -m pip install --quiet uv
	$(RUN)uv pip compile --quiet --no-emit-index-url --no-header --generate-hashes --python-version 3.11 \
		--upgrade requirements/runtime.in -o requirements/runtime.lock
	$(RUN)uv pip compile --quiet --no-emit-index-url --no-header --generate-hashes --python-version 3.11 \
		--upgrade -c requirements/runtime.lock requirements/dev.in -o requirements/dev.lock

clean:  ## remove what was built (not the data directory)
	rm -rf .venv site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
