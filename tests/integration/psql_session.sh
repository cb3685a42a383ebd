#!/usr/bin/env bash
# docs/psql-session.sql through the stock psql: what is printed is docs/psql-session.out, to the byte.
#   psql_session.sh folder-of-the-programs      UPDATE=1 writes docs/psql-session.out anew
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"

node_start --partitions 2 --no-worker --no-archive
psql -X -a -v VERBOSITY=verbose -h 127.0.0.1 -p "$port" -U alice -d dbos \
    -f docs/psql-session.sql >"$dir/out" 2>&1 || fail "psql ended with status $?"
node_stop

if [ -n "${UPDATE:-}" ]; then
    cp "$dir/out" docs/psql-session.out
    echo "docs/psql-session.out is written; look at its differences before committing it"
fi
diff -u docs/psql-session.out "$dir/out" || fail "the session differs from docs/psql-session.out"

# Each error that the session is there to show, once more by name.
for state in 42601 42P01 42P07 42703 23505 23502 22P02 22001 22003 22012 42883 0A000 54000 P0001; do
    grep -q "ERROR:  $state: " "$dir/out" || fail "SQLSTATE $state does not come"
done
grep -A 2 "ERROR:  42601" "$dir/out" | grep -q '^ *^$' || fail "42601 has no caret"
[ "$(grep -c 'ERROR:  54000' "$dir/out")" -eq 3 ] || fail "not three limits were met"
echo "psql session: $(grep -c ';$' docs/psql-session.sql) lines of statements as in docs/psql-session.out"
