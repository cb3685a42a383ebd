#!/usr/bin/env bash
# Snapshots as an operator meets them: dbosctl snapshot and SELECT dbos_snapshot(), dbos.snapshot, a
# start from one on other numbers of partitions, the log cut off behind it, verify, and what a damaged
# one, a missing one and one of a newer version do.
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"

ask() { psql -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U alice -d dbos "$@"; }
# expect WANTED WHAT COMMAND...: what it prints
expect() {
    local wanted=$1 what=$2 is
    shift 2
    is=$("$@" 2>&1) || true
    [ "$is" = "$wanted" ] || fail "$what: $is, expected $wanted"
}
# says WORDS: the node's log, since the last start
says() { tail -n +"$logged" "$dir/log" | grep -q "$1" || fail "the node does not say '$1'"; }
start() {
    logged=$(($(wc -l <"$dir/log") + 1))
    node_start --no-worker --snapshot-log-bytes 0 "$@"
}
: >"$dir/log"

# Rows of 1 KB without a pattern: 200 of them are some segments of the log.
insert() {
    local i
    for i in $(seq "$1" "$2"); do
        echo "INSERT INTO t VALUES ($i, '$(head -c 700 /dev/urandom | base64 -w 0)');"
    done | ask
}
content() { ask -c "SELECT id, v FROM t ORDER BY id" | md5sum; }

start --partitions 2 --log-segment-bytes 65536
expect "" "no snapshot yet" ask -c "SELECT position FROM dbos.snapshot"
ask -c "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY HASH (id)"
ask -c "CREATE FUNCTION twice(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT \$1 * 2'"
insert 1 100
first=$(ask -c "SELECT dbos_snapshot()")
expect "$first" "dbos.snapshot" ask -c "SELECT position FROM dbos.snapshot"
insert 101 200
ask -c "DELETE FROM t WHERE id <= 10" -c "UPDATE t SET v = 'x' WHERE id = 11"
said=$("$bin/dbosctl" -p "$port" snapshot)
second=$(tail -n 1 <<<"$said" | tr -d ' ')
[ "$second" -gt "$first" ] || fail "the second snapshot is of $second, the first of $first"
insert 201 220
wanted=$(content)

# The log goes as far as the older one allows, once the archive has it.
for _ in $(seq 100); do
    [ -e "$dir/node/log/00000001.seg" ] || break
    third=$(ask -c "SELECT dbos_snapshot()")
    sleep 0.2
done
[ ! -e "$dir/node/log/00000001.seg" ] || fail "the log is not cut off behind two snapshots"
expect 2 "snapshots that are kept" bash -c "ls '$dir'/node/snapshots/*.manifest | wc -l"
expect t "segments that were removed" ask -c "SELECT segments_removed > 0 FROM dbos.snapshot"
expect 220 "insertions in the archive" ask -c "SELECT count(*) FROM prov_history('t') WHERE op = 'insert'"
expect "ERROR:  dbos_snapshot() among several statements in one message is not supported" \
    "a snapshot in a transaction" ask -c "SELECT 1; SELECT dbos_snapshot()"
node_stop

"$bin/dbosctl" verify "$dir/node" >"$dir/said" || fail "verify: $(cat "$dir/said")"
grep -q "^2 snapshots in order; the newest: position ${third:-$second}, [12][0-9][0-9] rows" "$dir/said" ||
    fail "verify says: $(cat "$dir/said")"

for partitions in 3 1 2; do
    start --partitions "$partitions"
    says "loaded the snapshot of position"
    expect "$wanted" "rows on $partitions partitions" content
    expect 42 "a function" ask -c "SELECT twice(21)"
    expect 220 "insertions in the archive" ask -c "SELECT count(*) FROM prov_history('t') WHERE op = 'insert'"
    node_stop
done

# A damaged one is passed over, and said; verify says which file.
newest=$(ls "$dir"/node/snapshots/*.manifest | tail -n 1)
part=${newest%.manifest}-0000.part
cp -r "$dir/node" "$dir/whole"
printf 'X' | dd of="$part" bs=1 seek=500 conv=notrunc status=none
! "$bin/dbosctl" verify "$dir/node" >"$dir/said" || fail "verify sees no damage"
grep -q "CORRUPT: the snapshot is damaged.*$(basename "$part")" "$dir/said" || fail "verify says: $(cat "$dir/said")"
start --partitions 2
says "$(basename "$part").*it is not used"
expect "$wanted" "rows from the snapshot before" content
node_stop

# refused WORDS: the node does not start, says why, and has changed nothing that another start needs.
refused() {
    local status=0
    logged=$(($(wc -l <"$dir/log") + 1))
    timeout 60 "$bin/dbosd" --data-dir "$dir/node" --port 0 --no-worker >"$dir/ready" 2>>"$dir/log" || status=$?
    [ "$status" -ne 0 ] && [ "$status" -ne 124 ] || fail "it ended with status $status"
    says "$1"
}
# Both damaged: the log alone does not reach back.
printf 'X' | dd of="$(ls "$dir"/node/snapshots/*.manifest | head -n 1)" bs=1 seek=50 conv=notrunc status=none
refused "log segment 1 is missing"
rm -rf "$dir/node" && cp -r "$dir/whole" "$dir/node"
rm "$dir"/node/snapshots/*
refused "log segment 1 is missing"
rm -rf "$dir/node" && cp -r "$dir/whole" "$dir/node"
rm "$dir"/node/log/*
refused "no log segment has what follows"
rm -rf "$dir/node" && mv "$dir/whole" "$dir/node"
start --partitions 2
expect "$wanted" "rows of the copy that was whole" content

# A backup of a node that works, and one of a node that has stopped.
(for i in $(seq 1001 1200); do echo "INSERT INTO t VALUES ($i, 'b');"; done | ask) &
writer=$!
said=$("$bin/dbosctl" backup "$dir/node" "$dir/backup") || fail "a backup while it runs: $said"
grep -q "^backup to position [0-9]* in .*, verified: state hash" <<<"$said" || fail "the backup says: $said"
wait "$writer"
"$bin/dbosctl" backup "$dir/node" "$dir/backup" >"$dir/said" 2>&1 && fail "a backup into a directory that is not empty"
grep -q "is not empty" "$dir/said" || fail "not empty: $(cat "$dir/said")"
"$bin/dbosctl" backup "$dir/nothing" "$dir/other" >"$dir/said" 2>&1 && fail "a backup of nothing"
grep -q "is no data directory" "$dir/said" || fail "of nothing: $(cat "$dir/said")"
wanted=$(content)
node_stop
"$bin/dbosctl" backup "$dir/node" "$dir/stopped" >/dev/null || fail "a backup of a stopped node"
rm -rf "$dir/node" && mv "$dir/stopped" "$dir/node"
start --partitions 3
expect "$wanted" "rows of a backup" content
expect t "a provenance question of a backup" ask -c "SELECT count(*) >= 420 FROM prov_history('t') WHERE op = 'insert'"
node_stop
rm -rf "$dir/node" && mv "$dir/backup" "$dir/node"
start --partitions 2
expect t "what was there before the backup" ask -c "SELECT count(*) >= 210 FROM t"
# Of the writer's rows it has those up to some one.
last=$(ask -c "SELECT coalesce(max(id), 1000) FROM t WHERE id > 1000")
expect $((last - 1000)) "rows of the writer" ask -c "SELECT count(*) FROM t WHERE id > 1000"

node_stop
echo "snapshots: $first, $second, ${third:-$second}; damaged ones passed over or refused"
