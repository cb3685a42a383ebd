#!/usr/bin/env bash
# A sync that fails: the node is down within a second, with status 74, and has acknowledged nothing after it;
# the next start has all that was acknowledged.
#   sync_fails.sh BIN SHIM     the shim of tests/support/lose_unsynced.c
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"
shim=${2:?the shim}
repeat="$0 $bin $shim"

ask() { psql -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U alice -d dbos "$@"; }
for round in 1 2 3; do
    LD_PRELOAD="$shim" LOSE_UNSYNCED_FAIL="$dir/fail" node_start --no-worker --no-archive --partitions 2
    if [ "$round" -eq 1 ]; then
        ask -c "CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz) PARTITION BY HASH (id)"
    fi
    # Each client writes down what it was told, and when.
    for client in 1 2 3; do
        (for i in $(seq 100000); do
            id=$((round * 1000000 + client * 100000 + i))
            psql -X -q -h 127.0.0.1 -p "$port" -U alice -d dbos -c "INSERT INTO t VALUES ($id, now())" 2>/dev/null || break
            echo "$id $(date +%s%N)" >>"$dir/told.$client"
        done) &
        clients[client]=$!
    done
    until [ -s "$dir/told.1" ] && [ "$(wc -l <"$dir/told.1")" -ge $((round * 20)) ]; do sleep 0.02; done
    touch "$dir/fail"
    failed=$(date +%s%N)
    status=0
    wait "$pid" || status=$?
    pid=
    ended=$(date +%s%N)
    wait "${clients[@]}"
    rm "$dir/fail"
    [ "$status" -eq 74 ] || fail "the node ended with status $status"
    [ $(((ended - failed) / 1000000)) -le 1000 ] || fail "the node lived on for $(((ended - failed) / 1000000)) ms"
    # A reply that was under way when the first sync failed may be told a moment later.
    late=$(cat "$dir"/told.* | awk -v after=$((failed + 200000000)) '$2 > after' | wc -l)
    [ "$late" -eq 0 ] || fail "$late writes were acknowledged after the failure"
    grep -q "the log cannot be written, stopping" "$dir/log" || fail "the node does not say why it ends"
    node_start --no-worker --no-archive --partitions 2
    ask -c "SELECT id FROM t ORDER BY id" >"$dir/there"
    cat "$dir"/told.* | awk '{ print $1 }' | sort -n >"$dir/told"
    lost=$(comm -23 <(sort "$dir/told") <(sort "$dir/there") | wc -l)
    [ "$lost" -eq 0 ] || fail "$lost acknowledged rows are not there"
    node_stop
done
echo "3 failed syncs: $(wc -l <"$dir/told") acknowledged rows, all there; the last end took $(((ended - failed) / 1000000)) ms"
