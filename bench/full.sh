#!/usr/bin/env bash
# What make bench FULL=1 measures after all.sh: the cost of recording reads, contention, transactions on several partitions, growth with
# rows and connections, overload, and the archive's lag. Each part runs alone, too:
#   full.sh [long] [reads] [hot] [multi] [rows] [connections] [overload] [lag] [snapshot] [recovery]
# Each run of the load generator is a line of full.jsonl; the table at its end is full.txt, the plots *.svg.
#   REPS=3 SECS=5         runs of each setting (interleaved; the medians count) and their length
#   LONG_S=60 LONG_REPS=1 LONG="32 16;8 128"   of the long runs beside Tarantool's
#   ROWS="10000 …"        sizes of the tables (10^4 to 10^7; one that does not fit into memory is left out)
#   CONNECTIONS="1 …"     numbers of connections (1 to 10,000)
#   OVERLOAD_S=60         length of the overload; OVERLOAD_CONNECTIONS=10000, OVERLOAD_TIMES=10
#   LAG_SECS=600          length of the lag's long run; the others: bench/lag.sh
#   SNAPSHOT_ROWS=4400000 of 500 bytes beside which votes are measured with and without a snapshot (2.2 GB)
#   SNAPSHOT_SECS=20      of each of these runs
#   RECOVERY_VOTES=10000000 in the log that is recovered
#   DURABILITY=sync       PEERS, BIN, OUT: as for all.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export REPS=${REPS:-3} SECS=${SECS:-5}
rows_of="${ROWS:-10000 100000 1000000 10000000}"
connections_of="${CONNECTIONS:-1 10 100 1000 10000}"
overload_s=${OVERLOAD_S:-60}
durability=${DURABILITY:-sync}
peers=${PEERS:-../shared/peers}
bin=${BIN:-$PWD/build/bin}
out=${OUT:-$PWD/bench/results/$(date -u +%Y%m%d-%H%M%S)}
mkdir -p "$out"
results=$out/full.jsonl
work=$(mktemp -d "${TMPDIR:-/tmp}/dbosd-peers-full.XXXXXX")
watcher=
generator=
. bench/node.sh
READY_S=300 # a restart reads the whole log
stop_all() {
    [ -z "$watcher$generator" ] || kill $watcher $generator 2>/dev/null || true
    stop_node
    rm -rf "$work"
}
trap stop_all EXIT
ulimit -n "$(ulimit -Hn)" # for the node, too
files_max=$(ulimit -n)

sql() { psql -qX -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U bench -d dbos "$@" >/dev/null; }

# What one call is. Votes are of 10,000,000 phones, as in all.sh.
vote=(--call 'SELECT vote($1,$2,$3)' --args '2000000000..2009999999 1..6 10')
vote_hot=(--call 'SELECT vote_hot($1,$2,$3)' --args '2000000000..2009999999 1..6 10')

# node_options OPTION...: of the node from here on
node_options() { options=(--data-dir "$work/node" --port 0 --no-worker --durability "$durability" "$@"); }
fresh_node() { start_server dbosd "${options[@]}"; }
again() { # the node, killed and started on what it left
    kill_node
    launch dbosd "${options[@]}"
}

# process_us PID...: processor time so far of processes, and of their children that ended
process_us() {
    local pid sum=0
    for pid in "$@"; do
        sum=$((sum + $(awk -v hz="$(getconf CLK_TCK)" '{sub(/.*\) /, ""); printf "%.0f", ($12 + $13 + $14 + $15) * 1000000 / hz}' \
            "/proc/$pid/stat" 2>/dev/null || echo 0)))
    done
    echo "$sum"
}
# others_us: processor time so far that neither the node nor its archiver nor what this script ran has used.
# What the hypervisor took away is in it: a process counts it as its own.
others_us() {
    local machine
    machine=$(awk -v hz="$(getconf CLK_TCK)" \
        'NR == 1 {printf "%.0f", ($2 + $3 + $4 + $7 + $8 + $9) * 1000000 / hz}' /proc/stat)
    echo $((machine - $(process_us $$ "$node" $(pgrep -P "$node" || true) $generator $watcher)))
}

