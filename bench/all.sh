#!/usr/bin/env bash
# Vote through the wire beside PostgreSQL, Redis and Tarantool and the two floors, in one run on one machine,
# interleaved: in each round each setting is measured in one system after the other, so that a minute in which
# the machine is slow is slow for all of them. Prints a line for each run and the ratios of the medians at
# the end; keeps the raw output in bench/results/. FULL: also the image workflow beside the worker's own execution.
#   PEERS=dir    scripts that measure the peers (default ../shared/peers; without them: dbosd alone)
#   COMBOS="1 1;32 1;32 16"   connections and requests in flight on each
#   FULL=1       more settings: 8 1 and 8 128, too
#   REPS=3 SECS=3             rounds (the medians count), and the length of a run
#   BIN=dir, OUT=dir          the programs (default build/bin), and where the results go
set -eu
cd "$(dirname "$0")/.."
settings="1 1;32 1;32 16"
[ -z "${FULL:-}" ] || settings="1 1;8 1;32 1;32 16;8 128"
export COMBOS=${COMBOS:-$settings}
export REPS=${REPS:-3} SECS=${SECS:-3} QUIET_S=${QUIET_S:-10}
peers=${PEERS:-../shared/peers}
bin=${BIN:-$PWD/build/bin}
out=${OUT:-$PWD/bench/results/$(date -u +%Y%m%d-%H%M%S)}
mkdir -p "$out"
export RESULTS=$out/vote.jsonl
# The peers' helpers repeat a run when strangers used the machine. They know theirs by name: all.sh, and
# whatever has dbosd-peers in its command line (dbos-archiver by this directory).
work=$(mktemp -d "${TMPDIR:-/tmp}/dbosd-peers-bench.XXXXXX")
. bench/node.sh
trap 'stop_node; rm -rf "$work"' EXIT

{
    echo "machine: $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
    echo "kernel: $(uname -r)   date: $(date -u +%F)"
    echo "commit: $(git rev-parse --short HEAD 2>/dev/null || echo none)"
    echo "settings: COMBOS=$COMBOS REPS=$REPS SECS=$SECS; server and load generator share the cores"
} | tee "$out/machine.txt"

# start_node DURABILITY: a fresh node with the Vote schema; sets $node and $port
start_node() {
    start_server dbosd --data-dir "$work/node" --port 0 --durability "$1" --no-worker
}

# check_kill DURABILITY: what was there is there after kill -9 and a restart.
check_kill() {
    local before=$rows
    [ "$1" = sync ] || sleep 0.5 # what it may lose is written by now
    kill_node
    launch dbosd --data-dir "$work/node" --port 0 --durability "$1" --no-worker
    check_votes
    [ "$rows" = "$before" ] || { echo "$before votes, after kill -9 $rows" >&2; exit 1; }
}

raw_sync() {
    calm "$bin/bench_raw_sync" "$work" --seconds "$SECS" |
        medians raw-sync write+sync "log segment, fdatasync" 1 1
}

# null_server CONNECTIONS DEPTH
null_server() {
    start_server bench_null_server "$work/node"
    vload -t pg -p "$port" -u bench -d dbos -c "$1" -P "$2" -s "$SECS" -f vote >"$work/line"
    medians null-server vote-wire none "$1" "$2" <"$work/line"
    stop_node
}

# vote_dbosd DURABILITY CONNECTIONS DEPTH
vote_dbosd() {
    start_node "$1"
    vload -t pg -p "$port" -u bench -d dbos -c "$2" -P "$3" -s "$SECS" -f vote >"$work/line"
    check_votes
    check_kill "$1"
    stop_node
    medians dbosd vote-wire-C "durability=$1,provenance=full" "$2" "$3" <"$work/line"
}

# peer NAME PROGRAM SCRIPT ARGUMENT...: one run of each setting in $COMBOS, where its program is installed
peer() {
    local name=$1 program=$2 script=$3
    shift 3
    if command -v "$program" >/dev/null; then
        REPS=1 bash "$peers/$script" "$@" || echo "$name: not measured"
    else
        echo "$name: $program is not installed, not measured"
    fi
}

# one_setting CONNECTIONS DEPTH: one run of it in each system
one_setting() {
    local floors=no function=cfun
    [ -x "$bin/bench_raw_sync" ] && [ -x "$bin/bench_null_server" ] && floors=yes
    [ "$floors" = no ] || [ "$1 $2" != "1 1" ] || raw_sync
    [ "$floors" = no ] || null_server "$@"
    vote_dbosd sync "$@"
    [ "$1 $2" != "32 16" ] || function=wire # the peers' script has no C function there
    export COMBOS="$1 $2"
    peer PostgreSQL /usr/lib/postgresql/15/bin/postgres pg.sh "$function"
    peer Redis redis-server redis.sh always everysec
    peer Tarantool tarantool tarantool.sh fsync write
    vote_dbosd async "$@"
}

if [ -r "$peers/lib.sh" ]; then
    echo "Vote: transactions/s, $REPS rounds of $SECS s runs"
    RESET= # a disturbed run starts on the same node again
    . "$peers/lib.sh"
    set -e +u -o pipefail # the peers' helpers leave variables unset
    trap 'stop_node; rm -rf "$work"' EXIT
    [ -x "$bin/bench_null_server" ] || echo "floors: not built (make bench builds them), not measured"
    IFS=';' read -ra combos <<<"$COMBOS"
    for round in $(seq "$REPS"); do
        for combo in "${combos[@]}"; do
            progress "round $round of $REPS: $combo"
            one_setting $combo
        done
    done
    progress "ratios"
    bench/compare.py "$RESULTS" | tee "$out/ratios.txt"
else
    echo "no peers in $peers (set PEERS): Vote is not measured"
fi

if [ -n "${FULL:-}" ]; then
    progress "MNIST: invocations of 1,200 images (images repeat) beside raw execution in the worker"
    BENCH=1 scripts/demo.sh | tee "$out/mnist.txt" | grep '^mnist '
fi
echo "raw output: ${out#"$PWD"/}"
earlier=$(ls -d bench/results/*/ | tail -n 2 | head -n 1)
echo "beside an earlier result: bench/compare.py ${earlier%/} ${out#"$PWD"/}"
