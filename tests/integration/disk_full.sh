#!/usr/bin/env bash
# A data directory on a disk that fills up: writes are refused with 53100 and leave nothing, reads go
# on, and when there is room again writes do, too, in the same process. Nothing acknowledged is lost.
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"
mkdir "$dir/node"
mount -t tmpfs -o size=32m,mode=0700 tmpfs "$dir/node" 2>/dev/null || skip "a small file system can not be mounted here"
unmount() {
    local status=$?
    umount -l "$dir/node" 2>/dev/null || true
    (exit "$status") || true
    set -- "$status"
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    pid=
    (exit "$1")
    finish
}
trap unmount EXIT

ask() { psql -X -q -At -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -h 127.0.0.1 -p "$port" -U alice -d dbos "$@" 2>&1; }
acknowledged=0
insert() {
    ask -c "INSERT INTO t VALUES ($((acknowledged + 1)), '$text')" >"$dir/said" || return 1
    acknowledged=$((acknowledged + 1))
}
fill() { dd if=/dev/zero of="$dir/node/filler" bs=64k status=none 2>/dev/null || true; }
until_refused() {
    local deadline=$((SECONDS + 60))
    while insert; do
        [ $SECONDS -le $deadline ] || fail "the disk is full, and $acknowledged rows were taken"
    done
    grep -q "ERROR:  53100: the disk is full: this node only reads" "$dir/said" || fail "refused with: $(cat "$dir/said")"
}
counted() { # what was acknowledged is there
    node_start --no-worker --partitions 2 --log-segment-bytes 1048576 --no-archive
    [ "$(ask -c 'SELECT count(*) FROM t')" = "$acknowledged" ] || fail "after a start: $(ask -c 'SELECT count(*) FROM t')"
    node_stop
}
text=$(head -c 3000 /dev/zero | tr '\0' x)

for options in --no-archive ""; do
    # shellcheck disable=SC2086
    node_start --no-worker --partitions 2 --log-segment-bytes 1048576 $options
    node=$pid
    if [ "$acknowledged" = 0 ]; then
        ask -c "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY HASH (id)"
        ask -c "CREATE TABLE keys (k text PRIMARY KEY) PARTITION BY HASH (k)"
    fi
    insert || fail "an insert into an empty disk: $(cat "$dir/said")"
    fill
    until_refused
    for _ in 1 2 3; do
        [ "$(ask -c 'SELECT count(*) FROM t')" = "$acknowledged" ] || fail "a read: $(ask -c 'SELECT count(*) FROM t')"
    done
    [ "$(ask -c 'SELECT is_disk_full FROM dbos.log')" = t ] || fail "dbos.log does not say that the disk is full"
    ! insert || fail "an insert was taken on a full disk"
    ! ask -c "CREATE TABLE u (a int PRIMARY KEY)" >"$dir/said" || fail "a table was made on a full disk"

    rm "$dir/node/filler"
    deadline=$((SECONDS + 20))
    until insert; do
        [ $SECONDS -le $deadline ] || fail "there is room again: $(cat "$dir/said")"
        sleep 0.2
    done
    [ "$(ask -c 'SELECT is_disk_full FROM dbos.log')" = f ] || fail "dbos.log says that the disk is still full"
    kill -0 "$node" || fail "it is another process"
    kill -KILL "$pid"
    wait "$pid" || true
    pid=
    counted
done

# A snapshot finds no room: an error, nothing left behind, and the node goes on.
node_start --no-worker --partitions 2 --log-segment-bytes 1048576
fill
ask -c "SELECT dbos_snapshot()" >"$dir/said" && fail "a snapshot was taken on a full disk"
grep -q "53100" "$dir/said" || fail "a snapshot on a full disk: $(cat "$dir/said")"
! ls "$dir"/node/snapshots/* >/dev/null 2>&1 || fail "a snapshot that failed has left files: $(ls "$dir"/node/snapshots)"
until_refused
# Who stops it now stops it in order: what was acknowledged is written.
node_stop
rm "$dir/node/filler"
counted

# The records of reads use up what is left, too. Reads go on; a question about them ends with its timeout;
# stopping ends the process with status 74, and only what was never acknowledged is missing.
node_start --no-worker --partitions 2 --log-segment-bytes 1048576
fill
until_refused
seq 2000 | sed "s/.*/SELECT k FROM keys WHERE k = '&$text';/" | ask >/dev/null
[ "$(ask -c 'SELECT durable_position < last_position FROM dbos.log')" = t ] || fail "the log has room left after all"
[ "$(ask -c 'SELECT count(*) FROM t')" = "$acknowledged" ] || fail "a read while the log waits"
ask -c "SET statement_timeout = '2s'" -c "SELECT count(*) FROM prov.txn" >"$dir/said" && fail "a question was answered"
grep -q "57014" "$dir/said" || fail "a question while the log waits: $(cat "$dir/said")"
status=0
kill -TERM "$pid"
wait "$pid" || status=$?
pid=
[ "$status" -eq 74 ] || fail "stopped while the log waits: status $status"
rm "$dir/node/filler"
counted
"$bin/dbosctl" verify "$dir/node" >"$dir/said" || fail "verify: $(cat "$dir/said")"
echo "a full disk: $acknowledged rows acknowledged, all there"
