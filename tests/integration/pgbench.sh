#!/usr/bin/env bash
# The stock pgbench drives vote() in each of its query modes: no transaction fails, and each one that
# it counts is a row.
#   pgbench.sh folder-of-the-programs
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"
# Not by PATH: Debian's wrapper is there without the program.
pgbench=$(ls third_party/pgbench/pgbench /usr/lib/postgresql/*/bin/pgbench 2>/dev/null | tail -n 1 || true)
[ -n "$pgbench" ] || skip "there is no pgbench here (scripts/setup.sh test fetches it)"
transactions=200
clients=4

node_start --partitions 2 --no-worker --no-archive
PGOPTIONS= psql -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U ann -d dbos \
    -f procs/examples/vote.sql >/dev/null 2>&1
cat >"$dir/vote.pgbench" <<'EOS'
\set phone random(2000000000, 2009999999)
\set contestant random(1, 6)
SELECT vote(:phone, :contestant, 10);
EOS
wanted=0
for mode in simple extended prepared; do
    "$pgbench" -n -M "$mode" -t $transactions -c $clients -j 2 -f "$dir/vote.pgbench" \
        -h 127.0.0.1 -p "$port" -U ann dbos >"$dir/got" 2>&1 || fail "$mode: $(cat "$dir/got")"
    grep -q "number of failed transactions: 0 " "$dir/got" || fail "$mode: $(cat "$dir/got")"
    wanted=$((wanted + transactions * clients))
    rows=$(psql -X -A -t -h 127.0.0.1 -p "$port" -U ann -d dbos -c "SELECT count(*) FROM votes")
    [ "$rows" -eq "$wanted" ] || fail "$mode: $rows rows after $wanted transactions"
    echo "pgbench -M $mode: $(grep -o 'tps = [0-9]*' "$dir/got")"
done
node_stop
