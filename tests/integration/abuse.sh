#!/usr/bin/env bash
# Procedures that do what none should (tests/support/modules/abuse.c): each ends as one aborted
# transaction with a clear error, or is refused when it is registered, or, where it crashes, as a
# restart without a loss; what has crashed twice is not run any more.
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"

ask() { psql -X -q -At -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -h 127.0.0.1 -p "$port" -U alice -d dbos "$@"; }
victim() { ask -c "SELECT n FROM victims WHERE id = 1"; }
# ends SQLSTATE WORDS SQL [SETTING]: an error, and nothing of it remains
ends() {
    ask -c "${4:-SET statement_timeout = '5s'}" -c "SELECT $3" >"$dir/said" 2>&1 && fail "$3 succeeded: $(cat "$dir/said")"
    grep -q "ERROR:  $1: .*$2" "$dir/said" || fail "$3: $(cat "$dir/said")"
    [ "$(victim)" = 7 ] || fail "after $3 the row has $(victim)"
}

create() { # NAME ARGUMENTS RETURNS
    ask -c "CREATE OR REPLACE FUNCTION $1($2) RETURNS $3 LANGUAGE c AS 'test/abuse.so', '$1'"
}
# The report that a sanitizer makes of a wanted crash is none of what node_stop looks for.
start() {
    sed -i '/SUMMARY: /d' "$dir/log"
    node_start --no-worker --partitions 2 "$@"
}

: >"$dir/log"
start
ask -c "CREATE TABLE victims (id bigint PRIMARY KEY, n int) PARTITION BY HASH (id)" -c "INSERT INTO victims VALUES (1, 7)"
for name in loop loop_in_math loop_in_sql sort recurse recurse_in_sql frame alloc_often null trap smash; do
    create abuse_$name "id bigint" bigint
done
create abuse_result "id bigint" text
create abuse_divide "id bigint, by bigint" bigint
create abuse_alloc "id bigint, bytes bigint" bigint

# Refused at registration, each offender by its name.
ask -c "CREATE FUNCTION bad(id bigint) RETURNS bigint LANGUAGE c AS 'test/bad_abuse.so', 'bad_abuse'" >"$dir/said" 2>&1 &&
    fail "fork, abort and the clock were registered"
grep -q "58P01: .*abort, clock, fork" "$dir/said" || fail "fork, abort, the clock: $(cat "$dir/said")"
ask -c "CREATE FUNCTION bad(id bigint) RETURNS bigint LANGUAGE c AS 'test/bad_static.so', 'bad_static'" >"$dir/said" 2>&1 &&
    fail "a variable was registered"
grep -q "58P01: .*writable data: counter" "$dir/said" || fail "a variable: $(cat "$dir/said")"

# One aborted transaction each, again and again, on a node that stays up.
for _ in 1 2; do
    for name in loop loop_in_math loop_in_sql sort; do
        ends 57014 "statement timeout" "abuse_$name(1)" "SET statement_timeout = '200ms'"
    done
    ends 54001 "abuse_recurse\" has used up its stack" "abuse_recurse(1)"
    ends 54001 "abuse_recurse_in_sql\" has used up its stack" "abuse_recurse_in_sql(1)"
    ends 54001 "abuse_frame\" has used up its stack" "abuse_frame(1)"
    ends 22012 "divided by zero" "abuse_divide(1, 0)"
    ends 53200 "asks for more than 256 MB" "abuse_alloc(1, 10000000000)"
    ends 53200 "asks for more than 256 MB" "abuse_alloc(1, -1)"
    ends 53200 "asks for more than 256 MB" "abuse_alloc_often(1)"
    ends 54000 "" "abuse_result(1)"
done
[ "$(ask -c "SELECT abuse_divide(1, 1)")" = 1 ] || fail "a call that is in order"
[ "$(victim)" = 8 ] || fail "its write: $(victim)"
ask -c "UPDATE victims SET n = 7"