# load OPTION...: one run of the generator: a line of full.jsonl, and a short one for the reader
load() {
    local node_us others start=$EPOCHREALTIME
    node_us=$(process_us "$node")
    others=$(others_us)
    "$bin/bench_load" --port "$port" --seconds "$SECS" "$@" >"$work/line" 2>>"$out/load.log" || {
        echo "bench_load failed; see $out/load.log" >&2
        exit 1
    }
    others=$(($(others_us) - others))
    bench/full.py keep "$results" "node_cpu_us=$(awk -v us=$(($(process_us "$node") - node_us)) -v n="$(field arrivals)" 'BEGIN {printf "%.1f", us / (1 + n)}')" \
        "others=$(awk -v us="$others" -v from="$start" -v to="$EPOCHREALTIME" -v cores="$(nproc)" \
            'BEGIN {printf "%.3f", us / 1e6 / (to - from) / cores}')" <"$work/line"
}
# field EXPRESSION: of the last line, as Python sees it: field 'tps'
field() { bench/full.py field "$1" <"$work/line"; }

# note NAME=VALUE...: a line of full.jsonl that is no run
note() { bench/full.py note "$@" >>"$results"; }

# agree WHAT A B: a figure whose numbers do not agree is none
agree() {
    if [ "$2" != "$3" ]; then
        note part=fault "what=$1" "is=$2" "wanted=$3"
        echo "$1: $2, but should be $3" >&2
        exit 1
    fi
}
votes_agree() { # $1 = votes that were acknowledged
    check_votes
    agree "votes in the table" "$rows" "$1"
}

# settle: until what a filled table left is done: the kernel's writing, the archiver's work
settle() {
    local archiver before after
    sync
    archiver=$(pgrep -P "$node" dbos-archiver) || return 0
    for _ in $(seq 300); do
        before=$(awk '{print $14 + $15}' "/proc/$archiver/stat")
        sleep 1
        after=$(awk '{print $14 + $15}' "/proc/$archiver/stat")
        [ $((after - before)) -gt 5 ] || return 0
    done
    echo "the archiver does not come to rest" >&2
}

rss_mb() { awk '/^VmRSS/ {printf "%d", $2 / 1024}' "/proc/$node/status"; }

part_hot() {
    local rep partitions call accepted
    for rep in $(seq "$REPS"); do
        for partitions in 1 2 4; do
            for call in vote vote_hot; do
                node_options --partitions "$partitions"
                fresh_node
                local -n spec=$call
                load --tag part=hot --tag "call=$call" --tag "partitions=$partitions" --connections 32 "${spec[@]}"
                accepted=$(field 'sum(c["replies"].get("0", 0) for c in calls)')
                hot_agrees "$call" "$accepted"
                again
                hot_agrees "$call" "$accepted"
                stop_node
            done
        done
    done
    if [ -r "$peers/pg.sh" ] && [ -x /usr/lib/postgresql/15/bin/postgres ]; then
        progress "hot: PostgreSQL"
        QUIET_S=${QUIET_S:-10} RESULTS=$results bash "$peers/pg.sh" hot || echo "PostgreSQL: not measured"
    else
        echo "PostgreSQL or its script ($peers/pg.sh) is not there: not measured"
    fi
}
hot_agrees() {
    votes_agree "$2"
    [ "$1" = vote ] || agree "sum of the totals" "$(ask 'SELECT sum(total) FROM contestants')" "$2"
}

# What recording the reads of a Vote costs: reads off against full.
part_reads() {
    local rep reads
    for rep in $(seq "$REPS"); do
        for reads in relaxed off; do
            node_options --provenance-reads "$reads"
            fresh_node
            load --tag part=reads --tag "reads=$reads" --connections 32 --depth 16 "${vote[@]}"
            votes_agree "$(field 'calls[0]["replies"].get("0", 0)')"
            stop_node
        done
    done
}

# Beside votes, each in one partition: money from one account to another, with all partitions in hand. The
# accounts are drawn at random: at 4 partitions 3 of 4 pairs do lie on two.
part_multi() {
    local rep share shares accepted
    local accounts=100000
    for rep in $(seq "$REPS"); do
        node_options --partitions "${MULTI_PARTITIONS:-4}"
        fresh_node
        sql -f procs/examples/transfer.sql
        sql -c "DELETE FROM account" -c "INSERT INTO account SELECT g, 'owner', 1000000 FROM generate_series(1, $accounts) g"
        load --tag part=warm-up --connections 32 --depth "${MULTI_DEPTH:-16}" "${vote[@]}"
        accepted=$(field 'calls[0]["replies"].get("0", 0)')
        shares="0 1 10 100"
        [ $((rep % 2)) = 1 ] || shares="100 10 1 0" # growth of the tables favours none
        for share in $shares; do
            load --tag part=multi --tag "per_mille=$share" --connections 32 --depth "${MULTI_DEPTH:-16}" \
                "${vote[@]}" --weight $((1000 - share)) \
                --call 'CALL transfer($1,$2,$3)' --args "1..50000 50001..$accounts 1..10" --weight "$share"
            accepted=$((accepted + $(field 'calls[0]["replies"].get("0", 0)')))
        done
        multi_agrees "$accepted" "$accounts"
        again
        multi_agrees "$accepted" "$accounts"
        stop_node
    done
}
multi_agrees() {
    votes_agree "$1"
    agree "money" "$(ask 'SELECT sum(balance) FROM account')" $(($2 * 1000000))
}

