#include "tests/sim/model.h"

#include <stdio.h>
#include <string.h>

static struct sim_answer failure(const char *sqlstate) {
    struct sim_answer answer = {0};
    (void)snprintf(answer.error, sizeof answer.error, "%s", sqlstate);
    return answer;
}

static struct sim_answer changed(int64_t count) { return (struct sim_answer){.changed = count}; }

static void write_row(struct sim_row *row, int64_t n, uint64_t position) {
    row->n = n;
    row->position = position;
}

static struct sim_answer insert(struct sim_model *model, const struct sim_op *op,
                                uint64_t position) {
    struct sim_row *row = &model->rows[op->a];
    if (row->is_there) {
        return failure("23505");
    }
    *row = (struct sim_row){true, op->n, op->text_bytes, op->letter, position};
    return changed(1);
}

static struct sim_answer add_range(struct sim_model *model, int64_t from, int64_t to, int64_t n,
                                   uint64_t position) {
    int64_t count = 0;
    for (int64_t k = from; k < to; k++) {
        struct sim_row *row = &model->rows[k];
        if (row->is_there) {
            write_row(row, row->n + n, position);
            count++;
        }
    }
    return changed(count);
}

static struct sim_answer divide_range(struct sim_model *model, const struct sim_op *op,
                                      uint64_t position) {
    for (int64_t k = op->a; k < op->b; k++) {
        if (model->rows[k].is_there && model->rows[k].n == op->n) {
            return failure("22012");
        }
    }
    int64_t count = 0;
    for (int64_t k = op->a; k < op->b; k++) {
        struct sim_row *row = &model->rows[k];
        if (row->is_there) {
            write_row(row, 1000 / (row->n - op->n), position);
            count++;
        }
    }
    return changed(count);
}

static struct sim_answer remove_row(struct sim_model *model, const struct sim_op *op) {
    bool was_there = model->rows[op->a].is_there;
    model->rows[op->a].is_there = false;
    return changed(was_there);
}

static struct sim_answer get(const struct sim_model *model, const struct sim_op *op) {
    const struct sim_row *row = &model->rows[op->a];
    struct sim_answer answer = {.changed = row->is_there};
    if (row->is_there) {
        answer.rows = 1;
        answer.values[0] = row->n;
        answer.values[1] = row->text_bytes;
    }
    return answer;
}

static struct sim_answer count(const struct sim_model *model) {
    struct sim_answer answer = {.rows = 1, .changed = 1, .is_null = {false, true}};
    for (uint32_t k = 0; k < SIM_KEYS; k++) {
        if (model->rows[k].is_there) {
            answer.values[0]++;
            answer.values[1] += model->rows[k].n;
            answer.is_null[1] = false;
        }
    }
    return answer;
}

static struct sim_answer transfer(struct sim_model *model, const struct sim_op *op,
                                  uint64_t position) {
    struct sim_answer from = add_range(model, op->a, op->a + 1, -op->n, position);
    struct sim_answer to = add_range(model, op->b, op->b + 1, op->n, position);
    return changed(from.changed + to.changed);
}

static struct sim_answer small_count(const struct sim_model *model) {
    struct sim_answer answer = {.rows = 1, .changed = 1, .values = {SIM_SMALL_KEYS, 0}};
    for (uint32_t k = 0; k < SIM_SMALL_KEYS; k++) {
        answer.values[1] += model->small[k];
    }
    return answer;
}

static struct sim_answer make_index(struct sim_model *model, bool has) {
    if (model->has_index == has) {
        return failure(has ? "42P07" : "42704");
    }
    model->has_index = has;
    return changed(0);
}

static struct sim_answer make_table(struct sim_model *model, bool has) {
    if (model->has_table == has) {
        return failure(has ? "42P07" : "42P01");
    }
    model->has_table = has;
    memset(model->in_table, 0, sizeof model->in_table);
    return changed(0);
}

