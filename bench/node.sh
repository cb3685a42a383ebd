# The node that the benchmarks' scripts start; sourced by them. It lies in $work, its programs in $bin, its
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

# run_server PROGRAM ARGUMENT...: on the data that $work/node has
run_server() {
    local program=$1
    shift
    rm -f "$work/ready"
    "$bin/$program" "$@" >"$work/ready" 2>>"$out/$program.log" &
    node=$!
    port=
    for _ in $(seq "${READY_S:-30}0"); do
        port=$(sed -n 's/.*ready.*port=\([0-9]*\).*/\1/p' "$work/ready" 2>/dev/null || true)
        [ -n "$port" ] && return
        kill -0 "$node" 2>/dev/null || break
        sleep 0.1
    done
    echo "$program did not start; see $out/$program.log" >&2
    exit 1
}

sql() { psql -qXAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U bench -d dbos "$@"; }

# start_server PROGRAM ARGUMENT...: a server without data, but with the Vote schema.
# An argument lies in $work, so that the peers' helpers know it.
start_server() {
    rm -rf "$work/node"
    run_server "$@"
    sql -f procs/examples/vote.sql
}

# Every accepted vote is a row and a count.
check_votes() {
    local rows counts
    rows=$(sql -c 'SELECT count(*) FROM votes')
    counts=$(sql -c 'SELECT coalesce(sum(n), 0) FROM phone_votes')
    [ "$rows" = "$counts" ] || { echo "votes $rows, counts $counts: they differ" >&2; exit 1; }
}

progress() { echo "== $1 (${SECONDS} s since the start)"; }
