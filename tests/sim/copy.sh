# Sourced by planted.sh and mutants.sh: a copy of the source tree, in which one thing at a time is
# made wrong, and the simulator built from it. Needs what the build needs, and clang.
#   copy_tree              sets $copy; removed at the end
#   change FILE EDIT       what sed does to it; is_changed FILE: it did something; change_back FILE
#   build                  the simulator from the copy; fails where it does not compile
#   simulate SEEDS         true: some seed found something; $found says what
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
copy=$(mktemp -d "${TMPDIR:-/tmp}/dbos-sim.XXXXXX")
trap 'rm -rf "$copy"' EXIT
seconds=${SECONDS_EACH:-120} # that the seeds of one bug may take; what hangs is found, too

copy_tree() {
    tar -C "$root" --exclude=./build --exclude=./.git -c . | tar -C "$copy" -x
    cmake -S "$copy" -B "$copy/build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang \
        "-DCMAKE_C_FLAGS=-O1 -Wno-error -w" -DDBOS_TESTS=ON >"$copy/log" 2>&1 || { cat "$copy/log"; exit 1; }
    build || { tail -n 30 "$copy/log"; exit 1; }
}

change() {
    cp "$copy/$1" "$copy/as_it_was"
    sed -i "$2" "$copy/$1"
}
is_changed() { ! cmp -s "$copy/$1" "$copy/as_it_was"; }
change_back() { cp "$copy/as_it_was" "$copy/$1"; }

build() { ninja -C "$copy/build" sim >"$copy/log" 2>&1; }

simulate() {
    local status=0
    timeout "$seconds" "$copy/build/bin/sim" --seeds "$1" --stop >"$copy/out" 2>&1 || status=$?
    found=$(grep -a -m 1 -E "^sim: |CHECK|check" "$copy/out" | cut -c 1-100 || true)
    [ "$status" -ne 124 ] || found="no end within $seconds s"
    [ "$status" -ne 0 ]
}
