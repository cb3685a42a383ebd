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
text=$(head -c 3000 /dev/zero | tr '\0' x)

for options in --no-archive ""; do
    # shellcheck disable=SC2086
    node_start --no-worker --partitions 2 --log-segment-bytes 1048576 $options
    node=$pid
    if [ "$acknowledged" = 0 ]; then
        ask -c "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY HASH (id)"
    fi
    insert || fail "an insert into an empty disk: $(cat "$dir/said")"
    dd if=/dev/zero of="$dir/node/filler" bs=64k status=none 2>/dev/null || true
    deadline=$((SECONDS + 60))
    while insert; do
        [ $SECONDS -le $deadline ] || fail "the disk is full, and $acknowledged rows were taken"
    done
    grep -q "ERROR:  53100: the disk is full: this node only reads" "$dir/said" || fail "refused with: $(cat "$dir/said")"
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
    node_start --no-worker --partitions 2 --log-segment-bytes 1048576 --no-archive
    [ "$(ask -c 'SELECT count(*) FROM t')" = "$acknowledged" ] || fail "after a kill: $(ask -c 'SELECT count(*) FROM t')"
    node_stop
done
"$bin/dbosctl" verify "$dir/node" >"$dir/said" || fail "verify: $(cat "$dir/said")"
echo "a full disk: $acknowledged rows acknowledged, all there"
