# Every target works on a machine that has Python 3.11-3.13 and a package registry, nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
UV := .boot/bin/uv
UV_VERSION := 0.13.9
ROLES := router worker operator
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
PROTOS := $(shell find proto -name '*.proto')

.PHONY: help
help: ## Say what each target does
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

# uv comes from the package registry: it installs torch several times faster than pip.
$(UV):
	@$(PYTHON) -m venv .boot
	@.boot/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/.done: $(UV) requirements/dev.txt pyproject.toml
	@echo "setting up $(VENV) (first time: a few GB, about a minute)"
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip sync --quiet --python $(BIN)/python requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: $(VENV)/.done ## Make .venv from the locked versions

.PHONY: serve
serve: setup ## Serve SmolLM2 on 127.0.0.1:8000 (PORT=...): router, one prefill, one decode
	@exec $(BIN)/baton serve --port $(PORT) $(ARGS)

.PHONY: check
check: setup ## Format, lint, types, import contracts, tidiness
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q tests/consistency

.PHONY: fix
fix: setup ## Format, and mend what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# In two processes: these neither start servers nor take the machine's cores for themselves.
SIDE_BY_SIDE := unit property simulation

.PHONY: test
test: check test-triton ## All checks, then every test
	@$(BIN)/pytest -q $(SIDE_BY_SIDE:%=tests/%) -n 2 --dist loadfile
	@$(BIN)/pytest -q tests $(patsubst %,--ignore=tests/%,consistency cluster triton browser $(SIDE_BY_SIDE))

# In a process of its own: Triton decides at its import whether it compiles or interprets.
.PHONY: test-triton
test-triton: setup ## The GPU's kernels and runner on Triton's interpreter and a fake device
	@TRITON_INTERPRET=1 $(BIN)/pytest -q tests/triton -n 2 --dist loadfile $(ARGS)

.PHONY: test-browser
test-browser: setup ## The chat page in a real Chromium, which is installed where there is none (Debian, root)
	@command -v chromium > /dev/null || { apt-get update -q; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium; }
	@$(BIN)/pytest -q tests/browser $(ARGS)

# For a GPU machine that has torch, Triton and Python 3.12 but no registry: the router's packages, but
# those that stand beside torch and are large, or serve in a cluster or while tracing is on only. Of
# baton itself it gets the version alone: the code is found by PYTHONPATH. Versions and entry points
# (*.dist-info) stay: pytest finds its plugins by them, and libraries each other. Of OpenTelemetry
# FastAPI needs the API, whether tracing is on or not.
GPU_PACKAGES := .gpu-packages
GPU_LEFT_OUT := numpy pip hf-xet uvloop tokenizers huggingface-hub pygments pyyaml tzdata kubernetes aiohttp aiohttp-retry \
    aiohappyeyeballs aiosignal charset-normalizer frozenlist fsspec multidict propcache yarl durationpy oauthlib \
    python-dateutil requests-oauthlib websocket-client googleapis-common-protos opentelemetry-sdk \
    opentelemetry-proto opentelemetry-semantic-conventions opentelemetry-exporter-http-transport \
    opentelemetry-exporter-otlp-common opentelemetry-exporter-otlp-proto-common opentelemetry-exporter-otlp-proto-http
# What may travel there is 64 MiB; two of them are left to what a checkout has beside its tracked files.
GPU_TAR_MIB_MAX := 62

$(GPU_PACKAGES)/.done: $(UV) requirements/router.txt requirements/dev.txt Makefile
	@rm -rf $(GPU_PACKAGES)
	@$(UV) pip install --quiet --link-mode copy --target $(GPU_PACKAGES) --only-binary :all: \
	    --python-version 3.12 --python-platform x86_64-manylinux_2_31 \
	    --excludes <(printf '%s\n' $(GPU_LEFT_OUT)) \
	    --constraints requirements/dev.txt --requirements requirements/router.txt pytest-asyncio --editable .
	@find $(GPU_PACKAGES) \( -name '*.pyi' -o -path '*.dist-info/licenses/*' -o -path '*/tests/*' \) -type f -delete
	@touch $@

.PHONY: gpu-packages
gpu-packages: $(GPU_PACKAGES)/.done ## A folder of what router and bench need on a GPU machine without a registry
	@bytes=$$(git ls-files -z | tar --null --files-from=- \
	    --ignore-failed-read --create $(GPU_PACKAGES) | wc -c); \
	echo "$(GPU_PACKAGES) and the tracked files: $$((bytes >> 20)) MiB as a tar, of $(GPU_TAR_MIB_MAX) at most"; \
	test "$$bytes" -le $$(($(GPU_TAR_MIB_MAX) << 20)) || { \
	    echo "they are too large to travel: leave more out (GPU_LEFT_OUT in the Makefile)" >&2; exit 1; }