static struct sim_answer table_insert(struct sim_model *model, const struct sim_op *op) {
    if (!model->has_table) {
        return failure("42P01");
    }
    if (model->in_table[op->a]) {
        return failure("23505");
    }
    model->in_table[op->a] = true;
    return changed(1);
}

static struct sim_answer run(struct sim_model *model, const struct sim_op *op, uint64_t position) {
    switch (op->kind) {
    case SIM_INSERT:
        return insert(model, op, position);
    case SIM_ADD:
        return add_range(model, op->a, op->a + 1, op->n, position);
    case SIM_DELETE:
        return remove_row(model, op);
    case SIM_ADD_RANGE:
        return add_range(model, op->a, op->b, op->n, position);
    case SIM_DIVIDE_RANGE:
        return divide_range(model, op, position);
    case SIM_GET:
        return get(model, op);
    case SIM_COUNT:
        return count(model);
    case SIM_TRANSFER:
        return transfer(model, op, position);
    case SIM_TRANSFER_BAD:
        return failure("22012");
    case SIM_SMALL_ADD:
        model->small[op->a] += op->n;
        return changed(1);
    case SIM_SMALL_COUNT:
        return small_count(model);
    case SIM_INDEX:
        return make_index(model, true);
    case SIM_DROP_INDEX:
        return make_index(model, false);
    case SIM_TABLE:
        return make_table(model, true);
    case SIM_DROP_TABLE:
        return make_table(model, false);
    case SIM_TABLE_INSERT:
        return table_insert(model, op);
    case SIM_KINDS:
        break;
    }
    return failure("XX000");
}

bool sim_is_ddl(const struct sim_op *op) {
    return op->kind == SIM_INDEX || op->kind == SIM_DROP_INDEX || op->kind == SIM_TABLE ||
           op->kind == SIM_DROP_TABLE;
}

static bool writes(const struct sim_op *op) {
    return op->kind != SIM_GET && op->kind != SIM_COUNT && op->kind != SIM_SMALL_COUNT &&
           !sim_is_ddl(op);
}

struct sim_answer sim_model_run(struct sim_model *model, const struct sim_op *op, uint64_t position,
                                bool look, uint32_t *out_writes) {
    static struct sim_model copy;
    *out_writes = 0;
    if (op->key >= 0 && model->has_key[op->key]) {
        return model->kept[op->key];
    }
    if (look) {
        copy = *model;
        model = &copy;
    }
    struct sim_answer answer = run(model, op, position);
    if (answer.error[0] == '\0') {
        *out_writes = writes(op) ? (uint32_t)answer.changed : 0;
        if (op->key >= 0) {
            model->has_key[op->key] = true;
            model->kept[op->key] = answer;
            *out_writes += 1;
        }
    }
    return answer;
}

bool sim_answers_agree(const struct sim_answer *one, const struct sim_answer *other) {
    bool agree = strcmp(one->error, other->error) == 0 && one->rows == other->rows &&
                 one->changed == other->changed;
    for (uint32_t i = 0; i < 2 && one->rows != 0; i++) {
        agree = agree && one->is_null[i] == other->is_null[i] &&
                (one->is_null[i] || one->values[i] == other->values[i]);
    }
    return agree;
}

void sim_describe(const struct sim_op *op, const struct sim_answer *answer, char *out,
                  size_t out_bytes) {
    static const char *const names[SIM_KINDS] = {
        "INSERT",      "ADD",   "DELETE",    "ADD_RANGE",    "DIVIDE_RANGE",
        "GET",         "COUNT", "TRANSFER",  "TRANSFER_BAD", "SMALL_ADD",
        "SMALL_COUNT", "INDEX", "DROP_INDEX"};
    (void)snprintf(out, out_bytes,
                   "%s a=%lld b=%lld n=%lld text=%u key=%d -> error '%s' rows %u (%lld, %lld) "
                   "changed %lld",
                   names[op->kind], (long long)op->a, (long long)op->b, (long long)op->n,
                   op->text_bytes, op->key, answer->error, answer->rows,
                   (long long)answer->values[0], (long long)answer->values[1],
                   (long long)answer->changed);
}
