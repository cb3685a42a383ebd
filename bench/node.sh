# The node that the benchmarks' scripts start, and scripts/profile.sh; sourced by them. It lies in $work, its programs in $bin, its
# messages go to $out. $node is its process, $port where it listens.
node=
port=

stop_node() {
    [ -z "$node" ] || { kill -TERM "$node" 2>/dev/null || true; wait "$node" 2>/dev/null || true; }
    node=
}

# kill_node: without a chance to write anything
kill_node() {
    kill -KILL "$node"
    wait "$node" 2>/dev/null || true
    node=
}

# launch PROGRAM ARGUMENT...: a server; sets $node and $port. An argument lies in $work, so that the
# peers' helpers know it. READY_S: how long it may take.
launch() {
    local program=$1 deadline=$((SECONDS + ${READY_S:-30}))
    shift
    rm -f "$work/ready"
    "$bin/$program" "$@" >"$work/ready" 2>>"$out/$program.log" &
    node=$!
    port=
    while [ $SECONDS -le $deadline ] && kill -0 "$node" 2>/dev/null; do
        port=$(sed -n 's/.*ready.*port=\([0-9]*\).*/\1/p' "$work/ready" 2>/dev/null || true)
        [ -z "$port" ] || return 0
        sleep 0.1
    done
    echo "$program did not start; see $out/$program.log" >&2
    exit 1
}

# start_server PROGRAM ARGUMENT...: launch it in an empty $work/node, with the Vote schema
start_server() {
    rm -rf "$work/node"
    launch "$@"
    psql -qX -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U bench -d dbos -f procs/examples/vote.sql
}

# ask QUERY: its answer; counting ten million rows may take longer than a statement's usual 5 s
ask() {
    psql -qXAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U bench -d dbos \
        -c "SET statement_timeout = '600s'" -c "$1"
}

# Every accepted vote is a row and a count; sets $rows.
check_votes() {
    local counts
    rows=$(ask 'SELECT count(*) FROM votes')
    counts=$(ask 'SELECT coalesce(sum(n), 0) FROM phone_votes')
    [ "$rows" = "$counts" ] || { echo "votes $rows, counts $counts: they differ" >&2; exit 1; }
}

progress() { echo "== $1 (${SECONDS} s since the start)"; }
