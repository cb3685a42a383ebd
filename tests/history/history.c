#include "tests/history/history.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Room for `more` beyond `count`; doubles. */
static void *grow(void *array, size_t count, size_t more, size_t *max, size_t item_bytes) {
    if (count + more <= *max) {
        return array;
    }
    *max = *max == 0 ? 1024 : *max;
    while (count + more > *max) {
        *max *= 2;
    }
    array = realloc(array, *max * item_bytes);
    DBOS_CHECK(array != NULL);
    return array;
}

void history_init(struct history *h) {
    *h = (struct history){0};
    h->elements = grow(NULL, 0, 1, &h->element_max, sizeof *h->elements);
}

void history_fini(struct history *h) {
    free(h->ops);
    free(h->steps);
    free(h->elements);
    *h = (struct history){0};
}

size_t history_begin(struct history *h, enum history_kind kind, uint32_t process,
                     uint64_t invoke_ns) {
    h->ops = grow(h->ops, h->op_count, 1, &h->op_max, sizeof *h->ops);
    h->ops[h->op_count] = (struct history_op){.kind = (uint8_t)kind,
                                              .outcome = HISTORY_UNKNOWN,
                                              .process = process,
                                              .first_step = h->step_count,
                                              .invoke_ns = invoke_ns,
                                              .return_ns = HISTORY_NEVER};
    return h->op_count++;
}