# A client gives up; and the node stops, though a call without a time limit never ends.
psql -X -q -h 127.0.0.1 -p "$port" -U alice -d dbos -c "SET statement_timeout = 0" -c "SELECT abuse_loop(1)" >"$dir/said" 2>&1 &
client=$!
sleep 1 # views of the system wait behind the call: nothing says when it has begun
kill -INT "$client"
wait "$client" && fail "a canceled call succeeded"
grep -q "canceling statement due to user request" "$dir/said" || fail "canceled: $(cat "$dir/said")"
psql -X -q -h 127.0.0.1 -p "$port" -U alice -d dbos -c "SET statement_timeout = 0" -c "SELECT abuse_loop(1)" >"$dir/said" 2>&1 &
client=$!
sleep 1
node_stop
wait "$client" && fail "a call that was stopped succeeded"

# A crash: the node ends, nothing of the call remains, and what crashes twice is not run a third time.
quarantines() { # NAME SIGNAL
    local death
    for death in 1 2; do
        start
        ask -c "SELECT $1(1)" >"$dir/said" 2>&1 && fail "$1 succeeded"
        wait "$pid" && fail "the node ended with status 0"
        pid=
        grep -q "procedure \"$1\" has met $2" "$dir/log" || fail "the node does not say what ended it"
    done
    start
    grep -q "ERROR procedure \"$1\" version 1 has ended the node 2 times ($2)" "$dir/log" || fail "the node does not say so"
    ends 55000 "$1.* version 1 is not run: it has ended the node 2 times" "$1(1)"
    grep -q "HINT:  CREATE OR REPLACE it" "$dir/said" || fail "no hint: $(cat "$dir/said")"
    # Under a key the refusal leaves a record, which "replay" below meets.
    ask -c "SET LOCAL dbos.idempotency_key = 'refused-$1'; SELECT $1(1)" >"$dir/said" 2>&1 && fail "$1 under a key succeeded"
    grep -q "55000" "$dir/said" || fail "$1 under a key: $(cat "$dir/said")"
    node_stop
}
quarantines abuse_null SIGSEGV
quarantines abuse_trap SIGILL
quarantines abuse_smash SIGABRT

# A task's result comes again after a restart, and its procedure crashes again, without any client: the
# third start fails the task instead.
start
create abuse_submit "id bigint" bigint
ask -c "CREATE PROCEDURE abuse_on_result(task bigint, context bytea, error text) LANGUAGE c AS 'test/abuse.so', 'abuse_on_result'"
node_stop
node_start --partitions 2
ask -c "SELECT abuse_submit(1)" >"$dir/said" 2>&1 || grep -q "connection" "$dir/said" || fail "$(cat "$dir/said")"
wait "$pid" && fail "the node outlived the result"
"$bin/dbosd" --data-dir "$dir/node" --port 0 --partitions 2 >"$dir/ready" 2>>"$dir/log" && fail "the node outlived the result that came again"
pid=
sed -i '/SUMMARY: /d' "$dir/log"
node_start --partitions 2
grep -q "abuse_on_result\" version 1 has ended the node 2 times" "$dir/log" || fail "the node does not say so"
for _ in $(seq 100); do
    [ "$(ask -c "SELECT count(*) FROM dbos.task WHERE state = 3")" = 1 ] && break
    sleep 0.1
done
[ "$(ask -c "SELECT count(*) FROM dbos.task WHERE state = 3")" = 1 ] || fail "the task did not fail: $(ask -c 'SELECT * FROM dbos.task')"
node_stop

# A new version is run again, and other procedures never were refused.
start
create abuse_null "id bigint" bigint
ask -c "SELECT abuse_null(1)" >"$dir/said" 2>&1 && fail "abuse_null succeeded"
wait "$pid" && fail "the node ended with status 0"
pid=
start
[ "$(ask -c "SELECT abuse_divide(1, 1)")" = 1 ] || fail "another procedure of the module"
ends_crashed=$(wc -l <"$dir/node/crashed")
[ "$ends_crashed" -eq 9 ] || fail "$ends_crashed deaths are known, 9 happened"
node_stop
"$bin/dbosctl" verify "$dir/node" >"$dir/said" || fail "verify: $(cat "$dir/said")"
"$bin/dbosctl" replay "$dir/node" >"$dir/said" 2>&1 || fail "replay: $(cat "$dir/said")"
echo "abuse: 2 x 11 calls aborted, 2 modules refused, 9 crashes without a loss, 4 procedures not run any more"
