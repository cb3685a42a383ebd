#!/usr/bin/env bash
# One bit at a time of a real data directory is another one: in the log, in its last acknowledged batch,
# in large values, snapshots and the archive. Each is noticed; verify names the file; a start refuses it or
# serves what is whole, and then every row and every answer is the one that was acknowledged.
#   flips.sh BIN [FLIPS]      so many of them, a tenth in the last batch, each twentieth with a start
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"
flips=${2:-200}
repeat="$0 $bin $flips"

ask() { psql -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U alice -d dbos "$@"; }
content() { ask -c "SELECT id, v FROM t ORDER BY id" | md5sum; }
history() { ask -c "SET statement_timeout = '3s'" -c "SELECT count(*), md5(string_agg(v, '' ORDER BY position)) FROM prov_history('t')" 2>&1; }
start() { node_start --no-worker --partitions 2 --log-segment-bytes 65536 --snapshot-log-bytes 0 "$@"; }

start
ask -c "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY HASH (id)"
for i in $(seq 150); do
    echo "INSERT INTO t VALUES ($i, '$(head -c 900 /dev/urandom | base64 -w 0)');"
done | ask
for i in 201 202 203; do
    echo "INSERT INTO t VALUES ($i, '$(head -c 6000 /dev/urandom | base64 -w 0)');"
done | ask
ask -c "SELECT dbos_snapshot()" >/dev/null
for i in $(seq 301 350); do
    echo "INSERT INTO t VALUES ($i, '$(head -c 900 /dev/urandom | base64 -w 0)');"
done | ask
ask -c "SELECT dbos_snapshot()" >/dev/null
ask -c "SELECT count(*) FROM prov_history('t')" >/dev/null # the archive has caught up
ask -c "INSERT INTO t VALUES (999, '$(head -c 2200 /dev/urandom | base64 -w 0)')"
wanted=$(content)
wanted_history=$(history)
kill -KILL "$pid" # so that nothing is written behind it
wait "$pid" || true
pid=
whole="$dir/whole"
mv "$dir/node" "$whole"
"$bin/dbosctl" verify "$whole" >"$dir/said" || fail "verify of what is whole: $(cat "$dir/said")"
[ -n "$(find "$whole/archive" -name '*.parquet')" ] || fail "nothing was exported"

last_byte() { { cmp -l "$1" /dev/zero 2>/dev/null || true; } | tail -n 1 | awk '{ print $1 }'; }
flip() { # FILE OFFSET BIT
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    printf "\\x$(printf %02x $((byte ^ (1 << $3))))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
RANDOM=20261122
random() { echo $(((RANDOM * 32768 + RANDOM) % $1)); }

newest=$(ls "$whole"/log/*.seg | while read -r file; do [ -z "$(last_byte "$file")" ] || echo "$file"; done | tail -n 1)
end=$(last_byte "$newest")
mapfile -t files < <(find "$whole/log" "$whole/blobs" "$whole/snapshots" "$whole/archive" -type f | grep -E '\.(seg|blob|part|manifest|parquet|jsonl)$' | sort)
declare -A live
for file in "${files[@]}"; do
    live[$file]=$(last_byte "$file")
done

tried=0 in_batch=0 noticed=0 refused=0 served=0
for ((i = 0; i < flips; i++)); do
    if [ $((i % 10)) -eq 0 ]; then # 2,900 characters are the last batch's payload: six sectors
        file=$newest
        at=$((end - 1 - $(random 2900)))
        in_batch=$((in_batch + 1))
    else
        file=${files[$(random ${#files[@]})]}
        [ -n "${live[$file]}" ] || continue
        at=$(random "${live[$file]}")
        # Between two large values lie zeroes that belong to none of them; the values here are text.
        [[ $file != *.blob ]] || [ "$(od -An -tu1 -j "$at" -N 1 "$file" | tr -d ' ')" != 0 ] || continue
    fi
    bit=$(random 8)
    tried=$((tried + 1))
    flip "$file" "$at" "$bit"
    status=0
    "$bin/dbosctl" verify "$whole" >"$dir/said" 2>&1 || status=$?
    if [ "$status" -eq 1 ] && grep -q "^CORRUPT\|^UNKNOWN FORMAT\|^dbosctl: .*version" "$dir/said"; then
        noticed=$((noticed + 1))
    elif grep -q "^torn" "$dir/said"; then
        fail "bit $bit of byte $at of $file is taken for a torn end: $(cat "$dir/said")"
    elif [[ $file == *.jsonl ]]; then
        : # the archive's last line may be one that was being written: the log has it
    else
        fail "bit $bit of byte $at of $file: verify ends with $status: $(cat "$dir/said")"
    fi
    if [ $((i % 20)) -lt 2 ]; then
        rm -rf "$dir/node"
        cp -r --sparse=always "$whole" "$dir/node"
        : >"$dir/ready"
        "$bin/dbosd" --data-dir "$dir/node" --port 0 --no-worker --partitions 2 >"$dir/ready" 2>"$dir/log" &
        pid=$!
        until grep -q ready "$dir/ready" || ! kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
        if grep -q ready "$dir/ready"; then
            port=$(sed -n 's/.*ready.*port=\([0-9]*\).*/\1/p' "$dir/ready")
            [ "$(content)" = "$wanted" ] || fail "bit $bit of byte $at of $file: other rows are served"
            answer=$(history) || true
            [ "$answer" = "$wanted_history" ] || [[ $answer == *ERROR* ]] || fail "bit $bit of byte $at of $file: another history: $answer"
            served=$((served + 1))
            kill -KILL "$pid"
        else
            grep -q "damaged\|corrupt\|missing\|version\|contradict\|fit" "$dir/log" || fail "it does not start, and does not say why: $(cat "$dir/log")"
            refused=$((refused + 1))
        fi
        wait "$pid" 2>/dev/null || true
        pid=
    fi
    flip "$file" "$at" "$bit"
done
"$bin/dbosctl" verify "$whole" >"$dir/said" || fail "not as it was: $(cat "$dir/said")"
echo "$tried bits, $in_batch of them in the last acknowledged batch: verify names $noticed; $refused starts refused, $served served what is whole"
