#!/usr/bin/env bash
# The engine in one process beside what a program would link instead: SQLite :memory: and LMDB with the
# same logic, and the memory of a row beside Redis and Tarantool. Prints each figure, then the ratios.
#   BIN=build/bin   where bench_embedded lies (ninja -C build/release bench_embedded)
#   PEERS=dir       the peers' programs (default ../shared/peers; without them: dbosd alone)
#   REPS=3 SECS=3   interleaved runs of each Vote (the median counts) and their length
#   ROWS_MAX=10000000 TXN_ROWS_MAX=1000000   the largest tables, by the table alone and by transactions
set -eu
cd "$(dirname "$0")/.."
bin=${BIN:-build/bin}
peers=${PEERS:-../shared/peers}
reps=${REPS:-3} secs=${SECS:-3}
rows_max=${ROWS_MAX:-10000000} txn_rows_max=${TXN_ROWS_MAX:-1000000}
memory_rows=1000000
# The peers' helpers know who belongs to the benchmark by dbosd-peers in the command line.
work=$(mktemp -d "${TMPDIR:-/tmp}/dbosd-peers-embedded.XXXXXX")
shm=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "$work")/dbosd-peers.XXXXXX")
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work" "$shm"' EXIT
raw=${RAW:-$work/raw.jsonl}
: >"$raw"
[ -x "$bin/bench_embedded" ] || { echo "build it first: ninja -C build/release bench_embedded" >&2; exit 1; }
ln -s "$(realpath "$bin/bench_embedded")" "$work/bench_embedded"
export TMPDIR=$work

calm() { "$@"; }
if [ -r "$peers/src/embedded.c" ] &&
    gcc -O2 -o "$work/embedded" "$peers/src/embedded.c" -lsqlite3 -llmdb 2>"$work/gcc.log"; then
    PEERS_DIR=$work/peers QUIET_S=${QUIET_S:-10} CALM=${CALM:-2} RESET=
    set +u
    . "$peers/lib.sh"
    set -e
else
    echo "no peers in $peers, or libsqlite3-dev and liblmdb-dev are missing: dbosd alone" >&2
fi

