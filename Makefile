# The commands of the README. What is compiled how stands in CMakeLists.txt and CMakePresets.json.
.PHONY: help demo test build bench fuzz format clean
.DEFAULT_GOAL := help
JOBS := $(shell nproc)
FUZZ_SECONDS ?= 60
BENCH_OUT := $(CURDIR)/bench/results/$(shell date -u +%Y%m%d-%H%M%S)

help:
	@echo 'make demo    the image workflow on one node, end to end (KEEP=1 leaves the node up)'
	@echo 'make test    every test: release, clang, sanitizers, lint'
	@echo 'make build   the programs, into build/bin'
	@echo 'make bench   figures beside PostgreSQL, Redis, Tarantool and the floors (FULL=1: growth, overload … too)'
	@echo 'make fuzz    libFuzzer on every decoder, FUZZ_SECONDS=60 each'
	@echo 'make format  clang-format on every source'
	@echo 'make clean   removes build/ (what was fetched stays in third_party/)'

demo: build
	@scripts/demo.sh

# tests/ is left out at the first configuration, because a demo needs no test libraries.
build:
	@scripts/setup.sh build
	@mkdir -p build
	@profile=$$(scripts/profile.sh $(PROFILE)) && cmake --preset release -DDBOS_PROFILE_FROM="$$profile" \
	    $(if $(wildcard build/release/CMakeCache.txt),,-DDBOS_TESTS=OFF) \
	    >build/configure.log || { cat build/configure.log; exit 1; }
	@cmake --build build/release --target tools/all -j $(JOBS)
	@ln -sfn release/bin build/bin

test:
	@scripts/setup.sh test
	@scripts/test.sh

bench: PROFILE = --fresh
bench: export SECS ?= 2
bench: build
	@scripts/setup.sh bench
	@cmake --build build/release --target bench_raw_sync bench_null_server bench_embedded \
	    bench_load -j $(JOBS)
	@OUT=$(BENCH_OUT) bench/all.sh
	@RAW=$(BENCH_OUT)/embedded.jsonl BIN=build/bin bench/embedded.sh >$(BENCH_OUT)/embedded.txt
	@cat $(BENCH_OUT)/embedded.txt
	@OUT=$(BENCH_OUT) bench/full.sh $(if $(FULL),,reads)

fuzz:
	@scripts/setup.sh test
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz.sh

format:
	@scripts/setup.sh test
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf build
