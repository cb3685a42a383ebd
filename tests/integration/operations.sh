#!/usr/bin/env bash
# docs/operations.md, done by the letter: every command of its ```sh blocks is run, in the page's order,
# on a real node; a block without a word is what they print, and a ```text block is what the node and
# psql say in the situation that the chapter is about, which is brought about for real. A chapter with
# commands that this test can not bring about fails it, and so does a command outside of a block.
#   operations.sh BIN [SHIM]     the shim of tests/support/lose_unsynced.c; without it no sync fails
# What is changed in a command: the port, which is a free one. "# exit status N" behind a command is
# held to. Numbers, hashes and times may be others than the page's; … stands for anything, and a line
# of it for any lines.
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"
shim=${2:-}
repeat="$0 $bin $shim"
page=$root/docs/operations.md
export PSQLRC=/dev/null PGUSER=ann
export PGHOST=127.0.0.1 PGDATABASE=dbos
unset PGPORT PGOPTIONS

# -- the page: $dir/block.NNN.KIND, and $dir/index with "NNN KIND chapter"
awk -v dir="$dir" '
    function slug(text) { text = tolower(text); gsub(/[^a-z0-9 ]/, "", text); gsub(/ /, "_", text)
                          return text }
    /^```/ && !inside { kind = substr($0, 4); if (kind == "") kind = "output"
                        number = sprintf("%03d", ++count); file = dir "/block." number "." kind
                        printf "" > file; print number, kind, chapter > (dir "/index")
                        inside = 1; next }
    /^```/ { inside = 0; close(file); next }
    inside { print > file; next }
    /^###? / { sub(/^#+ /, ""); chapter = slug($0); print chapter > (dir "/chapters"); next }
    /^(    |\t)/ || /`[^`]*(build\/bin\/|psql -)[^`]*`/ { print FNR ": " $0 > (dir "/outside") }
    END { if (inside) print "a block without an end" > (dir "/outside") }' "$page"
[ ! -e "$dir/outside" ] || { cat "$dir/outside"; fail "$page has a command outside of a sh block"; }

# -- the place that the reader has, and what a node there is asked
tree=$dir/tree
mkdir -p "$tree/build"
ln -s "$bin" "$tree/build/bin"
cd "$tree"
: >"$dir/log"
ln -s "$dir/log" dbosd.log
: >"$dir/client" # what psql has said in this chapter
marked=0         # lines of dbosd.log before this chapter
end_status=0     # of the node, when it is stopped by a command of the page

unmount() { # before node.sh removes the directory
    local status=$?
    set +e
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
    umount -l "$tree/dbos-data" 2>/dev/null
    pid=
    cd "$root"
    (exit "$status")
    finish
}
trap unmount EXIT

ask() { psql -X -q -At -v ON_ERROR_STOP=1 "$@"; }
content() { ask -c "SELECT id, owner, balance FROM account ORDER BY id" | tr '\n' ' '; }

# client COMMAND…: what a client gets, which the page shows.
client() { "$@" >>"$dir/client" 2>&1 || true; }

wait_ready() { # FILE with standard output of the node whose process is in dbosd.pid
    pid=$(cat dbosd.pid)
    for _ in $(seq 1200); do
        port=$(sed -n 's/.*ready.*port=\([0-9]*\).*/\1/p' "$1" | tail -n 1)
        if [ -n "$port" ]; then
            export PGPORT=$port
            return 0
        fi
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}
start() { # a node of the test's own: options
    build/bin/dbosd --port 0 "$@" >"$dir/ready" 2>>dbosd.log &
    echo $! >dbosd.pid
    wait_ready "$dir/ready" || fail "dbosd did not start"
}
ended() { # STATUS: the node has ended with it
    local status=0
    wait "$pid" || status=$?
    pid=
    [ "$status" -eq "$1" ] || fail "dbosd ended with status $status instead of $1"
}
stop() {
    [ -n "$pid" ] || return 0
    kill -TERM "$pid"
    ended 0
}
crash() {
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
}
refuses() { # the start of a node, for a reason that the page tells
    local status=0
    timeout 60 build/bin/dbosd --port 0 "$@" >"$dir/ready" 2>>dbosd.log || status=$?
    [ "$status" -eq 1 ] || fail "dbosd ended with status $status instead of 1"
}
# Until it is so.
soon() { # SQL: true
    for _ in $(seq 400); do
        [ "$(ask -c "$1" 2>/dev/null)" != t ] || return 0
        sleep 0.05
    done
    fail "it does not come to be that $1"
}
says() { # WORDS of the node's log in this chapter
    for _ in $(seq 400); do
        ! tail -n +$((marked + 1)) dbosd.log | grep -qF "$1" || return 0
        sleep 0.05
    done
    fail "the node does not say: $1"
}

# -- comparing
mask() {
    sed -E -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z|\+00)/T/g' -e 's/\b[0-9a-f]{16}\b/H/g' \
        -e 's/-?[0-9][0-9,]*(\.[0-9]+)?/N/g' -e 's/--+/--/g' -e 's/[ \t]+/ /g' -e 's/^ //; s/ $//' "$1"
}
# Each line of a page as a pattern of the shell.
patterns() { mask "$1" | sed -e 's/[][*?\\]/\\&/g' -e 's/…/*/g'; }

