#include "procs/sql/sql_lex.h"

enum {
    TEXT_BYTES_MAX = 64 * 1048576,
    TOKENS_MAX = 500000, /* the parser takes about 5 us and 500 bytes for each */
    DEPTH_MAX = 3000,    /* tokens in one chain; the parser takes about 1 KB of stack for each */
    LEVELS_MAX = 1000,   /* of parentheses */
    CHAINED_MAX = 500,   /* JOIN, UNION, …: left-deep whatever stands between them */
    RUN_MAX = 256,       /* operator characters in a comment: the scanner reads them again for each
                            slash-star */
};

static bool is_word_start(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}
static bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }
static bool is_word(unsigned char c) { return is_word_start(c) || is_digit(c) || c == '$'; }
static bool is_blank(unsigned char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static uint32_t skip_block_comment(const char *text, uint32_t at) {
    uint32_t depth = 0;
    do {
        if (text[at] == '/' && text[at + 1] == '*') {
            depth++;
            at += 2;
        } else if (text[at] == '*' && text[at + 1] == '/') {
            depth--;
            at += 2;
        } else {
            at++;
        }
    } while (depth > 0 && text[at] != '\0');
    return at;
}

static uint32_t skip_blanks(const char *text, uint32_t at) {
    for (;;) {
        if (is_blank((unsigned char)text[at])) {
            at++;
        } else if (text[at] == '-' && text[at + 1] == '-') {
            while (text[at] != '\0' && text[at] != '\n') {
                at++;
            }
        } else if (text[at] == '/' && text[at + 1] == '*') {
            at = skip_block_comment(text, at);
        } else {
            return at;
        }
    }
}

/* Behind the closing quote; a doubled quote goes on, a backslash escapes in E'…'. */
static uint32_t skip_quoted(const char *text, uint32_t at, char quote, bool escapes) {
    at++;
    while (text[at] != '\0') {
        if (escapes && text[at] == '\\' && text[at + 1] != '\0') {
            at += 2;
        } else if (text[at] != quote) {
            at++;
        } else if (text[at + 1] == quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    return at;
}

/* $tag$ … $tag$, or `at` when this is none. */
static uint32_t skip_dollar(const char *text, uint32_t at) {
    uint32_t end = at + 1;
    while (is_word((unsigned char)text[end]) && text[end] != '$') {
        end++;
    }
    if (text[end] != '$' || is_digit((unsigned char)text[at + 1])) {
        return at;
    }
    size_t tag_bytes = end + 1 - at;
    for (uint32_t i = end + 1; text[i] != '\0'; i++) {
        if (text[i] == '$' && strncmp(text + i, text + at, tag_bytes) == 0) {
            return i + (uint32_t)tag_bytes;
        }
    }
    return end + 1 + (uint32_t)strlen(text + end + 1);
}

static bool escape_string(const char *text, uint32_t at) {
    return (text[at] == 'e' || text[at] == 'E') && text[at + 1] == '\'';
}

static uint32_t skip_number(const char *text, uint32_t at) {
    while (is_word((unsigned char)text[at]) || text[at] == '.') {
        at++;
    }
    return at;
}

struct dbos_token dbos_lex_next(const char *text, uint32_t from) {
    uint32_t at = skip_blanks(text, from);
    struct dbos_token token = {.kind = DBOS_TOKEN_OTHER, .start = at, .end = at + 1};
    unsigned char c = (unsigned char)text[at];
    if (c == '\0') {
        token.kind = DBOS_TOKEN_END;
        token.end = at;
    } else if (c == '\'' || escape_string(text, at)) {
        token.kind = DBOS_TOKEN_STRING;
        token.end = skip_quoted(text, c == '\'' ? at : at + 1, '\'', c != '\'');
    } else if (c == '"') {
        token.kind = DBOS_TOKEN_QUOTED;
        token.end = skip_quoted(text, at, '"', false);
    } else if (c == '$') {
        uint32_t end = skip_dollar(text, at);
        token.kind = end == at ? DBOS_TOKEN_OTHER : DBOS_TOKEN_STRING;
        token.end = end == at ? at + 1 : end;
    } else if (is_word_start(c)) {
        token.kind = DBOS_TOKEN_WORD;
        while (is_word((unsigned char)text[token.end])) {
            token.end++;
        }
    } else if (is_digit(c)) {
        token.kind = DBOS_TOKEN_NUMBER;
        token.end = skip_number(text, at);
    }
    return token;
}

bool dbos_lex_is(const char *text, const struct dbos_token *token, const char *word) {
    size_t size_bytes = strlen(word);
    if (token->kind != DBOS_TOKEN_WORD || token->end - token->start != size_bytes) {
        return false;
    }
    for (size_t i = 0; i < size_bytes; i++) {
        char c = text[token->start + i];
        if ((c >= 'A' && c <= 'Z' ? (char)(c + 32) : c) != word[i]) {
            return false;
        }
    }
    return true;
}

uint32_t dbos_lex_close(const char *text, uint32_t open) {
    uint32_t depth = 0;
    struct dbos_token token = dbos_lex_next(text, open);
    while (token.kind != DBOS_TOKEN_END) {
        if (text[token.start] == '(' && token.kind == DBOS_TOKEN_OTHER) {
            depth++;
        } else if (text[token.start] == ')' && token.kind == DBOS_TOKEN_OTHER && --depth == 0) {
            return token.end;
        }
        token = dbos_lex_next(text, token.end);
    }
    return 0;
}

/* The longest run of operator characters inside comments, from `at` to `end`. */
static uint32_t longest_run(const char *text, uint32_t at, uint32_t end) {
    uint32_t longest = 0;
    uint32_t run = 0;
    while (at < end) {
        if (text[at] == '-' && text[at + 1] == '-' && run == 0) { /* a line is read once */
            while (at < end && text[at] != '\n') {
                at++;
            }
            continue;
        }
        run = text[at] != '\0' && strchr("~!@#^&|`?+-*/%<>=", text[at]) != NULL ? run + 1 : 0;
        longest = run > longest ? run : longest;
        at++;
    }
    return longest;
}

/* -- depth ----------------------------------------------------------------------------------------
 */

struct depth {
    uint32_t outer[LEVELS_MAX]; /* tokens of the open chains around each level */
    uint32_t level;
    uint32_t chain; /* tokens since the last comma of this level, and of those around it */
    uint32_t chained;
};

static uint32_t level_start(const struct depth *depth) {
    return depth->level == 0 ? 0 : depth->outer[depth->level - 1];
}

static bool opens(const char *text, const struct dbos_token *token) {
    char c = text[token->start];
    return (token->kind == DBOS_TOKEN_OTHER && (c == '(' || c == '[')) ||
           dbos_lex_is(text, token, "case");
}
static bool closes(const char *text, const struct dbos_token *token) {
    char c = text[token->start];
    return (token->kind == DBOS_TOKEN_OTHER && (c == ')' || c == ']')) ||
           dbos_lex_is(text, token, "end");
}
/* AND and OR make flat lists, not chains. */
static bool separates(const char *text, const struct dbos_token *token) {
    char c = text[token->start];
    return (token->kind == DBOS_TOKEN_OTHER && (c == ',' || c == ';')) ||
           dbos_lex_is(text, token, "and") || dbos_lex_is(text, token, "or");
}
static bool chains(const char *text, const struct dbos_token *token) {
    return dbos_lex_is(text, token, "join") || dbos_lex_is(text, token, "union") ||
           dbos_lex_is(text, token, "except") || dbos_lex_is(text, token, "intersect");
}

static bool count_token(struct depth *depth, const char *text, const struct dbos_token *token) {
    depth->chain++;
    depth->chained += chains(text, token) ? 1 : 0;
    if (opens(text, token)) {
        if (depth->level == LEVELS_MAX) {
            return false;
        }
        depth->outer[depth->level++] = depth->chain;
    } else if (closes(text, token)) {
        if (depth->level > 0) {
            depth->level--;
            depth->chain = depth->outer[depth->level];
        }
    } else if (separates(text, token)) {
        depth->chain = level_start(depth);
    }
    return depth->chain <= DEPTH_MAX && depth->chained <= CHAINED_MAX;
}

enum dbos_err dbos_lex_check_depth(const char *text, struct dbos_errinfo *info) {
    if (strlen(text) > TEXT_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "statement is over 64 MB");
    }
    struct depth depth = {.level = 0};
    uint32_t at = 0;
    uint32_t tokens = 0;
    bool more = true;
    while (more) {
        if (tokens++ == TOKENS_MAX) {
            return dbos_fail(info, DBOS_ERR_LIMIT, "statement has more than %d words and symbols",
                             TOKENS_MAX);
        }
        struct dbos_token token = dbos_lex_next(text, at);
        bool shallow = longest_run(text, at, token.start) <= RUN_MAX;
        more = token.kind != DBOS_TOKEN_END;
        at = token.end;
        if (!shallow || (more && !count_token(&depth, text, &token))) {
            enum dbos_err err = dbos_fail(info, DBOS_ERR_TOO_COMPLEX, "stack depth limit exceeded");
            dbos_err_hint(info, "The statement is nested too deeply.");
            return err;
        }
    }
    return DBOS_OK;
}
