# The ways to build, try and test Verge. `make` alone explains itself.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help dev test test-smoke test-quickjs bench build examples setup lint clean-examples sim power faults big

# The engine is looked for once, when a target needs it.
ENGINE = found=$$(scripts/engine) && eval "$$found"
NPM_CI = npm ci --no-audit --no-fund --loglevel=error
# A folder's packages are installed when its lock file is newer than they are.
CLIENTS = crates/hrana/tests/client
PACKAGES = js/bundler examples/hono examples/react $(CLIENTS)
STAMPS = $(PACKAGES:%=%/node_modules/.package-lock.json)
PEERS = benches/peers/node_modules/.package-lock.json
APP ?= examples/worker

help: ## this list
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-20s %s\n' "$$name" "$$text"; done
	@echo
	@echo 'Settings: APP=examples/hono for `make dev`; VERGE_ENGINE=quickjs; RUSTY_V8_ARCHIVE or'
	@echo 'VERGE_V8_DIR name the V8 library. Needs Rust (1.95) and Node (20); `make setup` tells'
	@echo 'which Debian packages are missing.'

dev: examples ## build, serve an example (APP=…), say what to try
	@$(ENGINE) && cargo build $$VERGE_BUILD --bin verge && exec "$${CARGO_TARGET_DIR:-target}/debug/verge" dev $(APP)

build: $(STAMPS) ## the optimised binary, target/release/verge
	@$(ENGINE) && cargo build --release $$VERGE_BUILD --bin verge

test: examples ## every test
	@$(ENGINE) && scripts/test

test-smoke: examples ## the smoke tests, on either engine
	@$(ENGINE) && scripts/test smoke

SEEDS ?= 10000
FILES ?= 200
sim: ## replication under simulated faults: SEEDS=10000 of a model, FILES=200 on real SQLite files, MOST=300 seconds of them; FILE_SEED=42 (or SEED=42) TRACE=1 replays one
	@cargo build --release -p verge-sim && \
	SEEDS=$(SEEDS) FILES=$(FILES) $(if $(MOST),MOST=$(MOST)) "$${CARGO_TARGET_DIR:-target}/release/verge-sim"

power: ## the engine on a disk that loses its power: SEEDS=10000
	@VERGE_POWER_SEEDS=$(SEEDS) cargo nextest run --profile long -p verge-dataset --no-capture -E 'test(/^power::/)'

KILLS ?= 200
faults: ## three real processes under HTTP clients: KILLS=200, pauses, cuts, a full disk
	@VERGE_KILLS=$(KILLS) cargo nextest run --profile long -p verge-node --no-capture -E 'test(/^faults::/)'

BIG ?= $${CARGO_TARGET_DIR:-target}/tmp
big: ## a database of 2.2 GiB at two page sizes, in BIG=folder (20 GB free)
	@mkdir -p "$(BIG)" && cargo run --release -p verge-dataset --example big -- "$(BIG)"

test-quickjs: ## the smoke tests on the QuickJS engine, whatever V8 there is
	@VERGE_ENGINE=quickjs $(MAKE) --no-print-directory test-smoke

bench: $(STAMPS) $(PEERS) ## measure beside the peers; writes docs/performance.md
	@$(ENGINE) && scripts/setup bench && cargo build --release $$VERGE_BUILD --bins && \
	node benches/run.mjs

lint: ## formatting and clippy, warnings are errors
	@$(ENGINE) && cargo fmt --all --check && cargo clippy $$VERGE_BUILD --all-targets -- -D warnings

examples: $(STAMPS) ## install the packages of the examples and the tests

setup: ## check what the machine has
	@scripts/setup

# The clients' native parts are for databases in files.
$(CLIENTS)/%: NPM_CI += --ignore-scripts --omit=optional

$(STAMPS) $(PEERS): %/node_modules/.package-lock.json: %/package-lock.json
	@scripts/setup
	@echo "npm ci in $*"
	@cd $* && $(NPM_CI)
	@touch $@