.PHONY: test-gpu
test-gpu: setup ## On a CUDA device: parity with transformers, prefill and decode workers on one GPU
	@$(BIN)/pytest -q tests/gpu $(ARGS)

.PHONY: gpu
gpu: setup ## On a CUDA device: parity, bench-gpu, two workers, quality on the device
	@$(BIN)/python -m baton_loadtest.gpu_all $(ARGS)

CLUSTER := PYTHONPATH=tests $(BIN)/python -m cluster.harness

.PHONY: cluster-up
cluster-up: setup ## Start a two-node Kubernetes (Linux, root, Go), or check the one of KUBECONFIG
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: setup ## Take that cluster down, and what a killed run left of one
	@$(CLUSTER) down

.PHONY: test-cluster
test-cluster: setup ## Tests on a real Kubernetes: cluster-up, pytest tests/cluster, cluster-down
	@$(CLUSTER) test $(if $(WITHIN_S),--within-s=$(WITHIN_S)) -- tests/cluster $(ARGS)

.PHONY: proto
proto: setup ## Generate services/baton/rpc/v1 from proto/
	@$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=services --grpc_python_out=services \
	    --mypy_out=services --mypy_grpc_out=services --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	    --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc $(PROTOS:proto/%=%)

.PHONY: crds
crds: setup ## Generate the ModelService CRD from the operator's types
	@$(BIN)/python -m baton_operator.crds

.PHONY: chart
chart: setup ## Lint and render the chart; its objects against Kubernetes' schemas and our rules
	@$(BIN)/mypy --strict deploy/helm/baton/hooks/*.py
	@$(BIN)/pytest -q tests/consistency -k chart tests/integration/test_chart_hooks.py

.PHONY: chart-golden
chart-golden: setup ## Write the chart's golden renderings and the table of values in its README
	@PYTHONPATH=tests $(BIN)/python -m support.chart_golden

.PHONY: dashboards
dashboards: setup ## Generate the chart's dashboards and Prometheus rules
	@$(BIN)/python -m baton_loadtest.observability boards rules

.PHONY: metrics-docs
metrics-docs: setup ## Generate docs/metrics.md from the registry of metrics
	@$(BIN)/python -m baton_loadtest.observability docs

.PHONY: benchmarks-docs
benchmarks-docs: setup ## Generate docs/benchmarks.md from the kept results
	@$(BIN)/python -m baton_loadtest.benchmarks

.PHONY: bench
bench: setup ## Measure tokens/s at 1, 8 and 32 concurrent requests, with ratios to the linear layers alone
	@$(BIN)/baton-loadtest bench $(ARGS)

.PHONY: quality
quality: setup ## What each compute scheme costs in answers: perplexity and agreement with float32
	@$(BIN)/baton-loadtest quality $(ARGS)

.PHONY: costmodel
costmodel: setup ## Predicted against measured step times
	@$(BIN)/baton-loadtest costmodel $(ARGS)

.PHONY: speculation
speculation: setup ## What guessing ahead gains, on text that repeats and on text that does not
	@$(BIN)/baton-loadtest speculation $(ARGS)

.PHONY: profile
profile: setup ## Where a decode step's time goes, at 1, 8 and 32 requests
	@$(BIN)/baton-loadtest profile $(ARGS)

.PHONY: start
start: setup ## Time from nothing to a ready worker of each role by phase, and its memory, against the limits
	@$(BIN)/python -m baton_loadtest.start $(ARGS)

.PHONY: bench-peers
bench-peers: setup ## Baton beside vLLM and llama.cpp: same weights, client and prompts (installs both)
	@$(BIN)/baton-loadtest peers $(ARGS)

.PHONY: bench-gpu
bench-gpu: setup ## The engine on a CUDA device against its roofline, then end to end against the engine
	@$(BIN)/baton-loadtest gpu $(ARGS)

.PHONY: bench-operator
bench-operator: setup ## Apply to first token, load step, calls when idle, 500 services (Linux, root, Go; after make images)
	@PYTHONPATH=tests $(BIN)/python -m cluster.bench $(ARGS)

.PHONY: lock
lock: $(UV) ## Pin every dependency with hashes (pip format, no index addresses)
	@$(LOCK) --all-extras pyproject.toml -o requirements/dev.txt
	@for role in $(ROLES); do \
	    $(LOCK) --constraints requirements/dev.txt --extra $$role pyproject.toml -o requirements/$$role.txt; \
	done
	@printf 'hatchling\nuv==$(UV_VERSION)\n' | \
	    $(LOCK) --constraints requirements/dev.txt - -o requirements/build.txt

.PHONY: images
images: setup ## Build the images of the test cluster, without Docker (root; Debian packages)
	@PYTHONPATH=tests $(BIN)/python -m cluster.images
