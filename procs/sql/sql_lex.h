/* A light scanner of SQL text: words, punctuation, and what must be skipped (strings, comments).
 *
 * It guards the parser, whose recursion has no limit of its own, and finds the ends of provenance
 * calls. It accepts anything; what is no SQL is the parser's to refuse.
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_PROCS_SQL_SQL_LEX_H
#define DBOS_PROCS_SQL_SQL_LEX_H

#include "base/bytes.h"

enum dbos_token_kind {
    DBOS_TOKEN_END,
    DBOS_TOKEN_WORD,   /* keyword or plain identifier */
    DBOS_TOKEN_STRING, /* '…', E'…', $tag$…$tag$ */
    DBOS_TOKEN_QUOTED, /* "…" */
    DBOS_TOKEN_NUMBER,
    DBOS_TOKEN_OTHER, /* one byte of punctuation */
};
struct dbos_token {
    enum dbos_token_kind kind;
    uint32_t start; /* bytes */
    uint32_t end;
};
/* The token that begins at or after byte `from`. */
struct dbos_token dbos_lex_next(const char *text, uint32_t from);
/* Is the token this word, whatever the case? `word` is in lower case. */
bool dbos_lex_is(const char *text, const struct dbos_token *token, const char *word);
/* The byte behind the parenthesis that closes the one at byte `open`; 0 = none does. */
uint32_t dbos_lex_close(const char *text, uint32_t open);

/* Could the parser recurse too deeply on this text? Counts tokens between commas, summed over open
 * parentheses: an upper bound of the tree's depth, times a small constant.
 * Errors: TOO_COMPLEX, LIMIT (text over 64 MB, or over 500,000 tokens). */
enum dbos_err dbos_lex_check_depth(const char *text, struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_PROCS_SQL_SQL_LEX_H */