same() { # WANTED GOT
    local line wanted at=0 skips=
    mapfile -t got < <(mask "$2" | sed '/^$/d')
    while IFS= read -r wanted; do
        [ -n "$wanted" ] || continue
        if [ "$wanted" = "*" ]; then
            skips=1
            continue
        fi
        while :; do
            [ "$at" -lt "${#got[@]}" ] || { echo "missing: $wanted"; return 1; }
            line=${got[at]}
            at=$((at + 1))
            # shellcheck disable=SC2053 # it is a pattern
            [[ $line == $wanted ]] && break
            [ -n "$skips" ] || { printf 'the page: %s\nprinted:  %s\n' "$wanted" "$line"; return 1; }
        done
        skips=
    done < <(patterns "$1")
    [ -n "$skips" ] || [ "$at" -eq "${#got[@]}" ] || { echo "not on the page: ${got[at]}"; return 1; }
}

seen() { # FILE: each line of it is said by the node or got by a client
    local wanted line
    while IFS= read -r wanted; do
        [ -n "$wanted" ] || continue
        for _ in $(seq 200); do
            while IFS= read -r line; do
                # shellcheck disable=SC2053
                [[ $line == *$wanted* ]] && continue 3
            done < <({ tail -n +$((marked + 1)) dbosd.log; cat "$dir/client"; } | mask -)
            sleep 0.1
        done
        tail -n +$((marked + 1)) dbosd.log
        cat "$dir/client"
        fail "$chapter: nobody says: $wanted"
    done < <(patterns "$1")
}

# -- running
commands=0
run_line() { # a command of the page
    local line=$1 wanted=0 status=0 command
    commands=$((commands + 1))
    if [[ $line =~ \#\ exit\ status\ ([0-9]+) ]]; then
        wanted=${BASH_REMATCH[1]}
    fi
    command=$(sed -e 's#build/bin/dbosd\b#& --port 0#' -e 's#build/bin/dbosctl\b#& -p '"${port:-0}"'#' \
        -e 's/--port 5433//; s/-p 5433/-p '"${port:-0}"'/; s/PGPORT=5433/PGPORT='"${port:-0}"'/' <<<"$line")
    : >"$dir/out"
    eval "$command" >"$dir/out" 2>&1 </dev/null || status=$?
    if [[ $line == *"build/bin/dbosd"*"dbosd.pid"* ]]; then
        wait_ready "$dir/out" || fail "$chapter: the node does not start: $line"
    elif [[ $line == *"kill -TERM"*"dbosd.pid"* ]]; then
        ended "$end_status"
        end_status=0
    fi
    cat "$dir/out" >>"$dir/printed"
    [ "$status" -eq "$wanted" ] || {
        cat "$dir/out"
        fail "$chapter: status $status instead of $wanted: $line"
    }
}
run_block() {
    local line whole=
    : >"$dir/printed"
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        *\\) whole+="${line%\\} "; continue ;;
        "" | "#"*) [ -n "$whole" ] || continue ;;
        esac
        run_line "$whole$line"
        whole=
    done <"$1"
    [ -z "$whole" ] || fail "a command of the page goes on behind its block: $whole"
}

# -- the situations: meet_CHAPTER brings one about, leave_CHAPTER looks whether the page has helped
# A directory with two snapshots, an archive, and a log that is cut off behind them, and a backup of it.
make_good() {
    stop
    rm -rf dbos-data "$dir/good"
    start --no-worker --partitions 2 --log-segment-bytes 65536 --snapshot-log-bytes 0
    ask -c "CREATE TABLE account (id bigint PRIMARY KEY, owner text NOT NULL, balance bigint) PARTITION BY HASH (id)" \
        -c "INSERT INTO account VALUES (1, 'ann', 100), (2, 'bob', 50)" \
        -c "CREATE TABLE note (id bigint PRIMARY KEY, t text) PARTITION BY HASH (id)"
    local first
    for first in 1 101; do
        for i in $(seq "$first" $((first + 99))); do
            echo "INSERT INTO note VALUES ($i, '$(head -c 900 /dev/urandom | base64 -w 0)');"
        done | ask
        ask -c "SELECT dbos_snapshot()" >"$dir/said"
    done
    for _ in $(seq 200); do
        [ -e dbos-data/log/00000001.seg ] || break
        ask -c "SELECT count(*) FROM prov_history('note') WHERE false" >/dev/null
        ask -c "UPDATE account SET balance = balance WHERE id = 1" -c "SELECT dbos_snapshot()" >"$dir/said"
    done
    [ ! -e dbos-data/log/00000001.seg ] || fail "the log is not cut off behind two snapshots"
    # Behind the snapshots, so that there is something to be read; the last batch has several sectors.
    ask -c "INSERT INTO account VALUES (3, 'eve', 7)"
    good=$(content)
    ask -c "INSERT INTO note VALUES (0, '$(head -c 2000 /dev/urandom | base64 -w 0)')"
    crash # nothing is written behind it
    mv dbos-data "$dir/good"
}
# A node (or, with "stopped", none) on a copy of it.
again() {
    stop
    rm -rf dbos-data
    cp -r --sparse=always "$dir/good" dbos-data
    [ "${1:-}" = stopped ] || start --no-worker "$@"
}
is_good() { [ "$(content)" = "$good" ] || fail "$chapter: the rows are $(content), not $good"; }

last_byte() { { cmp -l "$1" /dev/zero 2>/dev/null || true; } | tail -n 1 | awk '{ print $1 - 1 }'; }
newest_segment() {
    local file
    for file in dbos-data/log/*.seg; do
        [ -z "$(last_byte "$file")" ] || echo "$file"
    done | tail -n 1
}
flip() { # FILE OFFSET
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    printf "\\x$(printf %02x $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

meet_starting_and_stopping() { :; }
leave_starting_and_stopping() {
    # Every option of --help has its line, and there is no other.
    build/bin/dbosd --help | grep -oE '^ +--[a-z][a-z-]*|--version' | tr -d ' ' | sort -u >"$dir/options"
    sed -n '/^| option /,/^$/p' "$page" | cut -d'|' -f2 | grep -oE -e '--[a-z][a-z-]*' | sort -u >"$dir/described"
    diff "$dir/options" "$dir/described" || fail "the table of options is not what --help says"
    make_good
}

meet_backup_and_restore() { again; }
leave_backup_and_restore() {
    is_good
    [ "$(ask -c "SELECT count(*) FROM prov_history('note')")" = 201 ] || fail "the history is not restored"
    build/bin/dbosctl backup dbos-data dbos-backup >"$dir/said" 2>&1 && fail "a backup over a backup"
    rm -rf dbos-before
}

meet_snapshots() { again; }
meet_looking_at_it() { again --partitions 2; }
meet_verify() { again; }

meet_replay() {
    stop
    rm -rf dbos-data
    start --no-worker
    ask -c "CREATE TABLE account (id bigint PRIMARY KEY, owner text NOT NULL, balance bigint) PARTITION BY HASH (id)" \
        -c "CREATE PROCEDURE transfer(source bigint, target bigint, amount bigint) LANGUAGE c AS 'transfer.so', 'transfer'" \
        -c "INSERT INTO account VALUES (1, 'ann', 100), (2, 'bob', 50)"
    for _ in 1 2 3; do
        ask -c "CALL transfer(1, 2, 10)"
    done
    stop
}

meet_when_it_stopped_without_order() {
    again stopped
    local newest
    newest=$(newest_segment)
    # One sector of the last batch never came to the disk.
    dd if=/dev/zero of="$newest" bs=512 seek=$(($(last_byte "$newest") / 512 - 1)) count=1 conv=notrunc status=none
    cp -r --sparse=always dbos-data "$dir/torn"
    start --no-worker
    stop
    rm -rf dbos-data
    mv "$dir/torn" dbos-data
}
leave_when_it_stopped_without_order() { is_good; }

meet_when_the_node_finds_damage() {
    again stopped
    flip "$(newest_segment)" "$(last_byte "$(newest_segment)")"
    refuses
}
leave_when_the_node_finds_damage() {
    is_good
    rm -rf dbos-damaged
}

meet_when_a_snapshot_is_damaged() {
    again stopped
    flip "$(ls dbos-data/snapshots/*-0000.part | tail -n 1)" 500
    start --no-worker
}
leave_when_a_snapshot_is_damaged() {
    is_good
    stop
    build/bin/dbosctl verify dbos-data >"$dir/said" || fail "verify: $(cat "$dir/said")"
}

meet_when_the_disk_is_full() {
    stop
    rm -rf dbos-data
    mkdir dbos-data
    mount -t tmpfs -o size=32m,mode=0700 tmpfs dbos-data 2>/dev/null || {
        reason="a small file system can not be mounted here"
        return 0
    }
    start --no-worker --no-archive --log-segment-bytes 1048576
    ask -c "CREATE TABLE account (id bigint PRIMARY KEY, owner text NOT NULL, balance bigint) PARTITION BY HASH (id)"
    dd if=/dev/zero of=dbos-data/filler bs=64k status=none 2>/dev/null || true
    local text
    text=$(head -c 3000 /dev/zero | tr '\0' x)
    # Nearly half a file of the log at once, and slowly on to where the next one is asked for.
    seq 120 | sed "s/.*/INSERT INTO account VALUES (&, '$text', 0);/" | client ask
    acknowledged=$(ask -c "SELECT count(*) FROM account")
    while ask -c "INSERT INTO account VALUES ($((acknowledged + 1)), '$text', 0)" >"$dir/client" 2>&1; do
        acknowledged=$((acknowledged + 1))
        [ "$acknowledged" -le 1000 ] || fail "the disk is full, and $acknowledged rows were taken"
    done
}
leave_when_the_disk_is_full() {
    rm dbos-data/filler
    says "there is room for the log again"
    for _ in $(seq 100); do
        ! ask -c "INSERT INTO account VALUES (-1, 'x', 0)" 2>/dev/null || break
        sleep 0.1
    done
    [ "$(ask -c "SELECT count(*) FROM account")" = $((acknowledged + 1)) ] || fail "not what was acknowledged"
    crash
    umount dbos-data
}

meet_when_the_disk_fails() {
    if [ -z "$shim" ]; then
        reason="this build has no shim that lets a sync fail"
        return 0
    fi
    again stopped
    export LD_PRELOAD=$shim LOSE_UNSYNCED_FAIL=$dir/fail
    build/bin/dbosd --port 0 --no-worker --no-archive >"$dir/ready" 2>>dbosd.log &
    echo $! >dbosd.pid
    unset LD_PRELOAD
    wait_ready "$dir/ready" || fail "dbosd did not start"
    ask -c "INSERT INTO account VALUES (4, 'acknowledged', 1)"
    touch "$dir/fail"
    client ask -c "INSERT INTO account VALUES (5, 'never', 1)"
    ended 74
    rm "$dir/fail"
}
leave_when_the_disk_fails() {
    [ "$(ask -c "SELECT owner FROM account WHERE id = 4")" = acknowledged ] || fail "an acknowledged row is lost"
    stop
    rm -rf dbos-other-disk
}

