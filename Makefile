# `make` lists what there is. Everything that outlives a command is kept below WATCHWORD_CACHE, so
# that removing that folder undoes all of it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export WATCHWORD_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/watchword
export CARGO_TARGET_DIR ?= $(WATCHWORD_CACHE)/target

# What is compiled may know the folder of its source, and cargo takes it for fresh when another clone
# comes with the same cache: it tells them apart by the times of files only.
CLAIM := $(CARGO_TARGET_DIR)/clone
ifneq ($(shell cat '$(CLAIM)' 2>/dev/null),$(CURDIR))
$(shell mkdir -p '$(CARGO_TARGET_DIR)' && find . -name '*.rs' -exec touch {} + && echo '$(CURDIR)' >'$(CLAIM)')
endif

# The target is always named and always static, so that tests, lints, image and cluster share one
# build, and the programs run in an image that holds nothing else.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
HOST_VARIABLE := $(shell echo '$(HOST)' | tr 'a-z-' 'A-Z_')
export CARGO_TARGET_$(HOST_VARIABLE)_RUSTFLAGS := -C target-feature=+crt-static
export WATCHWORD_HOST := $(HOST)

# `dev` or `release`; the agent has a profile of its own.
PROFILE ?= dev
BUILT := $(CARGO_TARGET_DIR)/$(HOST)
BUILT_PROFILE = $(BUILT)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
# The agent starts once per container: gathering CPU jitter as a second source of entropy would take
# 35 ms of CPU each time. The kernel's generator is the first and stays.
AGENT_ENVIRONMENT := AWS_LC_SYS_NO_JITTER_ENTROPY=1
# In a workspace of their own, which `cargo fmt` does not reach.
FUZZ_TARGETS = $(wildcard controller/fuzz/fuzz_targets/*.rs controller/*/fuzz/fuzz_targets/*.rs)
# Where the programs are put together: the two of the image, and the command line.
export WATCHWORD_PROGRAMS := $(WATCHWORD_CACHE)/programs
# The launcher of the local cluster, run without cargo, whose lock a long build would hold.
export WATCHWORD_LAUNCHER := $(BUILT)/debug/local-cluster

# The cluster of `make cluster`, `make demo` and `make test`.
CLUSTER ?= local
ENGINE ?= $(firstword $(foreach engine,docker podman buildah,$(if $(shell command -v $(engine)),$(engine))))
IMAGE ?= localhost/watchword:dev

# A KUBECONFIG of the environment may be somebody's production: only `make e2e KUBECONFIG=…` counts.
ifneq ($(origin KUBECONFIG),command line)
unexport KUBECONFIG
else
export KUBECONFIG
CLUSTER := given
endif

##@ Try it

.PHONY: demo
demo: ## A cluster, Watchword on it, a pod with two secrets, and a look at where they are not
	@hack/demo.sh up

.PHONY: demo-down
demo-down: ## Remove what `make demo` started
	@hack/demo.sh down

##@ Build

.PHONY: build
build: ## Compile everything (PROFILE=release for the shipped form)
	cargo build --locked --target $(HOST) --profile $(PROFILE) --package watchword-controller --package watchword-cli
	$(AGENT_ENVIRONMENT) cargo build --locked --target $(HOST) --profile agent --package watchword-agent

.PHONY: programs
programs: build ## Compile, and put the programs into one folder
	@mkdir -p $(WATCHWORD_PROGRAMS)
	@cp -f $(BUILT)/agent/watchword-agent $(WATCHWORD_PROGRAMS)/agent
	@cp -f $(BUILT_PROFILE)/watchword $(BUILT_PROFILE)/watchword-controller $(WATCHWORD_PROGRAMS)

.PHONY: size
size: programs ## What the programs weigh, and with PROFILE=release the image; fails above the limits
	@PROFILE=$(PROFILE) hack/size.sh

.PHONY: image
image: PROFILE := release
image: programs ## Build the image (ENGINE=docker|podman|buildah, IMAGE=name:tag)
	@[[ -n "$(ENGINE)" ]] || { echo 'error: no docker, podman or buildah' >&2; exit 1; }
	$(ENGINE) build --target prebuilt --tag $(IMAGE) --file Dockerfile $(WATCHWORD_PROGRAMS)

.PHONY: launcher
launcher:
	cargo build --locked --target $(HOST) --package watchword-e2e --bin local-cluster

.PHONY: crds
crds: ## Generate the custom resource definitions
	cargo run --locked --target $(HOST) --quiet --package watchword-crds --bin crdgen

##@ Run

.PHONY: cluster
cluster: launcher ## Start a local cluster, and say how to reach it
	@$(WATCHWORD_LAUNCHER) prerequisites --install
	@$(WATCHWORD_LAUNCHER) up
	@echo 'use it by: $(WATCHWORD_LAUNCHER) kubectl get nodes'

.PHONY: cluster-down
cluster-down: launcher ## Stop the local cluster
	@$(WATCHWORD_LAUNCHER) down

##@ Check

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all
	rustfmt --edition 2024 $(FUZZ_TARGETS)

.PHONY: lint
lint: ## Formatting and lints; warnings are errors
	cargo fmt --all --check
	rustfmt --edition 2024 --check $(FUZZ_TARGETS)
	cargo clippy --locked --target $(HOST) --workspace --all-targets --all-features -- --deny warnings

.PHONY: docs
docs: export RUSTDOCFLAGS := --deny warnings
docs: ## The documentation of the code; warnings are errors
	cargo doc --locked --target $(HOST) --workspace --no-deps --all-features

.PHONY: unit
unit: ## Tests that need no cluster: units, properties, golden files
	cargo test --locked --target $(HOST) --workspace --exclude watchword-e2e --all-features --no-fail-fast

.PHONY: fuzz
fuzz: ## Fuzz each parser of outside bytes for SECONDS (60) each; TARGETS picks some
	@hack/fuzz.sh $(or $(SECONDS),60) $(TARGETS)

.PHONY: render
render: launcher ## Render every overlay and component of the manifests
	@hack/render.sh

.PHONY: check-context
check-context: ## What the image is built from is a workspace
	@hack/check-context.sh

.PHONY: check-image
check-image: programs ## The Dockerfile gives an image of two programs that is not root's (buildah)
	@hack/check-image.sh

.PHONY: check-ring
check-ring: ## One TLS provider in the whole tree: aws-lc, never ring
	@hack/check-ring.sh

.PHONY: e2e
e2e: ## Tests on a cluster: CLUSTER=local (default), CLUSTER=kind or KUBECONFIG=path
	@hack/e2e.sh $(CLUSTER)

.PHONY: test
test: ## All checks and all tests, on a cluster of their own; what CI runs
	@hack/test.sh

.PHONY: bench
bench: ## Benchmarks
	cargo bench --locked --target $(HOST) --workspace --exclude watchword-e2e --benches

.PHONY: bench-https
bench-https: ## What a read over HTTPS costs the store: release programs on a cluster of their own
	@PROFILE=release BENCH=https hack/e2e.sh local

##@ Help

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile
