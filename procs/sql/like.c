/* LIKE and ILIKE: % is any run, _ is one character, \ takes the next one literally. */
#include "procs/sql/expr.h"

static uint8_t fold(uint8_t c, bool ignore_case) {
    return ignore_case && c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static size_t char_bytes(struct dbos_bytes text, size_t at) {
    size_t end = at + 1;
    while (end < text.size_bytes && (text.data[end] & 0xc0) == 0x80) {
        end++;
    }
    return end - at;
}

static enum dbos_err check_pattern(struct dbos_bytes pattern, struct dbos_errinfo *info) {
    for (size_t i = 0; i < pattern.size_bytes; i++) {
        if (pattern.data[i] == '\\' && ++i == pattern.size_bytes) {
            return dbos_fail_state(info, DBOS_ERR_INVALID_PARAMETER, "22025",
                                   "LIKE pattern must not end with escape character");
        }
    }
    return DBOS_OK;
}

/* Does the pattern's next element match the text's next character? Moves both on. */
static bool match_one(struct dbos_bytes text, size_t *t, struct dbos_bytes pattern, size_t *p,
                      bool ignore_case) {
    if (*p == pattern.size_bytes || pattern.data[*p] == '%') {
        return false;
    }
    if (pattern.data[*p] == '_') {
        (*p)++;
        *t += char_bytes(text, *t);
        return true;
    }
    size_t literal = pattern.data[*p] == '\\' ? *p + 1 : *p;
    if (fold(pattern.data[literal], ignore_case) != fold(text.data[*t], ignore_case)) {
        return false;
    }
    *p = literal + 1;
    (*t)++;
    return true;
}

enum dbos_err dbos_like(struct dbos_bytes text, struct dbos_bytes pattern, bool ignore_case,
                        bool *out, struct dbos_errinfo *info) {
    *out = false;
    enum dbos_err err = check_pattern(pattern, info);
    if (err != DBOS_OK) {
        return err;
    }
    size_t t = 0;
    size_t p = 0;
    size_t retry_t = 0;
    size_t retry_p = SIZE_MAX; /* behind the last %; there is none yet */
    while (t < text.size_bytes) {
        if (match_one(text, &t, pattern, &p, ignore_case)) {
            continue;
        }
        if (p < pattern.size_bytes && pattern.data[p] == '%') {
            retry_p = ++p;
            retry_t = t;
            continue;
        }
        if (retry_p == SIZE_MAX) {
            return DBOS_OK;
        }
        retry_t += char_bytes(text, retry_t); /* let the last % take one character more */
        t = retry_t;
        p = retry_p;
    }
    while (p < pattern.size_bytes && pattern.data[p] == '%') {
        p++;
    }
    *out = p == pattern.size_bytes;
    return DBOS_OK;
}