# fill TABLE FIRST LAST VALUES: rows by the hundred thousand
fill() {
    local from to
    for ((from = $2; from <= $3; from += 100000)); do
        to=$((from + 99999 < $3 ? from + 99999 : $3))
        echo "INSERT INTO $1 SELECT $4 FROM generate_series($from, $to) g;"
    done | sql -f -
}

# seal: what has been written is in segments that are sealed: the log has gone on to the next one. Nothing
# else does that at the end of a run, so that filling the last one is in the time, too.
seal() {
    local segments from=1
    segments=$(ask 'SELECT segments FROM dbos.log')
    while [ "$(ask 'SELECT segments FROM dbos.log')" -le "$segments" ]; do
        ask "INSERT INTO filler SELECT g, repeat('x', 1000) FROM generate_series($from, $((from + 7999))) g" >/dev/null
        from=$((from + 8000))
    done
}

# Long runs, and their throughput until what they wrote lies in sealed segments. vload, as for the peers.
part_long() {
    local rep setting settings vload start ended sealed accepted
    if [ ! -r "$peers/lib.sh" ]; then
        echo "no peers in $peers (set PEERS): long runs are not measured"
        return 0
    fi
    vload=$(set +eu; . "$peers/lib.sh" >&2; echo "$P/bin/vload")
    IFS=';' read -ra settings <<<"${LONG:-32 16;8 128}"
    for rep in $(seq "${LONG_REPS:-1}"); do
        for setting in "${settings[@]}"; do
            set -- $setting
            node_options
            fresh_node
            sql -c 'CREATE TABLE filler (id bigint PRIMARY KEY, t text) PARTITION BY HASH (id)'
            start=$EPOCHREALTIME
            "$vload" -t pg -p "$port" -u bench -d dbos -c "$1" -P "$2" -s "${LONG_S:-60}" -w 0 -f vote >"$work/line"
            ended=$EPOCHREALTIME
            seal
            sealed=$EPOCHREALTIME
            ask 'SELECT count(*) FROM prov.session' >/dev/null # it waits until the archiver has everything
            bench/full.py long "$results" "start=$start" "ended=$ended" "sealed=$sealed" "archived=$EPOCHREALTIME" \
                "durability=$durability" "rss_mb=$(rss_mb)" <"$work/line"
            check_votes
            accepted=$(field 'accepted')
            # vload leaves when its time is over, without what is under way then
            [ "$rows" -ge "$accepted" ] && [ "$rows" -le $((accepted + 2 * $1 * $2)) ] ||
                agree "votes in the table" "$rows" "$accepted (and up to $((2 * $1 * $2)) unanswered)"
            accepted=$rows
            again
            votes_agree "$accepted"
            stop_node
            long_tarantool "$setting"
        done
    done
}
# long_tarantool SETTING: the same beside it, so that both have the same minutes of the machine
long_tarantool() {
    if command -v tarantool >/dev/null; then
        progress "long: Tarantool"
        COMBOS=$1 REPS=1 SECS=${LONG_S:-60} CALM=1 QUIET_S=${QUIET_S:-10} RESULTS=$results \
            bash "$peers/tarantool.sh" "$([ "$durability" = sync ] && echo fsync || echo write)" || echo "Tarantool: not measured"
    else
        echo "Tarantool is not installed: not measured"
    fi
}

