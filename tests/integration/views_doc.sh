#!/usr/bin/env bash
# docs/views.md through the stock psql: every example of it runs, and every column of every view is
# described in the view's own chapter, with its type.
#   views_doc.sh folder-of-the-programs
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"

node_start --partitions 2 --no-worker --no-archive
ask() { psql -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U alice -d dbos "$@"; }
ask -c "CREATE TABLE t (id int PRIMARY KEY, b text) PARTITION BY HASH (id)"
ask -c "INSERT INTO t VALUES (1, 'x')"

sed -n '/^```sql$/,/^```$/p' docs/views.md | grep -v '^```' >"$dir/examples.sql"
examples=$(grep -c ';$' "$dir/examples.sql")
[ "$examples" -ge 8 ] || fail "only $examples examples were found in docs/views.md"
ask -f "$dir/examples.sql" >"$dir/out" 2>&1 || { cat "$dir/out"; fail "an example does not run"; }
[ -s "$dir/out" ] || fail "the examples print nothing"

columns=0
for view in archive histogram latency log memory partitions sessions snapshot statements tables; do
    chapter=$(sed -n "/^## dbos\\.$view\$/,/^## /p" docs/views.md)
    [ -n "$chapter" ] || fail "dbos.$view has no chapter in docs/views.md"
    names=$(ask -P tuples_only=off -P footer=off -c "SELECT * FROM dbos.$view LIMIT 0" | tr '|' ' ')
    for column in $names; do
        columns=$((columns + 1))
        type=$(ask -c "SELECT pg_typeof($column) FROM dbos.$view LIMIT 1")
        grep -q "^|.*\`$column\`.*| $type |" <<<"$chapter" ||
            fail "column $column ($type) of dbos.$view is not described in docs/views.md"
    done
done
[ "$columns" -ge 60 ] || fail "only $columns columns were seen"
"$bin/dbosctl" -p "$port" top --once --interval 0.2 >"$dir/top" || fail "dbosctl top ended with status $?"
grep -q 'anonymous RSS' "$dir/top" || fail "dbosctl top shows no memory"
node_stop
echo "docs/views.md: $examples examples, $columns columns"
