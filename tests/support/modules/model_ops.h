/* What the model test's procedures, its ad hoc statements and its oracle share: the operations, the
 * statement of each on each table, and the hash of a row.
 *
 * An operation is one execution of one statement. A program is an array of operations, handed to
 * model_ops.c as a bytea; the statement numbers of its transaction are 1, 2, ... in that order.
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_TESTS_SUPPORT_MODULES_MODEL_OPS_H
#define DBOS_TESTS_SUPPORT_MODULES_MODEL_OPS_H

#include <stdint.h>
#include <string.h>

enum {
    MODEL_ITEMS, /* key a, PARTITION BY HASH (a), ordered index on g */
    MODEL_NOTES, /* key a, unpartitioned, hash index on g */
    MODEL_PAIRS, /* key (a, b), PARTITION BY HASH (a), ordered index on g */
    MODEL_LATER, /* key a, PARTITION BY HASH (a), no index; created late: only ad hoc statements */
    MODEL_TABLES,
};
enum { MODEL_PROCEDURE_TABLES = MODEL_LATER };

enum {
    MODEL_READ_KEY,
    MODEL_READ_KEY_FILTER,
    MODEL_INSERT,
    MODEL_INSERT_TWO,
    MODEL_UPDATE,
    MODEL_UPDATE_GROUP,
    MODEL_UPDATE_KEY,
    MODEL_DELETE,
    MODEL_READ_GROUP,
    MODEL_READ_GROUP_FILTER,
    MODEL_READ_GROUPS,
    MODEL_READ_VALUES,
    MODEL_READ_SCAN,
    MODEL_CHANGE_GROUP,
    MODEL_MOVE_GROUPS,
    MODEL_CHANGE_VALUES,
    MODEL_CHANGE_SCAN,
    MODEL_DELETE_GROUPS,
    MODEL_DELETE_SCAN,
    MODEL_READ_TAIL,
    MODEL_CHANGE_HEAD,
    MODEL_COPY_GROUP,
    MODEL_KINDS,
    MODEL_ABORT = MODEL_KINDS, /* dbos_abort(): no statement */
};

/* As handed over in a bytea: native order, the module runs on the machine that sent it. */
struct model_op {
    int32_t kind; /* MODEL_READ_KEY ... */
    int32_t table;
    int32_t a, b;    /* key */
    int32_t x, y, z; /* see model_parameters() */
    int32_t s;       /* column s: the text "s<n>"; negative = NULL */
};
_Static_assert(sizeof(struct model_op) == 32, "sent format");

enum { MODEL_SCAN_MODULUS = 31, MODEL_TEXT_BYTES = 16, MODEL_PROGRAM_MAX = 24 };

/* The parameters of a statement in order: K = key columns, a letter = that member. */
static inline const char *model_parameters(int32_t kind) {
    static const char *const parameters[MODEL_KINDS] = {
        [MODEL_READ_KEY] = "K",      [MODEL_READ_KEY_FILTER] = "Kx",
        [MODEL_INSERT] = "abxys",    [MODEL_INSERT_TWO] = "abxys",
        [MODEL_UPDATE] = "Kxs",      [MODEL_UPDATE_GROUP] = "Kx",
        [MODEL_UPDATE_KEY] = "Kx",   [MODEL_DELETE] = "K",
        [MODEL_READ_GROUP] = "x",    [MODEL_READ_GROUP_FILTER] = "xy",
        [MODEL_READ_GROUPS] = "xy",  [MODEL_READ_VALUES] = "xy",
        [MODEL_READ_SCAN] = "x",     [MODEL_CHANGE_GROUP] = "xy",
        [MODEL_MOVE_GROUPS] = "xyz", [MODEL_CHANGE_VALUES] = "xyz",
        [MODEL_CHANGE_SCAN] = "xs",  [MODEL_DELETE_GROUPS] = "xy",
        [MODEL_DELETE_SCAN] = "x",   [MODEL_READ_TAIL] = "ax",
        [MODEL_CHANGE_HEAD] = "ax",  [MODEL_COPY_GROUP] = "xy",
    };
    return parameters[kind];
}