# Reads, votes, and inserts with as many deletions, so that the table keeps its size.
part_rows() {
    local size rep setting start available_kb inserted deleted
    for size in $rows_of; do
        available_kb=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo)
        if [ $((size * ${BYTES_PER_ROW:-500} / 1024)) -gt "$available_kb" ]; then
            echo "rows: $size do not fit into the $((available_kb / 1024)) MB that are free: skipped"
            note part=rows "rows=$size" skipped=memory
            continue
        fi
        node_options
        fresh_node
        start=$SECONDS
        sql -c 'CREATE TABLE kv (k bigint PRIMARY KEY, v bigint NOT NULL) PARTITION BY HASH (k)'
        fill kv 1 "$size" 'g, 0'
        fill phone_votes 2000000001 $((2000000000 + size)) 'g, 0'
        note part=rows-filled "rows=$size" "seconds=$((SECONDS - start))" "rss_mb=$(rss_mb)"
        settle
        echo "rows: two tables of $size rows, filled in $((SECONDS - start)) s with the archive, $(rss_mb) MB"
        inserted=0 deleted=0
        for rep in $(seq "$REPS"); do
            for setting in "1 1" "32 16"; do
                set -- $setting
                set -- --tag part=rows --tag "rows=$size" --connections "$1" --depth "$2"
                load "$@" --tag call=read --call 'SELECT v FROM kv WHERE k = $1' --args "$((1 + deleted))..$((size + inserted))"
                load "$@" --tag call=vote --call 'SELECT vote($1,$2,$3)' \
                    --args "2000000001..$((2000000000 + size)) 1..6 1000000000"
                load "$@" --tag call=insert+delete \
                    --call 'INSERT INTO kv VALUES ($1, 0)' --args "seq:$((size + 1 + inserted))" \
                    --call 'DELETE FROM kv WHERE k = $1' --args "seq:$((1 + deleted))"
                inserted=$((inserted + $(field 'calls[0]["rows"]')))
                deleted=$((deleted + $(field 'calls[1]["rows"]')))
            done
        done
        check_votes
        agree "rows of kv" "$(ask 'SELECT count(*) FROM kv')" $((size + inserted - deleted))
        stop_node
    done
}

part_connections() {
    local rep connections
    for rep in $(seq "$REPS"); do
        node_options --connections-max 10100
        fresh_node
        for connections in $connections_of; do
            if [ "$connections" -gt $((files_max - 200)) ]; then
                echo "connections: $connections need more than the $files_max open files that are allowed: skipped"
                continue
            fi
            load --tag part=connections --connections "$connections" "${vote[@]}"
            note part=connections-memory "connections=$connections" "rss_mb=$(rss_mb)"
        done
        check_votes
        stop_node
    done
}

# Memory of the node every half a second, with what the load is then.
watch_memory() {
    local start=$EPOCHREALTIME
    while kill -0 "$node" 2>/dev/null; do
        note part=overload-memory "at=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.1f", b - a}')" \
            "rss_mb=$(rss_mb)" "phase=$(cat "$work/phase")" || true
        sleep 0.5
    done
}

# Updates of 100,000 rows: nothing grows by them, so that memory that grows is the overload's.
part_overload() {
    local connections=${OVERLOAD_CONNECTIONS:-10000} rate sum least
    local update=(--call 'UPDATE counter SET n = n + 1 WHERE id = $1' --args '1..100000')
    [ "$connections" -le $((files_max - 200)) ] || connections=$((files_max - 200))
    node_options --connections-max $((connections + 100))
    fresh_node
    sql -c 'CREATE TABLE counter (id bigint PRIMARY KEY, n bigint NOT NULL) PARTITION BY HASH (id)'
    fill counter 1 100000 'g, 0'
    settle
    echo before >"$work/phase"
    watch_memory &
    watcher=$!
    SECS=${OVERLOAD_CALM_S:-15} load --tag part=overload --tag phase=before --series --connections 32 --depth 16 "${update[@]}"
    rate=$(field "int(tps * ${OVERLOAD_TIMES:-10})")
    least=$(field 'ok')
    echo "overload: $rate updates/s over $connections connections for $overload_s s"
    echo overload >"$work/phase"
    "$bin/bench_load" --port "$port" --tag part=overload --tag phase=overload --series --seconds "$overload_s" \
        --warmup 0 --drain 30 --connections "$connections" --rate "$rate" "${update[@]}" \
        >"$work/overload" 2>"$work/overload.log" &
    generator=$!
    until grep -q 'load ends' "$work/overload.log"; do
        kill -0 "$generator" || { cat "$work/overload.log" >&2; exit 1; }
        sleep 0.05
    done
    echo after >"$work/phase"
    SECS=20 load --tag part=overload --tag phase=after --series --warmup 0 --connections 32 --depth 16 "${update[@]}"
    least=$((least + $(field 'ok')))
    wait "$generator"
    generator=
    cat "$work/overload.log" >>"$out/load.log"
    cp "$work/overload" "$work/line"
    bench/full.py keep "$results" <"$work/line"
    least=$((least + $(field 'ok')))
    sleep 5
    kill "$watcher"
    watcher=
    sum=$(ask 'SELECT sum(n) FROM counter')
    # What was acknowledged is there; what was not answered may be.
    [ "$sum" -ge "$least" ] && [ "$sum" -le $((least + $(field 'unanswered'))) ] ||
        agree "sum of the counters" "$sum" "$least (and up to $(field 'unanswered') unanswered)"
    again
    agree "sum of the counters after a kill" "$(ask 'SELECT sum(n) FROM counter')" "$sum"
    stop_node
}

