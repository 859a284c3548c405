# Everything a clean clone needs is Python >= 3.11 (with venv) and make.
#   PYTHON=python3.12 make setup        another interpreter
#   make setup TORCH_INDEX=URL          another index for torch, e.g. PyTorch's own for CPU builds
#   make run API_PORT=8090 WEB_PORT=9000
#   make image BASE_IMAGE=... IMAGE_BUILD_ARGS='--volume ...' IMAGE_BUILDER=buildah

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
UV ?= uv
ARGS ?=
ROUNDS ?= 7
SBOM ?= dist
# Whole files side by side, the slow ones (chaos, e2e) first; more than a few would only crowd out
# the servers and browsers that the tests start. PARALLEL= runs them one after the other.
PARALLEL ?= --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := requirements/dev.txt
# The set-up is done when the stamp of this very lock and this torch is there.
STAMP := $(VENV)/ready-$(firstword $(shell (cat $(LOCK); echo '$(TORCH)') | cksum))

BENCH := .venv-bench
BENCH_STAMP := $(BENCH)/ready-$(firstword $(shell (cat requirements/bench.txt; echo '$(TORCH)') | cksum))

.DEFAULT_GOAL := help
.PHONY: help run test check setup browser lock image image-test sbom capacity bench soak screens clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  GENERATION_MODE=auto|int8|fp32|cuda make run: which arithmetic writes the text"

run: $(STAMP) ## start the API (127.0.0.1:8080) and the web app (127.0.0.1:8501) with the demo model
	@exec $(BIN)/python -m deploy.local

test: $(STAMP) browser ## run the whole test suite (ARGS="..." goes to pytest)
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

check: $(STAMP) ## format, lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/unit/test_import_rules.py

setup: $(STAMP) browser ## create .venv with the locked dependencies; find or install a browser for the tests

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Quillgate needs Python 3.11 or newer (PYTHON=...)")'
	@echo "Setting up $(VENV): the first time takes a few minutes."
	@rm -f $(VENV)/ready-*
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r $(LOCK)
	@$(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	@$(BIN)/python -m deploy.provide redis
	@$(BIN)/python -m api.gpt.kernels
	@touch $@

browser: $(STAMP)
	@$(BIN)/python -m deploy.provide browser

lock: ## write requirements/*.txt anew from pyproject.toml (needs uv)
	@for group in dev api web admin bench; do \
	  $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --custom-compile-command 'make lock' \
	    $$([ $$group = dev ] || echo --constraints requirements/dev.txt) \
	    --group $$group --output-file requirements/$$group.txt $(ARGS) || exit 1; \
	done

image: ## build both images with docker, podman or buildah (BASE_IMAGE=, IMAGE_BUILD_ARGS=)
	@$(PYTHON) -m deploy.image build

image-test: ## start both images from their own, read-only file systems and use them
	@$(PYTHON) -m deploy.image test

sbom: $(STAMP) ## write what the images hold to dist/*.cdx.json (CycloneDX)
	@$(BIN)/python -m deploy.sbom $(SBOM) '$(TORCH)'

bench: $(BENCH_STAMP) ## measure engine, service and gateway beside their peers; write bench/results/ and README's tables (ROUNDS=7)
	@$(BENCH)/bin/python -m bench.engine --out bench/results --rounds $(ROUNDS) $(ARGS)
	@$(BENCH)/bin/python -m bench.service --out bench/results --rounds $(ROUNDS)
	@$(BENCH)/bin/python -m bench.gateway --out bench/results --rounds $(ROUNDS)

# The peers are kept out of the project's own environment; llama-cpp-python needs a C++ compiler.
$(BENCH_STAMP):
	@rm -f $(BENCH)/ready-*
	@$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip --quiet install --require-hashes -r requirements/bench.txt
	@$(BENCH)/bin/python -m pip --quiet install \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	@$(BENCH)/bin/python -m api.gpt.kernels
	@touch $@

SOAKED := tests/unit/gpt/test_seed_promise.py tests/integration/test_key_promises.py \
  tests/stateful/test_keyring_machine.py

soak: $(STAMP) ## hold the promises of seeds and of keys over hundreds of random mixes of requests
	@SOAK=1 $(BIN)/python -m pytest -s $(SOAKED) --timeout 3600 $(ARGS)

PICTURED := $(addprefix tests/e2e/test_,journey.py web_access.py web_pages.py admin_pages.py \
  web_users_of_secret_manager.py)

screens: $(STAMP) browser ## take the pictures of the web app under docs/screens anew
	@SCREENS=docs/screens $(BIN)/python -m pytest -q $(PICTURED) $(ARGS)

capacity: $(STAMP) ## measure what one instance can do; write deploy/measured.toml and the tables in docs/
	@$(BIN)/python -m deploy.capacity
	@$(BIN)/python -m deploy.tables

clean: ## remove .venv and caches; .quillgate, which holds keys and usage, stays
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis test-results
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
