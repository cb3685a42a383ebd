#!/bin/bash
# The profile that the release build is optimized by (docs/adr/0009-profile.md): builds the node so
# that it counts what it does, has it do some of everything for about twenty seconds, and leaves the
# counts in build/profile/<time>. Prints that folder's name, or nothing where there is no profile; why
# that is so, and that one is older than a source, it says on standard error.
#   profile.sh          makes one where there is none
#   profile.sh --fresh  makes one, too, where a source is newer than it; fails where that fails
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
profiles=$PWD/build/profile
fresh=$([ "${1:-}" = --fresh ] && echo yes || echo no)
sources=(base storage provenance txn procs engine gpu tools cmake CMakeLists.txt)

newest() { find "$profiles" -mindepth 1 -maxdepth 1 -name "2*" -type d | sort | tail -n 1; }
is_stale() { [ -n "$(find "${sources[@]}" -newer "$1" \( -name '*.[ch]' -o -name '*.cmake' \) -print -quit)" ]; }

mkdir -p "$profiles"
profile=$(newest)
if [ -n "$profile" ]; then
    stale=$(is_stale "$profile" && echo yes || echo no)
    if [ "$fresh" = no ] || [ "$stale" = no ]; then
        [ "$stale" = no ] ||
            echo "profile: older than a source; a function that has changed since is optimized without (scripts/profile.sh --fresh)" >&2
        echo "$profile"
        exit
    fi
fi
case $("${CC:-cc}" --version 2>/dev/null) in
*"Free Software Foundation"*) ;;
*)
    echo "profile: ${CC:-cc} is not gcc: the programs are built without" >&2
    exit
    ;;
esac

out=$profiles/log
bin=$PWD/build/counting/bin
counts=$profiles/counts
mkdir -p "$out"
rm -rf "$counts"
work=$(mktemp -d "${TMPDIR:-/tmp}/dbosd-profile.XXXXXX")
. bench/node.sh
leave() {
    local status=$?
    stop_node
    rm -rf "$work"
    if [ "$status" -ne 0 ]; then
        echo "profile: could not be made (see $out): the programs are built without, and slower for it"
        [ "$fresh" = yes ] || exit 0
    fi
}
trap leave EXIT
exec 3>&1 1>&2 # what is printed belongs to who reads the messages

echo "profile: building the programs that count"
{
    cmake --preset release -B build/counting -DDBOS_TESTS=OFF -DDBOS_PROFILE_TO="$counts" &&
        cmake --build build/counting --target tools/all bench_load -j "$(nproc)"
} >"$out/build.log" 2>&1 || { tail -n 20 "$out/build.log"; exit 1; }

sql() { psql -qX -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U bench -d dbos "$@" >/dev/null; }
load() { "$bin/bench_load" --port "$port" --seconds 1 --warmup 0 "$@" >>"$out/load.jsonl" 2>"$out/load.log" ||
    { cat "$out/load.log"; exit 1; }; }
vote=(--call 'SELECT vote($1,$2,$3)' --args '2000000000..2009999999 1..6 10')
rows=(--call 'SELECT v FROM kv WHERE k = $1' --args '1..20000' --weight 80
    --call 'UPDATE kv SET v = v + 1 WHERE k = $1' --args '1..20000' --weight 40
    --call 'INSERT INTO kv VALUES ($1, $2, $3)' --args 'seq:20001 1..9 text' --weight 40
    --call 'DELETE FROM kv WHERE k = $1' --args 'seq:20001' --weight 20
    --call 'CALL transfer($1, $2, $3)' --args '1..500 501..1000 1..10' --weight 19
    --call 'SELECT k, t FROM kv WHERE v BETWEEN $1 AND $2 ORDER BY k LIMIT 20' --args '0..49 50..52')

# training PARTITIONS DURABILITY
training() {
    echo "profile: $1 partitions, $2"
    start_server dbosd --data-dir "$work/node" --port 0 --no-worker --partitions "$1" --durability "$2"
    sql -c 'CREATE TABLE kv (k bigint PRIMARY KEY, v bigint NOT NULL, t text) PARTITION BY HASH (k)' \
        -c 'CREATE INDEX kv_v ON kv (v)' \
        -c "INSERT INTO kv SELECT g, g % 100, 'text ' || g FROM generate_series(1, 20000) g"
    sql -f procs/examples/transfer.sql
    sql -c "INSERT INTO account SELECT g, 'owner', 1000000 FROM generate_series(3, 1000) g"
    for setting in "1 1" "32 1" "32 16"; do
        set -- $setting
        load --connections "$1" --depth "$2" "${vote[@]}"
        load --connections "$1" --depth "$2" --call 'SELECT vote_hot($1,$2,$3)' --args '2000000000..2009999999 1..6 10'
        load --connections "$1" --depth "$2" "${rows[@]}"
    done
    sql -c "SELECT t, count(*), sum(v) FROM kv WHERE v > 50 GROUP BY t ORDER BY 2 DESC, 1 LIMIT 10"
    sql -c "SET statement_timeout = '60s'" -c "SELECT count(*) FROM prov.event" \
        -c "SELECT * FROM prov_last_writer('kv')"
    stop_node # not killed: it leaves its counts when it ends
    launch dbosd --data-dir "$work/node" --port 0 --no-worker --durability sync # it reads its log
    # Every kind of statement once; its errors are part of it.
    psql -qX -h 127.0.0.1 -p "$port" -U bench -d dbos -f docs/psql-session.sql >/dev/null 2>&1 || true
    stop_node
}
training 1 sync
training 2 async

[ -n "$(find "$counts" -name '*.gcda' -print -quit)" ] || { echo "profile: nothing was counted"; exit 1; }
rm -rf "$profiles"/2*
profile=$profiles/$(date -u +%Y%m%d-%H%M%S)
mv "$counts" "$profile"
echo "profile: made in $SECONDS s"
echo "$profile" >&3
