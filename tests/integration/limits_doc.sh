#!/usr/bin/env bash
# docs/limits.md: the limits that no other test meets, each one just below it and just above, with the
# number and the SQLSTATE that the page says.
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"

ask() { psql -X -q -At -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate -h 127.0.0.1 -p "$port" -U alice -d dbos "$@"; }
# list COUNT TEXT: TEXT with & as 1, 2, …, with commas
list() { seq "$1" | sed "s/.*/$2/" | paste -sd,; }
limits=0
# limit ROW SQLSTATE BELOW ABOVE: what begins a row of the page, and SQL
limit() {
    limits=$((limits + 1))
    grep -qE "^\| $1.*\| .*$2.* \|\$" docs/limits.md || fail "docs/limits.md does not say $2 for: $1"
    ask <<<"$3" >"$dir/said" 2>&1 || fail "$1, just below: $(tail -n 3 "$dir/said" | cut -c1-300)"
    ask <<<"$4" >"$dir/said" 2>&1 && fail "$1: it is no limit"
    grep -qE "(ERROR|FATAL): +$2" "$dir/said" || fail "$1: $(tail -n 3 "$dir/said" | cut -c1-300), not $2"
}
letters() { head -c "$1" /dev/zero | tr '\0' x; }

node_start --partitions 2 --no-worker --no-archive
limit "columns of a table; of an answer; of a provenance answer \| 256; 1,664; 256" 54011 \
    "CREATE TABLE wide (id int PRIMARY KEY, $(list 255 'c& int'))" "CREATE TABLE wider (id int PRIMARY KEY, $(list 256 'c& int'))"
limit "columns of a table; of an answer" 54011 "SELECT $(list 1664 id) FROM wide" "SELECT $(list 1665 id) FROM wide"
limit "columns of an index; indexes of a table \| 8; 16" 0A000 "CREATE INDEX ON wide ($(list 8 'c&'))" "CREATE INDEX ON wide ($(list 9 'c&'))"
limit "columns of an index; indexes of a table" 42P16 "$(seq 14 | sed 's/.*/CREATE INDEX ON wide (c&);/')" "CREATE INDEX ON wide (c15)"
limit "arguments of a procedure \| 32" 54023 \
    "CREATE FUNCTION many($(list 32 'a& int')) RETURNS int LANGUAGE sql AS 'SELECT 1'" \
    "CREATE FUNCTION more($(list 33 'a& int')) RETURNS int LANGUAGE sql AS 'SELECT 1'"
limit "a column's value \| 1 MB \(1,048,576 bytes\)" 54000 \
    "CREATE TABLE t (id int PRIMARY KEY, a text, b text, c text); INSERT INTO t VALUES (1, '$(letters 1048576)')" \
    "INSERT INTO t VALUES (2, '$(letters 1048577)')"
limit "a row \| 2 MB" 54000 "INSERT INTO t VALUES (3, '$(letters 1000000)', '$(letters 1000000)', '')" \
    "INSERT INTO t VALUES (4, '$(letters 1000000)', '$(letters 1000000)', '$(letters 200000)')"
limit "a protocol message \| 16 MB" 08P01 "SELECT 1 -- $(letters 16777000)" "SELECT 1 -- $(letters 16777216)"

# A name that is longer is cut.
name=$(letters 63)
ask -c "CREATE TABLE ${name}yz (id int PRIMARY KEY)" -c "SELECT id FROM $name" || fail "a long name is not cut at 63 bytes"
# More than 10,000 bytes of start-up packet: no reply, no session.
psql -X -At -h 127.0.0.1 -p "$port" -U alice -d "dbname=dbos options='$(letters 11000)'" -c "SELECT 1" >"$dir/said" 2>&1 && fail "a start-up packet of 11,000 bytes"
grep -q "server closed the connection\|reset by peer" "$dir/said" || fail "a large start-up packet: $(cat "$dir/said")"
node_stop
status=0
"$bin/dbosd" --data-dir "$dir/other" --port 0 --partitions 257 >"$dir/said" 2>&1 || status=$?
[ "$status" -eq 2 ] && grep -q "wrong option or value: --partitions 257" "$dir/said" || fail "257 partitions: status $status"
echo "docs/limits.md: $limits limits, names, start-up packets and partitions as the page says"
