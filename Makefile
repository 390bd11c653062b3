# The commands of this repository. `make` alone lists them.
#
# Everything built goes under the user's cache folder, so that a fresh clone builds what changed and nothing else.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/flotilla
SEEDS ?= 10000
SECS ?= 60

export FLOTILLA_CACHE := $(CACHE)
export CARGO_TARGET_DIR := $(CACHE)/target
# Queries are checked against the committed data under .sqlx/; no build asks a database of the machine's.
export SQLX_OFFLINE := true
# A test that wants a database starts one.
unexport DATABASE_URL

.PHONY: help prereqs check fmt clippy deny third-party proto-check sqlx-check gen test demo bench soak sim fuzz advisories clean-cache

help: ## Lists the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

prereqs: ## Checks that what builds and tests need is installed
	@scripts/prereqs

check: prereqs ## Formatting, lints, dependencies, generated code: all that needs no test run
	@scripts/prune-target
	@scripts/step "format" cargo fmt --all --check
	@scripts/step "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
	@scripts/step "fuzz programs" cargo check --locked --manifest-path fuzz/libfuzzer/Cargo.toml
	@scripts/step "dependencies" scripts/deny check bans licenses sources
	@scripts/step "dependencies of the fuzz programs" scripts/deny --manifest-path fuzz/libfuzzer/Cargo.toml --config deny.toml check bans sources
	@scripts/step "third-party list" go run scripts/third-party/main.go --check
	@scripts/step "generated files" cargo test --workspace --locked --test generated
	@scripts/step "query data" scripts/sqlx check

sqlx-check: prereqs ## Proves that the query data under .sqlx/ is current
	@scripts/step "query data" scripts/sqlx check

gen: prereqs ## Writes all generated files: protocol bindings, plain manifests, query data, the third-party list
	@scripts/step "protocol bindings" env FLOTILLA_GEN=1 cargo test -p flotilla-proto --test generated
	@scripts/step "plain manifests" env FLOTILLA_GEN=1 cargo test -p flotilla-agent --test generated
	@scripts/step "query data" scripts/sqlx write
	@scripts/step "third-party list" go run scripts/third-party/main.go

test: prereqs ## Runs all tests
	@scripts/prune-target
	@scripts/test

demo: prereqs ## Three clusters, a hub, a Git server: watch a commit arrive (KEEP=1 leaves them running)
	@scripts/step "programs" cargo build --locked --workspace --bins
	@"$(CARGO_TARGET_DIR)/debug/demo"

bench: prereqs ## Measures with release builds: all, or those named: N="NAME NAME"
	@scripts/bench $(N)

soak: prereqs ## Runs the random tests longer: SEEDS=n cases, 10,000 when not said
	@scripts/soak $(SEEDS)

sim: prereqs ## Plays simulated fleets with release builds: SEEDS=n of them, 10,000 when not said
	@scripts/step "simulated fleets, $(SEEDS) seeds" env FLOTILLA_SIM_SEEDS=$(SEEDS) cargo test --locked --release -p flotilla-core --test sim

fuzz: prereqs ## Runs one fuzz target: TARGET=name SECS=n; the names are those of fuzz/seeds
	@scripts/fuzz "$(TARGET)" $(SECS)

advisories: prereqs ## Asks the advisory database, which needs the network, about all dependencies
	@scripts/step "advisories" scripts/deny check advisories
	@scripts/step "advisories of the fuzz programs" scripts/deny --manifest-path fuzz/libfuzzer/Cargo.toml --config deny.toml check advisories

clean-cache: ## Removes everything built: compiled crates, rig programs, reference programs
	rm -rf -- "$(CACHE)/target" "$(CACHE)/rig" "$(CACHE)/oracle" "$(CACHE)/tools" "$(CACHE)/fuzz" "$(CACHE)/corpus"
