/* Access paths: which index bounds a WHERE clause best.
 *
 *   all columns of a unique index equal        find
 *   equal leading columns of an ordered index, perhaps a range of the next one;
 *   all columns of a hash index equal          range
 *   else                                       full scan */
#include "procs/sql/plan.h"

enum { CONJUNCTS_MAX = 64 };

/* column <compare> value, where value is the same for all rows. */
struct condition {
    uint32_t column;
    enum dbos_compare compare;
    struct dbos_expr *value;
};
struct conditions {
    struct condition items[CONJUNCTS_MAX];
    uint32_t count;
};

static bool is_fixed(const struct dbos_expr *expr) {
    struct dbos_expr_uses uses = {false, false, false, false};
    dbos_expr_uses(expr, &uses);
    return !uses.columns && !uses.aggregates && !uses.volatile_functions;
}

static enum dbos_compare mirrored(enum dbos_compare compare) {
    switch (compare) {
    case DBOS_COMPARE_LT:
        return DBOS_COMPARE_GT;
    case DBOS_COMPARE_LE:
        return DBOS_COMPARE_GE;
    case DBOS_COMPARE_GT:
        return DBOS_COMPARE_LT;
    case DBOS_COMPARE_GE:
        return DBOS_COMPARE_LE;
    case DBOS_COMPARE_EQ:
    case DBOS_COMPARE_NE:
        break;
    }
    return compare;
}

static void add_condition(struct conditions *conditions, const struct dbos_expr *column,
                          enum dbos_compare compare, struct dbos_expr *value) {
    if (column->kind != DBOS_EXPR_COLUMN || compare == DBOS_COMPARE_NE || !is_fixed(value) ||
        !dbos_type_comparable((enum dbos_type)column->type, (enum dbos_type)value->type) ||
        conditions->count == CONJUNCTS_MAX) {
        return;
    }
    conditions->items[conditions->count++] =
        (struct condition){.column = column->number, .compare = compare, .value = value};
}

static void collect(struct conditions *conditions, const struct dbos_expr *expr) {
    if (expr->kind == DBOS_EXPR_AND) {
        for (uint32_t i = 0; i < expr->count; i++) {
            collect(conditions, expr->args[i]);
        }
    } else if (expr->kind == DBOS_EXPR_COMPARE) {
        enum dbos_compare compare = (enum dbos_compare)expr->number;
        add_condition(conditions, expr->args[0], compare, expr->args[1]);
        add_condition(conditions, expr->args[1], mirrored(compare), expr->args[0]);
    }
}

static struct dbos_expr *equal_value(const struct conditions *conditions, uint32_t column) {
    for (uint32_t i = 0; i < conditions->count; i++) {
        if (conditions->items[i].column == column &&
            conditions->items[i].compare == DBOS_COMPARE_EQ) {
            return conditions->items[i].value;
        }
    }
    return NULL;
}

static void find_bounds(const struct conditions *conditions, uint32_t column,
                        struct dbos_access *access) {
    for (uint32_t i = 0; i < conditions->count; i++) {
        const struct condition *condition = &conditions->items[i];
        bool low = condition->compare == DBOS_COMPARE_GT || condition->compare == DBOS_COMPARE_GE;
        bool high = condition->compare == DBOS_COMPARE_LT || condition->compare == DBOS_COMPARE_LE;
        if (condition->column != column) {
            continue;
        }
        if (low && access->low == NULL) {
            access->low = condition->value;
            access->low_inclusive = condition->compare == DBOS_COMPARE_GE;
        } else if (high && access->high == NULL) {
            access->high = condition->value;
            access->high_inclusive = condition->compare == DBOS_COMPARE_LE;
        }
    }
}

/* What one index can do. Returns how good it is; 0 = nothing. */
static uint32_t try_index(const struct dbos_table_def *def, uint32_t index,
                          const struct conditions *conditions, struct dbos_access *out) {
    const struct dbos_index_def *key = &def->indexes[index];
    out->index = index;
    out->kind = DBOS_ACCESS_RANGE;
    while (out->key_count < key->column_count) {
        out->key[out->key_count] = equal_value(conditions, key->columns[out->key_count]);
        if (out->key[out->key_count] == NULL) {
            break;
        }
        out->key_count++;
    }
    bool all = out->key_count == key->column_count;
    if (all && key->unique) {
        out->kind = DBOS_ACCESS_FIND;
        return 1000;
    }
    if (key->kind == DBOS_INDEX_HASH) {
        return all ? 900 : 0;
    }
    if (!all) {
        find_bounds(conditions, key->columns[out->key_count], out);
    }
    return out->key_count * 10 + (out->low != NULL ? 3 : 0) + (out->high != NULL ? 3 : 0);
}