/* clang-format off */
#define MODEL_COLUMNS "a, b, g, v, s"
/* T = table, K = condition on the key, P1 P2 = the parameters after it, C = the column that
 * MODEL_UPDATE_KEY changes. */
#define MODEL_STATEMENTS_OF(T, K, P1, P2, C)                                                       \
    "SELECT " MODEL_COLUMNS " FROM " T " WHERE " K,                                                \
    "SELECT " MODEL_COLUMNS " FROM " T " WHERE " K " AND v % 31 < " P1,                            \
    "INSERT INTO " T " VALUES ($1, $2, $3, $4, $5)",                                               \
    "INSERT INTO " T " VALUES ($1, $2, $3, $4, $5), ($1 + 1, $2, $3 + 1, $4 + 1, $5)",             \
    "UPDATE " T " SET v = v + " P1 ", s = " P2 " WHERE " K,                                        \
    "UPDATE " T " SET g = " P1 " WHERE " K,                                                        \
    "UPDATE " T " SET " C " = " P1 " WHERE " K,                                                    \
    "DELETE FROM " T " WHERE " K,                                                                  \
    "SELECT " MODEL_COLUMNS " FROM " T " WHERE g = $1",                                            \
    "SELECT " MODEL_COLUMNS " FROM " T " WHERE g = $1 AND v % 31 < $2",                            \
    "SELECT " MODEL_COLUMNS " FROM " T " WHERE g >= $1 AND g < $2 ORDER BY g",                     \
    "SELECT " MODEL_COLUMNS " FROM " T " WHERE v >= $1 AND v < $2",                                \
    "SELECT " MODEL_COLUMNS " FROM " T " WHERE v % 31 = $1",                                       \
    "UPDATE " T " SET v = v + $2 WHERE g = $1",                                                    \
    "UPDATE " T " SET g = g + $3 WHERE g >= $1 AND g < $2",                                        \
    "UPDATE " T " SET v = v + $3 WHERE v >= $1 AND v < $2",                                        \
    "UPDATE " T " SET s = $2 WHERE v % 31 = $1",                                                   \
    "DELETE FROM " T " WHERE g >= $1 AND g < $2",                                                  \
    "DELETE FROM " T " WHERE v % 31 = $1",                                                         \
    "SELECT " MODEL_COLUMNS " FROM " T " WHERE a = $1 AND b >= $2",                                \
    "UPDATE " T " SET v = v + $2 WHERE a = $1",                                                    \
    "INSERT INTO " T " SELECT a + $2, b, g, v, s FROM " T " WHERE g = $1"
#define MODEL_STATEMENTS                                                                           \
    MODEL_STATEMENTS_OF("items", "a = $1", "$2", "$3", "a"),                                       \
    MODEL_STATEMENTS_OF("notes", "a = $1", "$2", "$3", "a"),                                       \
    MODEL_STATEMENTS_OF("pairs", "a = $1 AND b = $2", "$3", "$4", "b")
#define MODEL_STATEMENTS_LATER MODEL_STATEMENTS_OF("later", "a = $1", "$2", "$3", "a")
/* clang-format on */

static inline int model_key_columns(int32_t table) { return table == MODEL_PAIRS ? 2 : 1; }

/* A number that depends on every column; the sum over rows does not depend on their order. */
static inline uint64_t model_row_hash(int64_t a, int64_t b, int64_t g, int64_t v, const char *s,
                                      size_t s_bytes) {
    uint64_t hash = 1469598103934665603u;
    int64_t numbers[4] = {a, b, g, v};
    for (int i = 0; i < 4; i++) {
        hash = (hash ^ (uint64_t)numbers[i]) * 1099511628211u;
        hash ^= hash >> 29;
    }
    for (size_t i = 0; s != NULL && i < s_bytes; i++) {
        hash = (hash ^ (uint64_t)(unsigned char)s[i]) * 1099511628211u;
    }
    return s == NULL ? ~hash : hash;
}

/* The value of a program: of every statement, how many rows, and the sum of their hashes. */
static inline uint64_t model_value_add(uint64_t value, int64_t rows, uint64_t row_hashes) {
    return value * 31 + (uint64_t)rows * 7 + row_hashes;
}

#endif /* DBOS_TESTS_SUPPORT_MODULES_MODEL_OPS_H */
