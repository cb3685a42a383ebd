#!/bin/bash
# Runs each libFuzzer target for FUZZ_SECONDS from its corpus; finds stay in build/fuzz/found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake --preset fuzz
cmake --build build/fuzz --target tests/fuzz/all -j "$(nproc)"
mkdir -p build/fuzz/found
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    case "$name" in
    fuzz_replay | fuzz_canary) continue ;;
    esac
    echo "== $name, ${FUZZ_SECONDS:-60} s"
    mkdir -p "build/fuzz/corpus/$name" # new inputs go here, the committed corpus is only read
    "build/fuzz/bin/$name" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/found/$name-" "build/fuzz/corpus/$name" \
        "tests/fuzz/corpus/${name#fuzz_}"
done
