# Sourced by the shell tests of this folder: a real dbosd in a temporary directory, stopped and
# removed at the end. Expects the folder of the programs as the test's first argument.
#   node_start [option of dbosd...]   sets $port; may be called again after node_stop
#   node_stop                         SIGTERM; fails the test when the node does not end in order
# Also: $root (source tree, the working directory), $bin, $dir (temporary), fail, skip.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$(cd "${1:?usage: $0 folder-of-the-programs}" && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/dbos-test.XXXXXX")
pid=
port=
repeat="$0 $bin"
cd "$root"

finish() {
    local status=$?
    if [ -n "$pid" ]; then
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        [ ! -s "$dir/log" ] || { echo "-- the node's log ends:"; tail -n 20 "$dir/log"; }
        echo "FAILED; repeat: $repeat"
    fi
    rm -rf "$dir"
    exit "$status"
}
trap finish EXIT

fail() {
    echo "$*"
    exit 1
}

# 77 is what CMakeLists.txt calls a skipped test.
skip() {
    echo "skipped: $*"
    exit 77
}

node_start() {
    : >"$dir/ready" # what the node before said is not read again
    "$bin/dbosd" --data-dir "$dir/node" --port 0 "$@" >"$dir/ready" 2>>"$dir/log" &
    pid=$!
    port=
    for _ in $(seq 600); do
        port=$(sed -n 's/.*ready.*port=\([0-9]*\).*/\1/p' "$dir/ready")
        [ -z "$port" ] || return 0
        kill -0 "$pid" 2>/dev/null || fail "dbosd did not start"
        sleep 0.05
    done
    fail "dbosd was not ready within 30 s"
}

node_stop() {
    local status=0
    kill -TERM "$pid"
    wait "$pid" || status=$?
    pid=
    [ "$status" -eq 0 ] || fail "dbosd ended with status $status"
    if grep -E "SUMMARY: [A-Za-z]*Sanitizer|runtime error:" "$dir/log"; then
        fail "a sanitizer has complained"
    fi
}
