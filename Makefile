# `make run` and `make test` set up all they need; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LABELS ?=
ARGS ?=
KILLS ?= 200
EXAMPLES ?= 100000

.DEFAULT_GOAL := help
.PHONY: help run test lint docs data bench soak audit lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# Fashion-MNIST is not fetched for a run of other images, or of those in a folder.
dataset := $(subst .dataset ,.dataset=,$(subst --dataset ,--dataset=,$(ARGS)))
dataset := $(filter --dataset=% --config.dataset=%,$(dataset))
other := $(findstring --data_dir,$(ARGS)) $(filter-out %=fashion_mnist,$(dataset))

run: $(VENV)/.run $(if $(strip $(other)),,data)  ## the main job: data, training, accuracy (LABELS=600 ARGS=...)
	$(BIN)/python -m ssl_vae.main $(if $(LABELS),--labels=$(LABELS)) $(ARGS)

test: $(VENV)/.dev lint  ## lint, types and all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev  ## format, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.dev  ## the documentation, in site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# A copy that any source has will do; where no download can be reached, Debian's
# package of the same files is unpacked into the cache folder.
data: $(VENV)/.run  ## get Fashion-MNIST ready
	@$(BIN)/python -m ssl_vae.datasets --quiet || \
	  { sh scripts/fetch_debian_data.sh && $(BIN)/python -m ssl_vae.datasets; }

bench: $(VENV)/.dev data  ## training speed against PyTorch (installs torch)
	$(BIN)/python -m pip install --quiet 'torch==2.13.0'
	$(BIN)/python benchmarks/throughput.py

soak: $(VENV)/.dev  ## faults by the hundred, for hours (KILLS=200 EXAMPLES=100000)
	SSL_VAE_KILLS=$(KILLS) SSL_VAE_EXAMPLES=$(EXAMPLES) \
	  $(BIN)/python -m pytest -s tests/faults

audit: | $(VENV)/bin/python  ## known vulnerabilities of the locked versions
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet pip-audit || \
	  { echo 'not checked: pip-audit cannot be installed'; exit 1; }
	@$(BIN)/python scripts/audit.py $(VENV)/audit/bin/pip-audit \
	  requirements.lock requirements-dev.lock

lock: $(VENV)/.dev  ## resolve the versions in pyproject.toml anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes \
	  --no-annotate --custom-compile-command 'make lock' \
	  pyproject.toml --extra dev -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes \
	  --no-annotate --custom-compile-command 'make lock' \
	  pyproject.toml --extra build -c requirements-dev.lock -o requirements.lock

clean:  ## remove the environment and caches of tools, not data or runs
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	  sys.exit(0 if v >= (3, 11) else f"Python 3.11 or later is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@
