#!/bin/bash
# Every test, in phases; `make test` calls this after scripts/setup.sh. Stops at the first phase that
# fails. A build or a check counts as one, a ctest phase as its tests; the last line is the total.
#   scripts/test.sh [phase...]    only these, of: format release clang asan tsan
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=$(nproc)
passed=0
failed=0
skipped=0

total_and_exit() {
    local line="$passed passed, $failed failed"
    [ "$skipped" -eq 0 ] || line="$line, $skipped skipped"
    echo "tests: $SECONDS s in all"
    echo "$line"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
    exit
}

# check NAME COMMAND...: counts one; prints the command's output only where it fails.
check() {
    local name=$1 start=$SECONDS log
    shift
    mkdir -p build
    log=build/check-${name//[^a-z0-9]/-}.log
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $name ($((SECONDS - start)) s)"
        return 0
    fi
    tail -n 100 "$log"
    failed=$((failed + 1))
    echo "FAILED  $name ($((SECONDS - start)) s; all of it in $log)"
    return 1
}

build() { # build PRESET [TARGET]
    local profile=
    [ "$1" != release ] || profile=$(scripts/profile.sh)
    cmake --preset "$1" -DDBOS_TESTS=ON -DDBOS_PROFILE_FROM="$profile" && cmake --build "build/$1" --target "${2:-all}" -j "$jobs"
}

attribute() { # attribute FILE NAME: of the first <testsuite>
    sed -n "/<testsuite/,/>/s/.*[[:space:]\"]$2=\"\([0-9]*\)\".*/\1/p" "$1" | head -n 1
}

# run_tests NAME DIRECTORY [PREFIX...]: ctest there, its counts added to the totals.
run_tests() {
    local name=$1 directory=$2 start=$SECONDS report=$PWD/build/junit-$1.xml
    shift 2
    rm -f "$report"
    "$@" ctest --test-dir "$directory" -j "$jobs" --output-on-failure --no-tests=error \
        --output-junit "$report" </dev/null
    local status=$? tests failures skips
    tests=$(attribute "$report" tests)
    failures=$(attribute "$report" failures)
    skips=$(($(attribute "$report" skipped) + $(attribute "$report" disabled)))
    if [ -z "$tests" ] || { [ "$status" -ne 0 ] && [ "${failures:-0}" -eq 0 ]; }; then
        failures=$((${failures:-0} + 1))
    fi
    passed=$((passed + ${tests:-0} - failures - skips))
    failed=$((failed + failures))
    skipped=$((skipped + skips))
    if [ "$failures" -eq 0 ]; then
        echo "ok      $name tests: ${tests:-0} ($((SECONDS - start)) s)"
        return 0
    fi
    echo "FAILED  $name tests: $failures of ${tests:-0} ($((SECONDS - start)) s)"
    return 1
}

check_format() {
    local file bad=0
    while IFS= read -r file; do
        if ! clang-format --dry-run --Werror "$file" 2>/dev/null; then
            echo "$file: is not as .clang-format says; make format"
            bad=1
        fi
    done < <(git ls-files '*.c' '*.h')
    return $bad
}

phase_format() {
    check "clang-format" check_format
}

phase_release() {
    check "build release (gcc)" build release && run_tests release build/release
}

phase_clang() {
    check "build clang" build clang
}

phase_asan() {
    check "build asan" build asan && run_tests asan build/asan
}

# Without address randomisation where that is allowed: newer kernels randomise more bits than this
# compiler's ThreadSanitizer can map.
phase_tsan() {
    local plain=()
    setarch -R true 2>/dev/null && plain=(setarch -R)
    check "build tsan" build tsan tests/stress/all &&
        run_tests tsan build/tsan/tests/stress "${plain[@]}"
}

phases=("$@")
[ "$#" -gt 0 ] || phases=(format release clang asan tsan)
for phase in "${phases[@]}"; do
    start=$SECONDS
    echo "== $phase"
    "phase_$phase" || total_and_exit
    echo "== $phase took $((SECONDS - start)) s"
done
total_and_exit
