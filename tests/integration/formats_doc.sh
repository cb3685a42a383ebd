#!/usr/bin/env bash
# docs/formats/log.md, snapshot.md and row.md against the files of a real node: formats_doc.py decodes
# them by the tables of the pages, down to every row, and compares every CRC.
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"
command -v python3 >/dev/null || skip "there is no python3 here"

ask() { psql -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U alice -d dbos "$@"; }

node_start --no-worker --no-archive --partitions 2 --log-segment-bytes 65536 --snapshot-log-bytes 0
ask -c "CREATE TABLE things (id bigint PRIMARY KEY, b text, c int, d text, e smallint, f double precision) PARTITION BY HASH (id)" \
    -c "CREATE INDEX ON things (c)"
ask -c "CREATE TABLE account (id bigint PRIMARY KEY, owner text NOT NULL, balance bigint) PARTITION BY HASH (id)" \
    -c "CREATE PROCEDURE transfer(source bigint, target bigint, amount bigint) LANGUAGE c AS 'transfer.so', 'transfer'" \
    -c "INSERT INTO account VALUES (1, 'ann', 100), (2, 'bob', 50)"
for i in $(seq 1 40); do
    echo "INSERT INTO things VALUES ($i, 'row $i', $((i * 7 - 100)), NULL, $((i % 5)), $i.5);"
done | ask
ask -c "INSERT INTO things VALUES (100, '$(head -c 4000 /dev/urandom | base64 -w 0)', NULL, 'large', 1, 0.25)" \
    -c "INSERT INTO things VALUES (101, '', 2147483647, '$(head -c 3000 /dev/urandom | base64 -w 0)', -1, -1.5)"
for _ in 1 2 3; do
    ask -c "CALL transfer(1, 2, 10)" -c "CALL transfer(2, 1, 100000)" >/dev/null 2>&1 || true # the second one aborts
done
ask -c "UPDATE things SET b = 'changed', c = c + 1 WHERE id % 4 = 0" -c "DELETE FROM things WHERE id = 7" \
    -c "SELECT count(*) FROM things WHERE c BETWEEN 0 AND 50" -c "SELECT b FROM things WHERE id = 7" \
    -c "SELECT b FROM things WHERE id = 8" -c "SELECT dbos_snapshot()" >/dev/null
ask -c "UPDATE things SET d = 'behind the snapshot', e = NULL WHERE id < 10" -c "DELETE FROM things WHERE id = 9" \
    -c "INSERT INTO things VALUES (7, 'again', 1, NULL, NULL, NULL)"
ask -c "SELECT id, b, c, d, e, f FROM things" >"$dir/rows"
node_stop
[ "$(ls "$dir"/node/log/*.seg | wc -l)" -ge 2 ] || fail "it is all in one segment"
python3 tests/integration/formats_doc.py docs/formats "$dir/node" "$dir/rows" || fail "the pages do not describe these files"
