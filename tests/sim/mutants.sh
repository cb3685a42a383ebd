#!/bin/bash
# Mechanical mutants of the code that writes, reads and recovers the log: one line at a time is made
# wrong, and the simulator looks. Prints each, and how many it saw of how many.
#   mutants.sh [COUNT] [SEED]     by hand: some seconds each
. "$(dirname "${BASH_SOURCE[0]}")/copy.sh"
wanted=${1:-120}
seed=${2:-1}
seconds=${SECONDS_EACH:-300} # far more than the seeds need, even on a busy machine
seeds=${SEEDS_EACH:-120}
files=(txn/log.c txn/log_segment.c txn/log_recover.c txn/log_entry.c txn/appliers.c txn/apply.c txn/snapshot_take.c
    txn/snapshot_load.c txn/snapshot_format.c txn/txn_commit.c provenance/segment.c provenance/segment_format.c
    provenance/blob.c storage/table_copy.c)

# Lines "file:number:edit". Comments, checks, what only counts, and what only says something are left alone.
candidates() {
    local file
    for file in "${files[@]}"; do
        [ -e "$root/$file" ] || continue
        awk -v file="$file" '
            function put(edit) { print file ":" FNR ":" edit }
            says { says = !/;/; next } # the rest of a call that only says something
            /dbos_log\(|dbos_fail|dbos_err_(detail|hint)|printf|static_assert/ { says = !/;/ }
            /^ *(\/\*|\*|#|\/\/)/ || /\/\*/ || /^[^ ]/ { next }
            /DBOS_CHECK|dbos_log\(|dbos_fail|dbos_err_(detail|hint)|static_assert|stats\.|histogram|unused|\(void\)pthread_(mutex|cond)_(init|destroy)|printf/ { next }
            / == / { put("s/ == / != /") }
            / != / { put("s/ != / == /") }
            / < / { put("s/ < / <= /") }
            / <= / { put("s/ <= / < /") }
            / > / { put("s/ > / >= /") }
            / >= / { put("s/ >= / > /") }
            / && / { put("s/ \\&\\& / || /") }
            / \|\| / { put("s/ || / \\&\\& /") }
            / \+ 1[^0-9]/ { put("s/ + 1/ + 2/") }
            /^ +(err|enum dbos_err err) = [a-z_>.-]+\(.*\);$/ { put("s/= .*;$/= DBOS_OK;/") }
            /^ +[a-z_]+\([^;]*\);$/ { put("s/^\\( *\\).*;$/\\1;/") }
            /^ +[a-z_>.-]+ \+= .*;$/ { put("s/^\\( *\\).*;$/\\1;/") }
            /^ +[a-z_]+->[a-z_>.]+ = .*;$/ { put("s/^\\( *\\).*;$/\\1;/") }
            /return dbos_fail|return err;/ { next }
            /if \(.*\) \{$/ { put("s/if (\\(.*\\)) {$/if (!(\\1)) {/") }
        ' "$root/$file"
    done
}

copy_tree
mapfile -t chosen < <(candidates | shuf --random-source=<(yes "$seed"))
tried=0 seen=0
for mutant in "${chosen[@]}"; do
    [ "$tried" -lt "$wanted" ] || break
    file=${mutant%%:*}
    rest=${mutant#*:}
    line=${rest%%:*}
    edit=${rest#*:}
    change "$file" "${line}${edit}"
    if is_changed "$file" && build; then
        tried=$((tried + 1))
        what="$file:$line: $(sed -n "${line}p" "$copy/as_it_was" | sed 's/^ *//') -> $(sed -n "${line}p" "$copy/$file" | sed 's/^ *//')"
        if simulate "$seeds"; then
            seen=$((seen + 1))
            echo "seen     $what: $found"
        else
            echo "NOT SEEN $what"
        fi
    fi
    change_back "$file"
done
echo "$seen of $tried mutants seen ($((100 * seen / (tried == 0 ? 1 : tried))) %), of ${#chosen[@]} candidates, seed $seed, $seeds seeds each"
