#!/usr/bin/env bash
# The benchmark suite, in one run on one machine: Vote through the wire beside PostgreSQL and Tarantool,
# and the image workflow beside the worker's own execution. Prints a line for each figure and keeps the
# raw output in bench/results/.
#   PEERS=dir    scripts that measure the peers (default ../shared/peers; without them: dbosd alone)
#   COMBOS="1 1;32 1;32 16"   connections and requests in flight on each
#   REPS=3 SECS=3             runs of each setting (the median counts) and their length
set -eu
cd "$(dirname "$0")/.."
export COMBOS=${COMBOS:-1 1;8 1;32 1;32 16}
export REPS=${REPS:-3} SECS=${SECS:-3} QUIET_S=${QUIET_S:-10}
peers=${PEERS:-../shared/peers}
bin=$PWD/build/bin
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

# start_node DURABILITY: a fresh node with the Vote schema; sets $node and $port
start_node() {
    rm -rf "$work/node"
    "$bin/dbosd" --data-dir "$work/node" --port 0 --durability "$1" --no-worker \
        >"$work/ready" 2>>"$out/dbosd.log" &
    node=$!
    port=
    for _ in $(seq 300); do
        port=$(sed -n 's/.*ready.*port=\([0-9]*\).*/\1/p' "$work/ready")
        [ -n "$port" ] && break
        sleep 0.1
    done
    [ -n "$port" ] || { echo "dbosd did not start; see $out/dbosd.log" >&2; exit 1; }
    psql -qX -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U bench -d dbos -f procs/examples/vote.sql
}

# Every accepted vote is a row and a count.
check_votes() {
    local rows counts
    rows=$(psql -qXAt -h 127.0.0.1 -p "$port" -U bench -d dbos -c 'SELECT count(*) FROM votes')
    counts=$(psql -qXAt -h 127.0.0.1 -p "$port" -U bench -d dbos -c 'SELECT sum(n) FROM phone_votes')
    [ "$rows" = "$counts" ] || { echo "votes $rows, counts $counts: they differ" >&2; exit 1; }
}

vote_dbosd() {
    local durability combo rep
    for durability in sync async; do
        IFS=';' read -ra combos <<<"$COMBOS"
        for combo in "${combos[@]}"; do
            set -- $combo
            for rep in $(seq "$REPS"); do
                start_node "$durability"
                vload -t pg -p "$port" -u bench -d dbos -c "$1" -P "$2" -s "$SECS" -f vote
                check_votes
                stop_node
            done | medians dbosd vote-wire-C "durability=$durability,provenance=full" "$1" "$2"
        done
    done
}

if [ -r "$peers/lib.sh" ]; then
    echo "== Vote (transactions/s, median of $REPS)"
    RESET= # a disturbed run starts on the same node again
    . "$peers/lib.sh"
    set -e +u # the peers' helpers leave variables unset
    trap 'stop_node; rm -rf "$work"' EXIT
    vote_dbosd
    if command -v /usr/lib/postgresql/15/bin/postgres >/dev/null; then
        bash "$peers/pg.sh" wire cfun || echo "PostgreSQL: not measured"
    else
        echo "PostgreSQL 15 is not installed: not measured"
    fi
    if command -v tarantool >/dev/null; then
        bash "$peers/tarantool.sh" fsync write || echo "Tarantool: not measured"
    else
        echo "Tarantool is not installed: not measured"
    fi
else
    echo "no peers in $peers (set PEERS): Vote is not measured"
fi

echo "== MNIST: invocations of 1,200 images (images repeat) beside raw execution in the worker"
BENCH=1 scripts/demo.sh | tee "$out/mnist.txt" | grep '^mnist '
echo "raw output: ${out#"$PWD"/}"
