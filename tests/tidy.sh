#!/bin/bash
# Rules of the style guide that a search can check. Prints each finding; fails where there is one.
# A line that must break the memory rule (freeing what a library allocated) says so with a comment
# that begins "tidy:" and gives the reason.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C.UTF-8
folders="base storage provenance txn procs engine gpu tools tests bench"

present() { # names on standard input, without those deleted but not yet committed
    local file
    while IFS= read -r file; do
        [ -f "$file" ] && echo "$file"
    done
}

listed() { # of the working tree, what git would carry
    git ls-files --cached --others --exclude-standard "$@" | sort -u | present
}

# say RULE: adds the rule to each finding on standard input.
say() {
    sed "s|\$|: $1|"
}

mapfile -t sources < <(listed '*.c' '*.h')
mapfile -t headers < <(listed '*.h')
mapfile -t texts < <(listed '*.c' '*.h' '*.sh' '*.cmake' '*.sql' '*.md' '*CMakeLists.txt' Makefile)

rule_lines() {
    wc -l "${sources[@]}" |
        awk '$2 != "total" && (($2 ~ /\.c$/ && $1 > 1000) || ($2 ~ /\.h$/ && $1 > 260)) {
            print $2 " has " $1 " lines" }' | say "at most 1000 in a source, 260 in a header"
}

rule_columns() {
    grep -HnoE '^.{101,}$' "${sources[@]}" | cut -d: -f1,2 | say "longer than 100 columns"
}

# Whole words, spelt so that this file does not contain them.
rule_words() {
    grep -HnowE 'TO''DO|FIX''ME|XX''X|HA''CK' "${texts[@]}" | say "do it, or open an issue"
}

rule_includes() {
    local file line path
    grep -HnE '^ *# *include +"' "${sources[@]}" |
        sed -E 's/^([^:]*):([0-9]+):.*"([^"]*)".*/\1 \2 \3/' |
        while read -r file line path; do
            [ -f "$path" ] || [ -f "procs/include/$path" ] ||
                echo "$file:$line: \"$path\" is not a path from the root"
        done
}

# DBOS_<FOLDER>_<FILE>_H; in a folder of a folder, the last or all of them.
rule_guards() {
    local file long short
    for file in "${headers[@]}"; do
        long=DBOS_$(tr 'a-z/.-' 'A-Z___' <<<"${file#procs/include/dbos/}")
        short=DBOS_$(basename "$(dirname "$file")" | tr 'a-z-' 'A-Z_')_$(basename "$file" |
            tr 'a-z.-' 'A-Z__')
        if ! grep -qE "^#ifndef ($long|$short)\$" "$file" ||
            ! grep -qE "^#define ($long|$short)\$" "$file"; then
            echo "$file: has no header guard $short"
        fi
    done
}

rule_memory() {
    local file
    for file in "${sources[@]}"; do
        case "$file" in
        base/alloc.c | tests/* | bench/*) continue ;;
        esac
        grep -HnE '(^|[^_A-Za-z0-9>.])(malloc|calloc|realloc|free|strdup|strndup|asprintf) ?\(' \
            "$file" | grep -vE 'tidy: |: *(/?\*|//)' | cut -d: -f1,2
    done | say "memory comes from a struct dbos_alloc"
}

rule_readmes() {
    local folder heading
    for folder in $folders; do
        [ -n "$(listed "$folder")" ] || continue
        for heading in 'What it is' 'What flows in and out' 'Files in reading order' \
            'Invariants' 'How it is tested'; do
            grep -qiE "^#+ $heading" "$folder/README.md" 2>/dev/null ||
                echo "$folder/README.md: has no heading \"$heading\""
        done
    done
}

[ "${#sources[@]}" -gt 0 ] || { echo "no sources found" && exit 1; }
findings=$(
    rule_lines
    rule_columns
    rule_words
    rule_includes
    rule_guards
    rule_memory
    rule_readmes
)
if [ -n "$findings" ]; then
    echo "$findings"
    echo "tidy: $(wc -l <<<"$findings") findings"
    exit 1
fi
echo "tidy: ${#sources[@]} sources, ${#texts[@]} texts, no finding"