# peer NAME WORKLOAD ARGUMENT: one run of a peer's program, as a line of our form
peer() {
    [ -x "$work/embedded" ] || return 0
    echo "embedded: $1" >&2
    rm -rf "${shm:?}"/*
    calm "$work/embedded" "$1" "$3" "$secs" | sed "s/^{/{\"system\":\"$1\",\"workload\":\"$2\",/"
}

for rep in $(seq "$reps"); do
    echo "embedded: run $rep of $reps" >&2
    {
        calm "$work/bench_embedded" vote "$secs"
        peer sqlite-mem vote-inprocess -
        peer lmdb-vote-nosync vote-inprocess "$shm"
        peer sqlite-get point-read -
        peer lmdb-get point-read "$shm"
        peer lmdb-put-nosync insert "$shm"
    } >>"$raw"
done
"$work/bench_embedded" storage "$secs" 1 "$rows_max" >>"$raw"
"$work/bench_embedded" txn "$secs" 1 "$txn_rows_max" >>"$raw"

# Rows of (bigint, int) elsewhere. bytes: what the system says that they take.
memory_line() {
    echo "{\"system\":\"$1\",\"workload\":\"memory\",\"rows\":$memory_rows,\"bytes_per_row\":$((($3 - $2) / memory_rows))}"
}
if command -v redis-server >/dev/null; then
    redis-server --port 0 --unixsocket "$work/redis" --save '' --dir "$work" >/dev/null &
    server=$!
    ask() { redis-cli -s "$work/redis" "$@"; }
    used() { ask info memory | tr -d '\r' | sed -n 's/^used_memory://p'; }
    until ask ping >/dev/null 2>&1; do sleep 0.1; done
    before=$(used)
    ask eval "for i = 1, $memory_rows do redis.call('set', 2000000000 + i, i) end" 0 >/dev/null
    memory_line redis "$before" "$(used)" >>"$raw"
    kill "$server" && wait "$server" || true
    server=
fi
if command -v tarantool >/dev/null; then
    (
        cd "$work"
        tarantool - 2>tarantool.log <<LUA
box.cfg{wal_mode = 'none', memtx_memory = 2^30, log_level = 1}
local s = box.schema.space.create('t', {format = {{'k', 'integer'}, {'v', 'integer'}}})
s:create_index('pk', {type = 'hash', parts = {'k'}})
local before = box.slab.info().arena_used
for i = 1, $memory_rows do s:insert{2000000000 + i, i} end
local bytes = box.slab.info().arena_used - before
print(string.format('{"system":"tarantool","workload":"memory","rows":%d,"bytes_per_row":%.1f}',
                    $memory_rows, bytes / $memory_rows))
os.exit(0)
LUA
    ) >>"$raw"
fi

cat "$raw"
python3 - "$raw" <<'PY'
import json, statistics, sys
figures = {}
for line in open(sys.argv[1]):
    if line.startswith('{'):
        figure = json.loads(line)
        key = tuple(figure.get(k, '') for k in ('system', 'workload', 'path', 'log'))
        rows = figure.get('rows', 0) if figure['workload'] != 'vote-inprocess' else 0
        figures.setdefault(key + (rows,), []).append(figure)


def median(field, *key):
    found = [f[field] for f in figures.get(key, []) if field in f]
    return statistics.median(found) if found else None


def peer_ns(system, workload):
    tps = median('tps', system, workload, '', '', 0)
    return 1e9 / tps if tps else None


def ratio(text, peer, ours, bar=''):
    if peer and ours:
        print(f'ratio: {text}: {peer / ours:.2f} x ({ours:.0f} ns, peer {peer:.0f} ns){bar}')


print('-- one process, one thread; ratios from loops that read the clock around each operation')
clock = median('ns', 'machine', 'clock', '', '', 0)
if clock:
    print(f'clock: {clock:.0f} ns are in every figure that is compared')
for path, log in (('txn', 'none'), ('txn', 'async'), ('engine', 'async')):
    ours = median('ns_each', 'dbosd', 'vote-inprocess', path, log, 0)
    ratio(f'vote, path {path}, log {log}, to SQLite :memory:', peer_ns('sqlite-mem', 'vote-inprocess'), ours,
          ', wanted 3')
    ratio(f'vote, path {path}, log {log}, to LMDB nosync', peer_ns('lmdb-vote-nosync', 'vote-inprocess'), ours)
for path, log in (('storage', 'none'), ('txn', 'none'), ('txn', 'async')):
    for workload, system in (('point-read', 'lmdb-get'), ('insert', 'lmdb-put-nosync')):
        ours = median('ns_each', 'dbosd', workload, path, log, 1000000)
        ratio(f'{workload} at 1,000,000 rows, path {path}, log {log}, to {system}', peer_ns(system, workload), ours)
ratio('point read at 1,000,000 rows, path txn, log none, to a SQLite statement', peer_ns('sqlite-get', 'point-read'),
      median('ns_each', 'dbosd', 'point-read', 'txn', 'none', 1000000))
for workload, bar in (('point-read', 250), ('insert', 500)):
    sizes = [(r, median('ns', s, w, p, l, r)) for s, w, p, l, r in figures if (w, p) == (workload, 'storage')]
    print(f'{workload}, table alone, ns by rows: ' + ', '.join(f'{r:,}: {ns:.0f}' for r, ns in sorted(sizes)) +
          f'; wanted at 10,000,000: {bar}')
floor = median('ns', 'machine', 'memory-load', '', '', 10000000)
read = median('ns', 'dbosd', 'point-read', 'storage', 'none', 10000000)
if floor and read:
    print(f'floor: a point read at 10,000,000 rows takes as long as {read / floor:.2f} loads from memory that wait for each other '
          f'({floor:.0f} ns each); its bucket and its row are two')
sizes = [(r, median('bytes_per_row', s, w, p, l, r), median('rss_per_row', s, w, p, l, r))
         for s, w, p, l, r in figures if (w, p) == ('insert', 'storage')]
print('bytes per row (counted / resident): ' + ', '.join(f'{r:,}: {b:.0f} / {m:.0f}' for r, b, m in sorted(sizes)))
for system in ('redis', 'tarantool'):
    bytes_per_row = median('bytes_per_row', system, 'memory', '', '', 1000000)
    if bytes_per_row:
        print(f'bytes per row, {system}, 1,000,000 rows: {bytes_per_row:.0f}')
PY