meet_when_the_archive_is_behind() {
    again --archive-backlog-max 1000
    ask -c "SELECT count(*) FROM prov_history('note') WHERE false" >/dev/null
    soon "SELECT NOT is_full AND lag_bytes = 0 FROM dbos.archive"
    archiver=$(ask -c "SELECT process FROM dbos.archive")
    kill -STOP "$archiver"
    ask -c "INSERT INTO note VALUES (1001, '$(head -c 2000 /dev/urandom | base64 -w 0)')"
    soon "SELECT is_full FROM dbos.archive"
    client ask -c "SET statement_timeout = '200ms'" -c "INSERT INTO note VALUES (1002, '')"
    # The node has to stop in order with an archiver that does not listen, too: it is killed.
}
leave_when_the_archive_is_behind() { ask -c "INSERT INTO note VALUES (1002, '')"; }

meet_when_the_archiver_ends() {
    again stopped
    flip "$(find dbos-data/archive -name '*.parquet' | sort | head -n 1)" 100
    start --no-worker
    client ask -c "SELECT count(*) FROM prov_history('note')"
}
leave_when_the_archiver_ends() {
    is_good
    [ "$(ask -c "SELECT count(*) FROM prov_history('note')")" = 201 ] || fail "the history is not whole"
    stop
    # What the page says of one that is gone.
    mv dbos-data/archive dbos-archive-gone
    ! build/bin/dbosctl verify dbos-data >"$dir/said" || fail "verify does not miss the archive"
    grep -q "CORRUPT: the archive ends at position 0, and the log begins with segment" "$dir/said" || fail "verify: $(cat "$dir/said")"
    start --no-worker --no-archive
    is_good
    rm -rf dbos-archive-damaged dbos-archive-gone
}

meet_when_a_procedure_does_not_end() {
    again --partitions 2
    ask -c "CREATE TABLE victims (id bigint PRIMARY KEY, n int) PARTITION BY HASH (id)" -c "INSERT INTO victims VALUES (1, 7)" \
        -c "CREATE FUNCTION looping(id bigint) RETURNS bigint LANGUAGE c AS 'test/abuse.so', 'abuse_loop'"
    client ask -c "SET statement_timeout = '100ms'" -c "SELECT looping(1)"
    psql -X -q -d dbos -c "SET statement_timeout = 0" -c "SELECT looping(1)" >/dev/null 2>&1 &
    looping=$!
    # Nothing says when it has begun, but that what is queued behind it waits.
    for _ in $(seq 100); do
        timeout 1 psql -X -q -d dbos -c "SELECT n FROM victims WHERE id = 1" >/dev/null 2>&1 || break
    done
    kill -KILL "$looping" # it goes on without its client
    ! timeout 1 psql -X -q -d dbos -c "SELECT n FROM victims WHERE id = 1" >/dev/null 2>&1 ||
        fail "$chapter: nothing waits behind it"
}
leave_when_a_procedure_does_not_end() {
    wait "$looping" && fail "the call has ended"
    [ "$(ask -c "SELECT n FROM victims WHERE id = 1")" = 7 ] || fail "the call has left something"
}

meet_when_a_procedure_ends_the_node() {
    again stopped
    start --no-worker
    ask -c "CREATE TABLE victims (id bigint PRIMARY KEY, n int) PARTITION BY HASH (id)" -c "INSERT INTO victims VALUES (1, 7)" \
        -c "CREATE PROCEDURE transfer(id bigint) LANGUAGE c AS 'test/abuse.so', 'abuse_null'"
    client ask -c "CALL transfer(1)"
    wait "$pid" && fail "the node ended with status 0"
    start --no-worker
    client ask -c "CALL transfer(1)"
    wait "$pid" && fail "the node ended with status 0"
    pid=
    sed -i '/SUMMARY: /d' "$dir/log" # of a crash that was wanted
}
leave_when_a_procedure_ends_the_node() {
    [ "$(ask -c "SELECT balance FROM account WHERE id = 2")" = 51 ] || fail "the next version has not run"
}

