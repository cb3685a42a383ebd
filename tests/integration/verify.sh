#!/usr/bin/env bash
# What dbosctl verify says of a data directory that is whole, in use, torn, damaged, or none; and that
# it changes nothing.
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"

copy="$dir/copy"
fresh_copy() {
    rm -rf "$copy"
    cp -r --sparse=always "$dir/node" "$copy"
}
digest() {
    (cd "$1" && find . -type f | sort | xargs md5sum | md5sum)
}
# expect STATUS WORDS [DIRECTORY]: what verify says of the directory (of the copy).
expect() {
    local status=0 before after
    local of=${3:-$copy}
    [ ! -d "$of" ] || before=$(digest "$of")
    "$bin/dbosctl" verify "$of" >"$dir/said" 2>&1 || status=$?
    grep -qE "$2" "$dir/said" || fail "expected '$2', verify says: $(cat "$dir/said")"
    [ "$status" -eq "$1" ] || fail "verify ended with $status instead of $1: $(cat "$dir/said")"
    [ -d "$of" ] || return 0
    after=$(digest "$of")
    [ "$before" = "$after" ] || fail "verify has changed $of"
}
# last FILE: offset of its last byte that is not zero.
last() {
    { cmp -l "$1" /dev/zero 2>/dev/null || true; } | tail -n 1 | awk '{ print $1 - 1 }'
}
# flip FILE OFFSET: another byte in its place.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    printf "\\x$(printf %02x $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
zero_sector() {
    dd if=/dev/zero of="$1" bs=512 seek="$2" count=1 conv=notrunc status=none
}

sql() {
    psql -q -X -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U alice -d dbos >/dev/null
}

node_start --no-archive --no-worker
sql <<'SQL'
CREATE TABLE t (k bigint PRIMARY KEY, v text) PARTITION BY HASH (k);
INSERT INTO t VALUES (1, 'one'), (2, 'two');
UPDATE t SET v = 'three' WHERE k = 2;
SQL
for i in 3 4 5; do
    value=$(head -c 4000 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
    echo "INSERT INTO t VALUES ($i, '$value');" | sql
done
echo "INSERT INTO t VALUES (9, '$(head -c 2000 /dev/urandom | base64 -w 0)');" | sql

expect 1 "in use by another process" "$dir/node"
node_stop
expect 0 "^in order: .* proved; 3 large values of 24000 bytes" "$dir/node"
expect 1 "dbosctl: " "$dir/nothing"
mkdir "$dir/empty"
expect 1 "not a data directory" "$dir/empty"

segment="$copy/log/00000001.seg"
blobs="$copy/blobs/00000001.blob"
fresh_copy
rm "$copy/lock" # a copy need not have it
expect 0 "^in order"
end=$(last "$segment")

zero_sector "$segment" $((end / 512))
expect 0 "torn end of the log: [0-9]+ bytes"
expect 0 "^in order"

fresh_copy
flip "$segment" "$end"
expect 1 "^CORRUPT: .*00000001.seg is damaged at offset"
expect 1 "^NOT in order"
fresh_copy
flip "$segment" $((end - 1500))
expect 1 "^CORRUPT: .*00000001.seg is damaged at offset"
fresh_copy
flip "$segment" 4200
expect 1 "^CORRUPT: .*00000001.seg is damaged at offset"
fresh_copy
zero_sector "$segment" 8
expect 1 "^CORRUPT: .*synced is gone"

for offset in 10 70 5000 8300 16800 20000; do
    fresh_copy
    flip "$blobs" "$offset"
    expect 1 "^CORRUPT: "
done
fresh_copy
head -c 700 "$blobs" >"$copy/torn" # a header, and not all of its value
cat "$copy/torn" >>"$blobs"
expect 0 "torn end of the large values: 700 bytes"
fresh_copy
head -c 700 /dev/urandom >>"$blobs" # no write that was cut short leaves that
expect 1 "^CORRUPT: .*a large value in .* is damaged"
fresh_copy
rm "$copy/identity"
expect 1 "^CORRUPT: .*no identity"
echo "verify: whole, in use, torn, damaged, none"
