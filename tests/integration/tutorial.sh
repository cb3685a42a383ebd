#!/usr/bin/env bash
# docs/tutorial.md, done by the letter: its commands run in their order in a copy of the tree, and
# what they print is what the page says. Then procs/examples/vote.sql, under load where the load
# generator of ../shared/peers is there.
#   tutorial.sh folder-of-the-programs
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"
export PSQLRC=/dev/null PGUSER=ann
unset PGHOST PGPORT PGDATABASE PGOPTIONS
page=docs/tutorial.md

# -- the page, cut into $dir/block.NN.KIND: the body of each fence; KIND is its word, or "output".
awk -v dir="$dir" '
    /^```/ && !inside { kind = substr($0, 4); if (kind == "") kind = "output"
                        file = sprintf("%s/block.%02d.%s", dir, ++count, kind)
                        printf "" > file; inside = 1; next }
    /^```/ { inside = 0; close(file); next }
    inside { print > file }' "$page"

# -- a tree as the reader has it
tree=$dir/tree
mkdir -p "$tree/build" "$tree/procs"
ln -s "$bin" "$tree/build/bin"
cp -r procs/examples "$tree/procs/"
node_start --partitions 2 --no-worker --no-archive

same() { # same WANTED GOT: blanks at the end of a line and empty lines do not show on a page
    diff -u <(sed -e 's/ *$//' -e '/^$/d' "$1") <(sed -e 's/ *$//' -e '/^$/d' "$2")
}

# Each line of a C block that is not cut short stands in transfer.c.
quoted() {
    local line
    while IFS= read -r line; do
        case $line in *…* | "") continue ;; esac
        grep -qxF -- "$line" procs/examples/transfer.c || fail "transfer.c has no line: $line"
    done <"$1"
}

# The page's change of transfer.c: its block goes behind the check of the amount.
change() {
    awk -v block="$1" '
        { print }
        /amount <= 0/ { found = 1 }
        found && /^    }$/ { while ((getline line < block) > 0) print line; found = 0; done = 1 }
        END { exit !done }' "$tree/procs/examples/transfer.c" >"$dir/changed.c" ||
        fail "there is no check of the amount in transfer.c"
    cp "$dir/changed.c" "$tree/procs/examples/transfer.c"
}

# What dbos-cc says about the module that the page describes.
refused() {
    cat >"$tree/refused.c" <<'EOC'
#include <dbos/procedure.h>
#include <time.h>
static long counter;
static int run(struct dbos_call *call) { return dbos_return_int(call, ++counter + time(NULL)); }
DBOS_PROCEDURE(refused, .run = run);
EOC
    (cd "$tree" && ! build/bin/dbos-cc -o transfer.so refused.c) >"$dir/got" 2>&1 ||
        fail "a module that reads the clock was compiled"
    same "$1" "$dir/got" || fail "dbos-cc refuses a module in other words than the page's"
    [ ! -e "$tree/transfer.so" ] || fail "a refused module is left lying about"
}

commands=0
last=
for block in "$dir"/block.*; do
    case $block in
    *.sh)
        commands=$((commands + 1))
        sed "s/-p 5433/-p $port/" "$block" >"$dir/command"
        status=0
        (cd "$tree" && bash -eu "$dir/command") >"$dir/got" 2>&1 </dev/null || status=$?
        last=command
        ;;
    *.output)
        if [ "$last" = command ] && ! grep -q "allowed: time" "$block"; then
            same "$block" "$dir/got" || fail "command $commands prints something else"
            status=0 # an error that the page announces
        else
            cp "$tree/transfer.so" "$dir/kept.so"
            rm "$tree/transfer.so"
            refused "$block"
            cp "$dir/kept.so" "$tree/transfer.so"
        fi
        last=
        ;;
    *.c)
        if grep -qxF -- "$(head -n 1 "$block")" procs/examples/transfer.c &&
            ! grep -q "needs a signature" "$block"; then
            quoted "$block"
        else
            change "$block"
        fi
        last=
        ;;
    *) fail "$page has a block that this test does not know: ${block##*.}" ;;
    esac
    next=$(printf '%s/block.%02d.output' "$dir" $((10#$(basename "$block" | cut -d. -f2) + 1)))
    if [ "${status:-0}" -ne 0 ] && [ ! -e "$next" ]; then
        cat "$dir/got"
        fail "command $commands failed"
    fi
done
[ "$commands" -eq 5 ] || fail "the page has $commands commands, not five"
[ "$(head -n 1 "$page")" = "# Tutorial: a stored procedure in five commands" ] ||
    fail "the page's title does not say five"

ask() { psql -X -q -A -t -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -d dbos -c "$1"; }
expect() { # expect SQL VALUE
    local got
    got=$(ask "$1")
    [ "$got" = "$2" ] || fail "$1: $got, not $2"
}
expect "SELECT balance FROM account WHERE id = 1" 70
rm -f "$tree/transfer.so"
node_stop
node_start --partitions 2 --no-worker --no-archive
ask "CALL transfer(2, 1, 30)" >"$dir/got" || fail "the procedure is gone after a restart"
! ask "CALL transfer(2, 1, 60)" >"$dir/got" 2>&1 || fail "the new version is gone after a restart"
grep -q "an amount over 50 needs a signature" "$dir/got" || fail "$(cat "$dir/got")"
expect "SELECT balance FROM account WHERE id = 1" 100
echo "tutorial: $commands commands print what the page says, before and after a restart"

# -- vote
psql -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -d dbos -f procs/examples/vote.sql \
    >"$dir/got" 2>&1 || fail "vote.sql: $(cat "$dir/got")"
for function in vote vote_hot; do
    expect "SELECT $function(1000000000, 7, 2)" 1
    expect "SELECT $function(1000000000, 1, 2)" 0
done
expect "SELECT vote(1000000000, 1, 2)" 2
expect "SELECT total FROM contestants WHERE id = 1" 1
expect "SELECT n FROM phone_votes WHERE phone = 1000000000" 2
expect "SELECT count(*) FROM votes" 2

peers=${DBOS_PEERS:-../shared/peers}
if [ ! -r "$peers/src/vload.c" ]; then
    echo "vote under load: skipped, there is no $peers/src/vload.c"
    node_stop
    exit 0
fi
"${CC:-cc}" -O2 -o "$dir/vload" "$peers/src/vload.c"
for function in vote vote_hot; do
    psql -q -h 127.0.0.1 -p "$port" -d dbos -f procs/examples/vote.sql >/dev/null 2>&1
    "$dir/vload" -t pg -p "$port" -u ann -d dbos -c 4 -P 4 -s 1 -w 0 -f "$function" >"$dir/got" ||
        fail "vload -f $function: $(cat "$dir/got")"
    accepted=$(sed 's/.*"accepted":\([0-9]*\).*/\1/' "$dir/got")
    grep -q '"errors":0' "$dir/got" || fail "$(cat "$dir/got")"
    [ "$accepted" -gt 0 ] || fail "no vote was accepted: $(cat "$dir/got")"
    # The load generator leaves without waiting for the last 4 x 4, nor counting 4 x 4 before them.
    sleep 0.5
    rows=$(ask "SELECT count(*) FROM votes")
    [ "$rows" -ge "$accepted" ] && [ "$rows" -le $((accepted + 32)) ] ||
        fail "$accepted votes were accepted, $rows are there"
    expect "SELECT sum(n) FROM phone_votes" "$rows"
    [ "$function" = vote ] || expect "SELECT sum(total) FROM contestants" "$rows"
    echo "$function: $rows rows for $accepted votes; $(cat "$dir/got")"
done
node_stop
