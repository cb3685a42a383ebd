#!/usr/bin/env bash
# The benchmark suite, in one run on one machine: the two floors, Vote through the wire beside PostgreSQL,
# Redis and Tarantool, and the image workflow beside the worker's own execution. Prints a line for each
# figure and the ratios at the end; keeps the raw output in bench/results/.
#   PEERS=dir    scripts that measure the peers (default ../shared/peers; without them: dbosd alone)
#   COMBOS="1 1;32 1;32 16"   connections and requests in flight on each
#   FULL=1       more settings: 8 1 and 8 128, too
#   REPS=3 SECS=3             runs of each setting (the median counts) and their length
#   BIN=dir      the programs (default build/bin)
set -eu
cd "$(dirname "$0")/.."
settings="1 1;32 1;32 16"
[ -z "${FULL:-}" ] || settings="1 1;8 1;32 1;32 16;8 128"
export COMBOS=${COMBOS:-$settings}
export REPS=${REPS:-3} SECS=${SECS:-3} QUIET_S=${QUIET_S:-10}
peers=${PEERS:-../shared/peers}
bin=${BIN:-$PWD/build/bin}
out=$PWD/bench/results/$(date -u +%Y%m%d-%H%M%S)
mkdir -p "$out"
export RESULTS=$out/vote.jsonl
# The peers' helpers repeat a run when strangers used the machine. They know theirs by name: all.sh, and
# whatever has dbosd-peers in its command line (dbos-archiver by this directory).
work=$(mktemp -d "${TMPDIR:-/tmp}/dbosd-peers-bench.XXXXXX")
node=
stop_node() {
    [ -z "$node" ] || { kill -TERM "$node" 2>/dev/null || true; wait "$node" 2>/dev/null || true; }
    node=
}
trap 'stop_node; rm -rf "$work"' EXIT

{
    echo "machine: $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
    echo "kernel: $(uname -r)   date: $(date -u +%F)"
    echo "commit: $(git rev-parse --short HEAD 2>/dev/null || echo none)"
    echo "settings: COMBOS=$COMBOS REPS=$REPS SECS=$SECS; server and load generator share the cores"
} | tee "$out/machine.txt"

# launch PROGRAM ARGUMENT...: a server; sets $node and $port. An argument lies in $work, so that the
# peers' helpers know it.
launch() {
    local program=$1
    shift
    rm -f "$work/ready"
    "$bin/$program" "$@" >"$work/ready" 2>>"$out/$program.log" &
    node=$!
    port=
    for _ in $(seq 300); do
        port=$(sed -n 's/.*ready.*port=\([0-9]*\).*/\1/p' "$work/ready")
        [ -n "$port" ] && break
        sleep 0.1
    done
    [ -n "$port" ] || { echo "$program did not start; see $out/$program.log" >&2; exit 1; }
}

# start_server PROGRAM ARGUMENT...: launch it in an empty $work/node, with the Vote schema
start_server() {
    rm -rf "$work/node"
    launch "$@"
    psql -qX -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U bench -d dbos -f procs/examples/vote.sql
}

# start_node DURABILITY: a fresh node with the Vote schema; sets $node and $port
start_node() {
    start_server dbosd --data-dir "$work/node" --port 0 --durability "$1" --no-worker
}

ask() { psql -qXAt -h 127.0.0.1 -p "$port" -U bench -d dbos -c "$1"; }

# Every accepted vote is a row and a count; sets $rows.
check_votes() {
    local counts
    rows=$(ask 'SELECT count(*) FROM votes')
    counts=$(ask 'SELECT sum(n) FROM phone_votes')
    [ "$rows" = "$counts" ] || { echo "votes $rows, counts $counts: they differ" >&2; exit 1; }
}

# check_kill DURABILITY: what was there is there after kill -9 and a restart.
check_kill() {
    local before=$rows
    [ "$1" = sync ] || sleep 0.5 # what it may lose is written by now
    kill -KILL "$node"
    wait "$node" 2>/dev/null || true
    launch dbosd --data-dir "$work/node" --port 0 --durability "$1" --no-worker
    check_votes
    [ "$rows" = "$before" ] || { echo "$before votes, after kill -9 $rows" >&2; exit 1; }
}

progress() { echo "== $1 (${SECONDS} s since the start)"; }

raw_sync() {
    for _ in $(seq "$REPS"); do
        calm "$bin/bench_raw_sync" "$work" --seconds "$SECS"
    done | medians raw-sync write+sync "log segment, fdatasync" 1 1
}

null_server() {
    local combo combos
    IFS=';' read -ra combos <<<"$COMBOS"
    start_server bench_null_server "$work/node"
    for combo in "${combos[@]}"; do
        set -- $combo
        for _ in $(seq "$REPS"); do
            vload -t pg -p "$port" -u bench -d dbos -c "$1" -P "$2" -s "$SECS" -f vote
        done | medians null-server vote-wire none "$1" "$2"
    done
    stop_node
}

vote_dbosd() {
    local durability combo combos
    for durability in sync async; do
        IFS=';' read -ra combos <<<"$COMBOS"
        for combo in "${combos[@]}"; do
            set -- $combo
            {
                trap stop_node EXIT # the loop is a shell of its own, and so is its node
                for _ in $(seq "$REPS"); do
                    start_node "$durability"
                    vload -t pg -p "$port" -u bench -d dbos -c "$1" -P "$2" -s "$SECS" -f vote
                    check_votes
                    check_kill "$durability"
                    stop_node
                done
            } | medians dbosd vote-wire-C "durability=$durability,provenance=full" "$1" "$2"
        done
    done
}

# peer NAME PROGRAM SCRIPT ARGUMENT...: a peer's script, where its program is installed
peer() {
    local name=$1 program=$2 script=$3
    shift 3
    progress "$name"
    if command -v "$program" >/dev/null; then
        bash "$peers/$script" "$@" || echo "$name: not measured"
    else
        echo "$name: $program is not installed, not measured"
    fi
}

if [ -r "$peers/lib.sh" ]; then
    echo "Vote: transactions/s, medians of $REPS x $SECS s"
    RESET= # a disturbed run starts on the same node again
    . "$peers/lib.sh"
    set -e +u -o pipefail # the peers' helpers leave variables unset
    trap 'stop_node; rm -rf "$work"' EXIT
    if [ -x "$bin/bench_raw_sync" ] && [ -x "$bin/bench_null_server" ]; then
        progress "floor: raw sync"
        raw_sync
        progress "floor: null server"
        null_server
    else
        echo "floors: not built (make bench builds them), not measured"
    fi
    progress dbosd
    vote_dbosd
    peer PostgreSQL /usr/lib/postgresql/15/bin/postgres pg.sh wire cfun
    peer Redis redis-server redis.sh always everysec
    peer Tarantool tarantool tarantool.sh fsync write
    progress "ratios"
    bench/compare.py "$RESULTS" | tee "$out/ratios.txt"
else
    echo "no peers in $peers (set PEERS): Vote is not measured"
fi

progress "MNIST: invocations of 1,200 images (images repeat) beside raw execution in the worker"
BENCH=1 scripts/demo.sh | tee "$out/mnist.txt" | grep '^mnist '
echo "raw output: ${out#"$PWD"/}"
earlier=$(ls -d bench/results/*/ | tail -n 2 | head -n 1)
echo "beside an earlier result: bench/compare.py ${earlier%/} ${out#"$PWD"/}"