/* Is it one of the equations that the key of a find is made of? The index decides that one. */
static bool is_of_key(const struct dbos_access *access, const struct dbos_expr *expr) {
    const struct dbos_index_def *index = &access->def->indexes[access->index];
    if (expr->kind != DBOS_EXPR_COMPARE || expr->number != DBOS_COMPARE_EQ) {
        return false;
    }
    for (uint32_t i = 0; i < access->key_count; i++) {
        for (uint32_t side = 0; side < 2; side++) {
            const struct dbos_expr *column = expr->args[side];
            if (expr->args[1 - side] == access->key[i] && column->kind == DBOS_EXPR_COLUMN &&
                column->number == index->columns[i]) {
                return true;
            }
        }
    }
    return false;
}

/* What of WHERE is left when the row has been found by its key; NULL: nothing. */
static struct dbos_expr *left_of_where(struct dbos_binder *binder, const struct dbos_access *access,
                                       struct dbos_expr *expr) {
    if (is_of_key(access, expr)) {
        return NULL;
    }
    if (expr->kind != DBOS_EXPR_AND) {
        return expr;
    }
    struct dbos_expr **args = dbos_arena_take(binder->arena, expr->count * sizeof *args);
    struct dbos_expr *left = dbos_arena_take(binder->arena, sizeof *left);
    if (args == NULL || left == NULL) {
        return expr; /* what is checked twice is right, too */
    }
    *left = *expr;
    left->args = args;
    left->count = 0;
    for (uint32_t i = 0; i < expr->count; i++) {
        args[left->count] = left_of_where(binder, access, expr->args[i]);
        left->count += args[left->count] != NULL;
    }
    return left->count == 0 ? NULL : left->count == 1 ? args[0] : left;
}

void dbos_plan_access(struct dbos_binder *binder, struct dbos_access *access) {
    struct conditions conditions = {.count = 0};
    const struct dbos_table_def *def = access->def;
    access->kind = DBOS_ACCESS_FULL;
    if (access->where != NULL) {
        collect(&conditions, access->where);
    }
    if (def->partition_column >= 0) {
        access->partition = equal_value(&conditions, (uint32_t)def->partition_column);
    }
    uint32_t best = 0;
    struct dbos_access plain = *access;
    for (uint32_t i = 0; i < def->index_count; i++) {
        struct dbos_access candidate = plain;
        uint32_t score = try_index(def, i, &conditions, &candidate);
        if (score > best) {
            best = score;
            *access = candidate;
        }
    }
    if (access->kind == DBOS_ACCESS_FIND) {
        access->where = left_of_where(binder, access, access->where);
    }
}

/* ORDER BY the columns behind the equal ones of an ordered index, all in one direction. A range
 * scan in one partition gives that order; NULLs last when ascending, as the index has them. */
static bool gives_order(const struct dbos_access *access, uint32_t index,
                        const struct dbos_select_plan *select, uint32_t key_count) {
    const struct dbos_index_def *key = &access->def->indexes[index];
    if (key->kind != DBOS_INDEX_ORDERED || select->sort_count + key_count > key->column_count) {
        return false;
    }
    bool descending = select->sort[0].descending;
    for (uint32_t i = 0; i < select->sort_count; i++) {
        const struct dbos_expr *expr = select->exprs[select->sort[i].output];
        if (expr->kind != DBOS_EXPR_COLUMN || expr->number != key->columns[key_count + i] ||
            select->sort[i].descending != descending || select->sort[i].nulls_first != descending) {
            return false;
        }
    }
    return true;
}

void dbos_plan_order(struct dbos_access *access, const struct dbos_select_plan *select) {
    if (select->sort_count == 0 || select->aggregated || select->distinct) {
        return;
    }
    bool full = access->kind == DBOS_ACCESS_FULL && select->limit != NULL;
    if (access->kind == DBOS_ACCESS_RANGE &&
        gives_order(access, access->index, select, access->key_count)) {
        access->in_order = true;
        access->descending = select->sort[0].descending;
    }
    for (uint32_t i = 0; full && i < access->def->index_count; i++) {
        if (gives_order(access, i, select, 0)) {
            access->kind = DBOS_ACCESS_RANGE;
            access->index = i;
            access->in_order = true;
            access->descending = select->sort[0].descending;
            return;
        }
    }
}
