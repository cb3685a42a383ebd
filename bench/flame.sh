#!/usr/bin/env bash
# Where the nanoseconds of one Vote go: a flame graph of all threads of a node under vload, and a table by
# layer and thread. Writes flame-32x16.svg and .txt into bench/results/<time>/ (or OUT).
#   SETTING="32 16"       connections and requests in flight on each
#   SECS=10               how long perf looks, after as long a warm-up at most 3 s
#   DURABILITY=sync       PEERS, BIN, OUT: as for all.sh
# It needs perf (root, or kernel.perf_event_paranoid <= 1) and addr2line, and a build with frame pointers and
# debug information, as the presets are.
set -euo pipefail
cd "$(dirname "$0")/.."
export REPS=1 SECS=${SECS:-10}
setting=${SETTING:-32 16}
durability=${DURABILITY:-sync}
peers=${PEERS:-../shared/peers}
bin=${BIN:-$PWD/build/bin}
out=${OUT:-$PWD/bench/results/$(date -u +%Y%m%d-%H%M%S)}
mkdir -p "$out"
work=$(mktemp -d "${TMPDIR:-/tmp}/dbosd-peers-flame.XXXXXX")
. bench/node.sh
trap 'stop_node; rm -rf "$work"' EXIT

for program in perf addr2line; do
    command -v "$program" >/dev/null || { echo "flame.sh: $program is not installed" >&2; exit 1; }
done
set +u
. "$peers/lib.sh"
set -u
read -r connections depth <<<"$setting"
load=("$P/bin/vload" -t pg -u bench -d dbos -c "$connections" -P "$depth" -f vote)
start_server dbosd --data-dir "$work/node" --port 0 --durability "$durability" --no-worker
"${load[@]}" -p "$port" -s "$((SECS < 3 ? SECS : 3))" >/dev/null
name="$out/flame-${connections}x$depth"
[ "$durability" = sync ] || name+="-$durability"
bench/flame.py "$work/node" "$name" "${load[@]}" -p "$port" -s "$SECS" -w 0
rm -f "$name.folded"
check_votes
echo "flame graph: ${name#"$PWD"/}.svg"
