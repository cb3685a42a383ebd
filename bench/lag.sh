#!/usr/bin/env bash
# The archive's lag: the highest rate of votes at which it stays flat, and what a full backlog does.
#   bench/lag.sh              (full.sh calls it as its part `lag`)
# First an open loop of 32 connections at rates between nothing and what a closed loop reaches, halving the
# distance each time; a rate is good when the node keeps up with it and the lag, read from dbos.archive every
# second, is no higher in the last third of a run than in the one before, but for a second's worth of log. Then
# the rate that was found, for long; while that is not flat, a little less. Last a closed loop on a node with a
# small backlog: before, while the archiver is stopped (SIGSTOP) and the backlog full, and after.
# Each run is a line of lag.jsonl, and the last line is the result.
#   LAG_SHORT=20 LAG_STEPS=6  seconds of a short run, and how many
#   LAG_SECS=600              of the long one (SECS where that is set)
#   LAG_RATE=N                no search: the first long run is at N votes/s
#   LAG_TRIES=3               long runs at most, each 7 % slower than the one before
#   LAG_BACKLOG=67108864      bytes of the small backlog
#   DURABILITY=sync           BIN, OUT, RESULTS: as for all.sh
set -euo pipefail
cd "$(dirname "$0")/.."
short=${LAG_SHORT:-20}
steps=${LAG_STEPS:-6}
long=${LAG_SECS:-${SECS:-600}}
tries=${LAG_TRIES:-3}
backlog=${LAG_BACKLOG:-67108864}
durability=${DURABILITY:-sync}
bin=${BIN:-$PWD/build/bin}
out=${OUT:-$PWD/bench/results/$(date -u +%Y%m%d-%H%M%S)}
mkdir -p "$out"
results=${RESULTS:-$out/lag.jsonl}
work=$(mktemp -d "${TMPDIR:-/tmp}/dbosd-peers-lag.XXXXXX")
watcher=
generator=
. bench/node.sh
stop_all() {
    [ -z "$watcher$generator" ] || kill $watcher $generator 2>/dev/null || true
    [ -z "$node" ] || pkill -CONT -P "$node" 2>/dev/null || true
    stop_node
    rm -rf "$work"
}
trap stop_all EXIT

vote=(--call 'SELECT vote($1,$2,$3)' --args '2000000000..2009999999 1..6 10')
load() { "$bin/bench_load" --port "$port" --connections 32 "$@" "${vote[@]}" 2>>"$out/load.log"; }
note() { bench/full.py note part=lag "$@" | tee -a "$results"; }

# watch_lag FILE: from here on a line each second: lag_bytes|lag_s|lag_positions|class
watch_lag() {
    psql -qXAt -h 127.0.0.1 -p "$port" -U bench -d dbos >"$1" 2>/dev/null \
        < <(echo 'SELECT lag_bytes, lag_s, lag_positions, class FROM dbos.archive \watch 1') &
    watcher=$!
}
stop_watching() {
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    watcher=
}

# caught_up: until the archive has everything
caught_up() {
    local deadline=$((SECONDS + 600))
    until [ "$(ask 'SELECT lag_positions FROM dbos.archive')" = 0 ]; do
        [ $SECONDS -le $deadline ] || { echo "the archive does not catch up" >&2; exit 1; }
        sleep 0.5
    done
}

# rate_is_good RATE SECONDS PHASE
rate_is_good() {
    watch_lag "$work/lag"
    load --rate "$1" --in-flight-max 16 --seconds "$2" >"$work/line"
    stop_watching
    bench/full.py lag "$work/lag" <"$work/line" >"$work/facts"
    # shellcheck disable=SC2046
    note "phase=$3" "rate=$1" "seconds=$2" "durability=$durability" $(cat "$work/facts")
    caught_up
    grep -q '^flat=1$' "$work/facts"
}

fresh() {
    stop_node
    start_server dbosd --data-dir "$work/node" --port 0 --no-worker --durability "$durability" "$@"
}

# What a closed loop reaches, whether the archive keeps up or not, is above what we look for.
search() {
    local low=0 high rate
    fresh
    load --depth 16 --seconds "$short" >"$work/line"
    closed=$(bench/full.py field 'int(tps)' <"$work/line")
    note phase=closed "tps=$closed" "seconds=$short" "durability=$durability"
    caught_up
    found=${LAG_RATE:-0}
    [ "$found" = 0 ] || return 0
    high=$closed
    for _ in $(seq "$steps"); do
        rate=$(((low + high) / 2))
        if rate_is_good "$rate" "$short" search; then low=$rate; else high=$rate; fi
    done
    found=$low
}

# As long as it was asked for, or as the rows fit into the memory.
confirm() {
    local fits
    flat=0
    for _ in $(seq "$tries"); do
        [ "$found" -gt 0 ] || return 0
        fresh # without what the runs before it have left
        fits=$(awk -v rate="$found" '/^MemAvailable/ {printf "%d", $2 * 1024 * 0.7 / 250 / rate}' /proc/meminfo)
        [ "$long" -le "$fits" ] || { echo "lag: $long s of rows do not fit into the memory: $fits s" && long=$fits; }
        if rate_is_good "$found" "$long" confirm; then
            flat=$found
            return 0
        fi
        found=$((found * 93 / 100))
    done
}

since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.1f", b - a}'; }

# What is sent while the backlog is full waits, and is refused after the usual 5 s.
full_backlog() {
    local archiver phase=$((short / 2 < 8 ? 8 : short / 2)) start stopped full reads inserts
    fresh --archive-backlog-max "$backlog"
    archiver=$(ask 'SELECT process FROM dbos.archive')
    start=$EPOCHREALTIME
    load --depth 16 --warmup 0 --series --seconds $((5 * phase)) >"$work/line" &
    generator=$!
    sleep "$phase"
    kill -STOP "$archiver"
    stopped=$(since "$start")
    until [ "$(ask 'SELECT is_full FROM dbos.archive')" = t ]; do
        kill -0 "$generator" 2>/dev/null || { echo "the backlog was never full" >&2 && exit 1; }
        sleep 0.1
    done
    full=$(since "$start")
    reads=$("$bin/bench_load" --port "$port" --connections 4 --warmup 0 --seconds 2 \
        --call 'SELECT n FROM phone_votes WHERE phone = $1' --args '2000000000..2009999999' 2>>"$out/load.log" |
        bench/full.py field 'int(tps)')
    sleep $((phase - 2))
    kill -CONT "$archiver"
    bench/full.py note "stopped=$stopped" "full=$full" "on=$(since "$start")" >"$work/times"
    wait "$generator"
    generator=
    caught_up
    check_votes
    inserts=$(ask "SELECT count(*) FROM prov.event WHERE table_name = 'votes' AND op = 'insert'")
    accepted=$(bench/full.py field 'sum(c["replies"].get("0", 0) for c in calls)' <"$work/line")
    if [ "$accepted" != "$rows" ] || [ "$inserts" != "$rows" ]; then
        note part=fault "what=votes in the archive, $inserts, and acknowledged, $accepted" "is=$rows" "wanted=the same"
        exit 1
    fi
    bench/full.py backlog "$work/times" <"$work/line" >"$work/facts"
    # shellcheck disable=SC2046
    note phase=backlog "backlog=$backlog" "durability=$durability" "reads_while_full=$reads" $(cat "$work/facts")
}

search
confirm
full_backlog
stop_node
# shellcheck disable=SC2046
note phase=result "durability=$durability" "closed_tps=$closed" "flat_rate=$flat" "seconds=$long" "backlog=$backlog" $(cat "$work/facts")