meet_when_a_format_version_is_not_known() {
    command -v python3 >/dev/null || {
        reason="there is no python3 here"
        return 0
    }
    again stopped
    local file
    for file in dbos-data/log/*.seg; do
        python3 "$root/tests/integration/formats_doc.py" --set-version 9 "$file"
    done
    refuses
}
leave_when_a_format_version_is_not_known() {
    build/bin/dbosctl verify dbos-data >"$dir/said" 2>&1 || true
    grep -q "^UNKNOWN FORMAT: the segment has format version 9" "$dir/said" || fail "verify: $(cat "$dir/said")"
}

meet_when_the_directory_is_in_use() {
    again
    refuses
}
leave_when_the_directory_is_in_use() {
    grep -q "\b$pid dbosd" "$dir/printed" || fail "the node is $pid, and the page finds $(cat "$dir/printed")"
}

meet_when_memory_runs_out() {
    again --reply-memory 1
    ask -c "CREATE TABLE large (id bigint PRIMARY KEY, t text) PARTITION BY HASH (id)"
    for i in 1 2 3 4; do
        echo "INSERT INTO large VALUES ($i, '$(head -c 700000 /dev/zero | tr '\0' x)');"
    done | ask
    client ask -c "SELECT * FROM large"
}
leave_when_memory_runs_out() { [ "$(ask -c "SELECT t FROM large" | wc -c)" -gt 2800000 ] || fail "it still does not fit"; }

meet_when_there_are_too_many_connections() {
    again --connections-max 1
    mkfifo "$dir/held"
    psql -X -q -d dbos <"$dir/held" >/dev/null 2>&1 &
    holder=$!
    exec 9>"$dir/held"
    for _ in $(seq 100); do
        ask -c "SELECT 1" >"$dir/client" 2>&1 || break
        sleep 0.05
    done
    exec 9>&-
    wait "$holder" || true
    soon "SELECT count(*) = 1 FROM dbos.sessions"
}

meet_when_you_go_back_to_an_earlier_copy() {
    again
    ask -c "DELETE FROM account WHERE id = 2"
}
leave_when_you_go_back_to_an_earlier_copy() { is_good; }

# -- the page, from its beginning to its end
begin() { # a chapter
    chapter=$1
    reason=
    marked=$(wc -l <dbosd.log)
    : >"$dir/client"
    [ "$(type -t "meet_$chapter")" = function ] ||
        fail "docs/operations.md has commands in \"$chapter\": this test does not know how to run them"
    echo "$SECONDS s: $chapter"
    "meet_$chapter"
    [ -z "$reason" ] || echo "skipped: $chapter: $reason"
}
finish_chapter() {
    [ -n "$chapter" ] || return 0
    if [ -z "$reason" ] && [ "$(type -t "leave_$chapter")" = function ]; then
        "leave_$chapter"
    fi
    known+=("$chapter")
}
chapter=
reason=
known=()
skipped=0
while read -r number kind of; do
    if [ "$of" != "$chapter" ]; then
        finish_chapter
        begin "$of"
    fi
    block=$dir/block.$number.$kind
    case $kind in
    sh | text | output)
        if [ -n "$reason" ]; then
            skipped=$((skipped + 1))
            continue
        fi
        ;;&
    sh) run_block "$block" ;;
    text) seen "$block" ;;
    output) same "$block" "$dir/printed" || { cat "$dir/printed"; fail "$chapter: other output than the page's"; } ;;
    *) fail "docs/operations.md has a block that this test does not know: $kind" ;;
    esac
done <"$dir/index"
finish_chapter
for meet in $(compgen -A function meet_); do
    [[ " ${known[*]} " == *" ${meet#meet_} "* ]] || fail "docs/operations.md has no chapter ${meet#meet_} any more"
done
stop
! grep -E "SUMMARY: [A-Za-z]*Sanitizer|runtime error:" dbosd.log || fail "a sanitizer has complained"
echo "docs/operations.md: ${#known[@]} chapters, $commands commands run, $skipped blocks skipped"