void history_add_step(struct history *h, const struct history_step *step) {
    DBOS_CHECK(h->op_count > 0);
    h->steps = grow(h->steps, h->step_count, 1, &h->step_max, sizeof *h->steps);
    h->steps[h->step_count++] = *step;
    h->ops[h->op_count - 1].step_count++;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

void history_set_read(struct history *h, size_t step, const int64_t *elements, uint32_t count) {
    h->steps[step].first = h->element_count;
    h->steps[step].count = count;
    if (count == 0) {
        return;
    }
    h->elements = grow(h->elements, h->element_count, count, &h->element_max, sizeof *h->elements);
    int64_t *to = h->elements + h->element_count;
    memcpy(to, elements, count * sizeof *to);
    if (h->steps[step].action == HISTORY_READ_SET) {
        qsort(to, count, sizeof *to, by_value);
    }
    h->element_count += count;
}

static bool is_collection_read(const struct history_step *step) {
    return step->action == HISTORY_READ_LIST || step->action == HISTORY_READ_SET;
}

void history_add_all(struct history *h, const struct history *from) {
    h->ops = grow(h->ops, h->op_count, from->op_count, &h->op_max, sizeof *h->ops);
    h->steps = grow(h->steps, h->step_count, from->step_count, &h->step_max, sizeof *h->steps);
    h->elements =
        grow(h->elements, h->element_count, from->element_count, &h->element_max, sizeof(int64_t));
    for (size_t i = 0; i < from->op_count; i++) {
        h->ops[h->op_count + i] = from->ops[i];
        h->ops[h->op_count + i].first_step += h->step_count;
    }
    for (size_t i = 0; i < from->step_count; i++) {
        struct history_step *step = &h->steps[h->step_count + i];
        *step = from->steps[i];
        step->first += is_collection_read(step) ? h->element_count : 0;
    }
    if (from->element_count > 0) {
        memcpy(h->elements + h->element_count, from->elements,
               from->element_count * sizeof(int64_t));
    }
    h->op_count += from->op_count;
    h->step_count += from->step_count;
    h->element_count += from->element_count;
}

enum history_space history_space_of(enum history_action action) {
    switch (action) {
    case HISTORY_APPEND:
    case HISTORY_READ_LIST:
        return HISTORY_LISTS;
    case HISTORY_WRITE:
    case HISTORY_READ:
        return HISTORY_REGISTERS;
    case HISTORY_ADD:
    case HISTORY_READ_SET:
        return HISTORY_SETS;
    }
    return HISTORY_SPACES;
}

bool history_is_write(enum history_action action) {
    return action == HISTORY_APPEND || action == HISTORY_WRITE || action == HISTORY_ADD;
}

const char *history_kind_name(enum history_kind kind) {
    static const char *const names[HISTORY_KINDS] = {
        [HISTORY_LIST_TXN] = "list",     [HISTORY_REGISTER_TXN] = "register",
        [HISTORY_TRANSFER] = "transfer", [HISTORY_SNAPSHOT] = "snapshot",
        [HISTORY_SET_TXN] = "set",       [HISTORY_MIXED] = "mixed",
    };
    return names[kind];
}

/* -- text ----------------------------------------------------------------------------------------
 */

static void print_elements(const struct history *h, const struct history_step *step, uint32_t max,
                           FILE *out) {
    uint32_t from = step->count > max ? step->count - max : 0;
    (void)fprintf(out, from > 0 ? "[%u others" : "[", from);
    for (uint32_t i = from; i < step->count; i++) {
        (void)fprintf(out, i == 0 ? "%lld" : " %lld", (long long)h->elements[step->first + i]);
    }
    (void)fputc(']', out);
}

static void print_step(const struct history *h, const struct history_op *op,
                       const struct history_step *step, FILE *out) {
    static const char *const forms[] = {
        [HISTORY_APPEND] = " append(list %u, %lld)",   [HISTORY_READ_LIST] = " read(list %u)",
        [HISTORY_WRITE] = " write(register %u, %lld)", [HISTORY_READ] = " read(register %u)",
        [HISTORY_ADD] = " add(set %u, %lld)",          [HISTORY_READ_SET] = " read(set %u)",
    };
    if (history_is_write(step->action)) {
        (void)fprintf(out, forms[step->action], step->object, (long long)step->value);
        return;
    }
    (void)fprintf(out, forms[step->action], step->object);
    if (op->outcome != HISTORY_OK) {
        return;
    }
    (void)fputs(" = ", out);
    if (is_collection_read(step)) {
        print_elements(h, step, 8, out);
    } else {
        (void)fprintf(out, "%lld", (long long)step->value);
    }
    if (step->action == HISTORY_READ && step->balance != 0) {
        (void)fprintf(out, " (balance %lld)", (long long)step->balance);
    }
}

void history_print_op(const struct history *h, size_t op_number, FILE *out) {
    static const char *const outcomes[] = {"ok", "failed", "unknown"};
    const struct history_op *op = &h->ops[op_number];
    (void)fprintf(out, "T%zu (process %u, %.6f s to ", op_number, op->process,
                  (double)op->invoke_ns / 1e9);
    if (op->return_ns == HISTORY_NEVER) {
        (void)fprintf(out, "never");
    } else {
        (void)fprintf(out, "%.6f s", (double)op->return_ns / 1e9);
    }
    (void)fprintf(out, ", %s %s)", outcomes[op->outcome], history_kind_name(op->kind));
    for (uint32_t i = 0; i < op->step_count; i++) {
        print_step(h, op, &h->steps[op->first_step + i], out);
    }
}

/* -- EDN -----------------------------------------------------------------------------------------
 */

static void write_edn_step(const struct history *h, const struct history_step *step, bool is_known,
                           FILE *out) {
    static const char *const forms[] = {
        [HISTORY_APPEND] = "[:append \"l%u\" %lld]", [HISTORY_READ_LIST] = "[:r \"l%u\" ",
        [HISTORY_WRITE] = "[:w \"r%u\" %lld]",       [HISTORY_READ] = "[:r \"r%u\" ",
        [HISTORY_ADD] = "[:add \"s%u\" %lld]",       [HISTORY_READ_SET] = "[:r \"s%u\" ",
    };
    if (history_is_write(step->action)) {
        (void)fprintf(out, forms[step->action], step->object, (long long)step->value);
        return;
    }
    (void)fprintf(out, forms[step->action], step->object);
    if (!is_known || (step->action == HISTORY_READ && step->value == 0)) {
        (void)fputs("nil", out);
    } else if (is_collection_read(step)) {
        print_elements(h, step, UINT32_MAX, out);
    } else {
        (void)fprintf(out, "%lld", (long long)step->value);
    }
    (void)fputc(']', out);
}

struct edn_event {
    uint64_t time_ns;
    size_t op;
    bool is_return;
};

static int by_time(const void *a, const void *b) {
    const struct edn_event *x = a;
    const struct edn_event *y = b;
    if (x->time_ns != y->time_ns) {
        return x->time_ns < y->time_ns ? -1 : 1;
    }
    return (int)x->is_return - (int)y->is_return;
}

static void write_edn_event(const struct history *h, const struct edn_event *event, size_t index,
                            FILE *out) {
    static const char *const types[] = {":ok", ":fail", ":info"};
    const struct history_op *op = &h->ops[event->op];
    (void)fprintf(out, "{:index %zu, :type %s, :process %u, :time %llu, :f :%s, :value [", index,
                  event->is_return ? types[op->outcome] : ":invoke", op->process,
                  (unsigned long long)event->time_ns, history_kind_name(op->kind));
    for (uint32_t i = 0; i < op->step_count; i++) {
        (void)fputs(i == 0 ? "" : " ", out);
        write_edn_step(h, &h->steps[op->first_step + i],
                       event->is_return && op->outcome == HISTORY_OK, out);
    }
    (void)fputs("]}\n", out);
}

void history_write_edn(const struct history *h, FILE *out) {
    struct edn_event *events = malloc((2 * h->op_count + 1) * sizeof *events);
    size_t count = 0;
    DBOS_CHECK(events != NULL);
    for (size_t i = 0; i < h->op_count; i++) {
        events[count++] = (struct edn_event){h->ops[i].invoke_ns, i, false};
        if (h->ops[i].return_ns != HISTORY_NEVER) {
            events[count++] = (struct edn_event){h->ops[i].return_ns, i, true};
        }
    }
    qsort(events, count, sizeof *events, by_time);
    for (size_t i = 0; i < count; i++) {
        write_edn_event(h, &events[i], i, out);
    }
    free(events);
}