# since START: seconds
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.3f", b - a}'; }
rss_mb() { awk '/^VmRSS/ {printf "%d", $2 / 1024}' "/proc/$node/status"; }
# waits TAG: of requests for a partition, from their submission until they begin, since the node started
waits() {
    ask "SELECT name, to_us, count FROM dbos.histogram ORDER BY name, to_us" |
        bench/full.py waits part=snapshot-waits "phase=$1" >>"$results"
}

# What a snapshot of 2 GB costs those who vote meanwhile: the same load without and with one.
part_snapshot() {
    local rows=${SNAPSHOT_ROWS:-4400000} secs=${SNAPSHOT_SECS:-20} rep depth start taken
    node_options --snapshot-log-bytes 0
    fresh_node
    sql -c 'CREATE TABLE wide (id bigint PRIMARY KEY, pad text) PARTITION BY HASH (id)'
    fill wide 1 "$rows" "g, '$(head -c 480 /dev/zero | tr '\0' x)'"
    settle
    for rep in $(seq "$REPS"); do
        for depth in 1 16; do
            waits before
            SECS=$secs load --tag part=snapshot --tag phase=without --tag "rep=$rep" --connections 32 --depth "$depth" "${vote[@]}"
            note part=snapshot-rss phase=without "rep=$rep" "depth=$depth" "rss_mb=$(rss_mb)"
            waits without
            (
                sleep 2
                start=$EPOCHREALTIME
                ask 'SELECT dbos_snapshot()' >/dev/null
                note part=snapshot-took "rep=$rep" "depth=$depth" "seconds=$(since "$start")" \
                    "bytes=$(ask 'SELECT bytes FROM dbos.snapshot')" "rows=$(ask 'SELECT rows FROM dbos.snapshot')"
            ) &
            taken=$!
            SECS=$secs load --tag part=snapshot --tag phase=with --tag "rep=$rep" --connections 32 --depth "$depth" "${vote[@]}"
            note part=snapshot-rss phase=with "rep=$rep" "depth=$depth" "rss_mb=$(rss_mb)"
            wait "$taken"
            waits with
        done
    done
    timed_start from-snapshot partitions=1
    stop_node
}

# timed_start WHAT FIELD...: the node killed and started again; how long until it is ready
timed_start() {
    local what=$1 start
    shift
    kill_node
    start=$EPOCHREALTIME
    launch dbosd "${options[@]}"
    note part=restart "what=$what" "seconds=$(since "$start")" "votes=$(ask 'SELECT count(*) FROM votes')" "$@"
}

# How long a start takes with all of a log to read, and with a snapshot of the same.
part_recovery() {
    local wanted=${RECOVERY_VOTES:-10000000} partitions votes rep
    for partitions in 1 2; do
        node_options --no-archive --snapshot-log-bytes 0 --partitions "$partitions" --durability async
        fresh_node
        votes=0
        while [ "$votes" -lt "$wanted" ]; do
            SECS=10 load --tag part=recovery-fill --connections 32 --depth 16 "${vote[@]}"
            votes=$(ask 'SELECT count(*) FROM votes')
        done
        for rep in $(seq "$REPS"); do timed_start log "partitions=$partitions" "rep=$rep"; done
        ask 'SELECT dbos_snapshot()' >/dev/null
        for rep in $(seq "$REPS"); do timed_start snapshot "partitions=$partitions" "rep=$rep"; done
        check_votes
        stop_node
    done
}

# How fast the archive can follow, and what happens when it can not.
part_lag() { LAG_SECS=${LAG_SECS:-600} BIN=$bin OUT=$out RESULTS=$results bench/lag.sh; }

for part in ${*:-long reads hot multi rows connections overload lag snapshot recovery}; do
    progress "$part"
    "part_$part"
done
progress "summary"
bench/full.py summary "$results" | tee "$out/full.txt"
bench/plot.py "$out"
echo "raw output: ${out#"$PWD"/}"
