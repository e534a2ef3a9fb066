# make demo    the demo page; HEADLESS=1 answers one PROMPT in a browser without a window and prints it
# make test    everything that must hold, and a list of what could not run; make test-slow, what takes too long for every change
# make isa     registers and instructions of the GPU kernels against those recorded, by a compiler that needs no GPU
# make bench   speed of this machine with a small model; MODEL=FILE for another, PEERS=0 without other engines
# make docs    the documentation as static files, in web/docs/dist; the demo is served with it at /docs/
# Each one first gets what it needs and this machine lacks (tests/tools/setup.sh).
SHELL := /bin/bash
setup := tests/tools/setup.sh
# Where downloads are; tests find models in its folder models/.
export PAGELM_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pagelm
PROMPT ?= Explain what a browser is.
export PROMPT
MODEL ?=
PEERS ?= 1
export PEERS

.PHONY: demo docs test test-slow isa bench build web lint fmt apple models test-rust test-web clean
.DEFAULT_GOAL := build

demo: web
	$(setup) models $(if $(HEADLESS),browsers)
	node web/demo/$(if $(HEADLESS),headless,serve).mjs

# Fails where a link leads nowhere. The files work in any folder of any server.
docs:
	$(setup) docs
	cd web/docs && ASTRO_TELEMETRY_DISABLED=1 npm run --silent build

# One after the other, cheap things first, and the test runners last. Tests that cannot run add a line to a list, which
# is printed at the end; with CI set they fail.
test: export PAGELM_SKIPPED := $(CURDIR)/target/skipped.txt
test:
	mkdir -p target && : >$$PAGELM_SKIPPED
	$(MAKE) lint
	$(MAKE) apple
	$(MAKE) test-rust
	$(MAKE) test-web
	@echo "$$(sort -u $$PAGELM_SKIPPED | wc -l) tests were skipped"; sort -u $$PAGELM_SKIPPED

# Perplexities over a whole text, of all models that the tests know, and a million chat templates; the built documentation; every
# bundler and example, of which `test` has some each day.
test-slow: models web docs
	$(setup) rust browsers bundlers
	cargo test --locked --workspace --test cli --test suite -- --ignored
	node --test --test-reporter=spec web/docs/site.test.mjs
	PAGELM_BUNDLERS=all node --test --test-concurrency=1 --test-reporter=spec web/test/bundlers/*.test.mjs

# RADV compiles for a device that is not there. The numbers are those of Debian's Mesa; UPDATE_ISA=1 records others.
isa:
	$(setup) rust radv
	VK_ICD_FILENAMES="$$(echo /usr/share/vulkan/icd.d/radeon_icd.*.json)" RADV_FORCE_FAMILY=navi21 RADV_PERFTEST=cswave32 \
		cargo test --locked --test isa

# Natively on the CPU beside llama.cpp (built at the first time, in 8 minutes) and on the GPU, then in a browser on both,
# there beside wllama, and how long it takes to load; on a machine without a GPU the GPU is software.
bench: web
	$(setup) rust vulkan browsers $(if $(filter 0,$(PEERS)),,wllama)
	cargo build --locked --release -p pagelm-cli
	model='$(MODEL)'; model="$${model:-$$($(setup) model:smollm)}"; \
	peer=$(if $(filter 0,$(PEERS)),,"$$($(setup) peer)"); \
	node web/bench/native.mjs --model "$$model" $${peer:+--peer "$$peer"} && \
	target/release/pagelm bench --pp 128 --tg 64 --backend gpu --model "$$model" && \
	node web/bench/bench.mjs --model "$$model" && \
	node web/bench/loading.mjs --model "$$model"

build:
	$(setup) rust
	cargo build --locked --release

# The npm package: engine to web/pkg, TypeScript to web/dist.
web:
	$(setup) wasm node
	tests/tools/build-web.sh
	cd web && npm run --silent build

# Builds no wasm: the TypeScript knows the engine by web/src/worker/bindings.d.ts, which `web` compares with what is built.
lint:
	$(setup) rust node
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --package pagelm
	cd web && npm run --silent check

fmt:
	$(setup) rust node
	cargo fmt --all
	cd web && npm run --silent format

# Tests that miss one of them are skipped, by name.
models:
	-$(setup) model:smollm model:gemma model:qwen schemas >/dev/null

# Type-checks the Metal code without a Mac.
apple:
	tests/tools/check-apple.sh

test-rust: models
	$(setup) rust vulkan
	cargo test --locked --workspace

test-web: web models
	$(setup) browsers openai bundlers
	node --test --test-concurrency=1 --test-reporter=spec web/test/*.test.mjs web/test/*/*.test.mjs

clean:
	cargo clean
	rm -rf web/pkg web/pkg.new web/dist web/demo/dist web/docs/dist
