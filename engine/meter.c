#include "engine/meter.h"

#include <stdio.h>

/* What is no procedure: kinds of statements, and what has none. */
enum {
    KEY_KIND = 0x40000000, /* and an enum dbos_statement_kind; no id of a procedure is so high */
    KEY_SCRIPT = 0x50000000,
    KEY_GROUP,
    KEY_TASK,
    KEY_OTHER,
};

/* The id of a procedure, or one of the above. */
static uint32_t key_of(const struct dbos_request *request) {
    if (request->kind != DBOS_REQUEST_STATEMENTS) {
        return request->kind == DBOS_REQUEST_TASK ? KEY_TASK : KEY_SCRIPT;
    }
    if (request->statement_count != 1) {
        return KEY_GROUP;
    }
    const struct dbos_plan *plan = request->statements[0].plan;
    const struct dbos_procedure_info *procedure = dbos_plan_procedure(plan);
    return procedure != NULL ? procedure->id : KEY_KIND | (uint32_t)dbos_plan_kind(plan);
}

static const char *kind_name(enum dbos_statement_kind kind) {
    switch (kind) {
    case DBOS_STATEMENT_SELECT:
        return "SELECT";
    case DBOS_STATEMENT_INSERT:
        return "INSERT";
    case DBOS_STATEMENT_UPDATE:
        return "UPDATE";
    case DBOS_STATEMENT_DELETE:
        return "DELETE";
    case DBOS_STATEMENT_CALL:
        return "CALL";
    case DBOS_STATEMENT_DDL:
        return "DDL";
    case DBOS_STATEMENT_EMPTY:
    case DBOS_STATEMENT_SET:
    case DBOS_STATEMENT_SHOW:
    case DBOS_STATEMENT_ARCHIVE:
        break;
    }
    return "other";
}

static const char *name_of(const struct dbos_request *request, uint32_t key) {
    switch (key) {
    case KEY_SCRIPT:
        return "script";
    case KEY_GROUP:
        return "group";
    case KEY_TASK:
        return "task result";
    default:
        break;
    }
    return key >= KEY_KIND ? kind_name((enum dbos_statement_kind)(key - KEY_KIND))
                           : dbos_plan_procedure(request->statements[0].plan)->name;
}

bool dbos_meter_is_procedure(const struct dbos_statement_meter *statement) {
    return statement->key < KEY_KIND;
}

void dbos_meter_init(struct dbos_meter *meter, struct dbos_alloc *alloc) {
    meter->alloc = alloc;
    meter->other.key = KEY_OTHER;
    (void)snprintf(meter->other.name, sizeof meter->other.name, "other");
}

void dbos_meter_fini(struct dbos_meter *meter) {
    for (uint32_t i = 0; i < DBOS_METER_BUCKETS; i++) {
        struct dbos_statement_meter *statement = atomic_load(&meter->buckets[i]);
        while (statement != NULL) {
            struct dbos_statement_meter *next = statement->next;
            dbos_give(meter->alloc, statement);
            statement = next;
        }
        atomic_store(&meter->buckets[i], NULL);
    }
}

static struct dbos_statement_meter *make(struct dbos_meter *meter,
                                         const struct dbos_request *request, uint32_t key) {
    _Atomic(struct dbos_statement_meter *) *bucket = &meter->buckets[key % DBOS_METER_BUCKETS];
    if (meter->statement_count == DBOS_METER_STATEMENTS_MAX) {
        return &meter->other;
    }
    struct dbos_statement_meter *statement = dbos_take_zero(meter->alloc, sizeof *statement);
    if (statement == NULL) {
        return &meter->other;
    }
    statement->key = key;
    (void)snprintf(statement->name, sizeof statement->name, "%s", name_of(request, key));
    statement->next = atomic_load_explicit(bucket, memory_order_relaxed);
    atomic_store_explicit(bucket, statement, memory_order_release);
    meter->statement_count++;
    return statement;
}

static struct dbos_statement_meter *find(struct dbos_meter *meter,
                                         const struct dbos_request *request) {
    uint32_t key = key_of(request);
    struct dbos_statement_meter *statement =
        atomic_load_explicit(&meter->buckets[key % DBOS_METER_BUCKETS], memory_order_relaxed);
    while (statement != NULL && statement->key != key) {
        statement = statement->next;
    }
    return statement != NULL ? statement : make(meter, request, key);
}

/* One writer: no locked instruction. */
static void count(_Atomic uint64_t *counter) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static uint64_t since(uint64_t then_ns, uint64_t now_ns) {
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

static void end_running(struct dbos_meter *meter, uint64_t now_ns) {
    if (meter->running != NULL) {
        dbos_histogram_add(&meter->running->run, since(meter->started_ns, now_ns));
    }
}

void dbos_meter_note(struct dbos_meter *meter, const struct dbos_request *request,
                     uint64_t started_ns, uint64_t ended_ns) {
    end_running(meter, started_ns);
    struct dbos_statement_meter *statement = find(meter, request);
    meter->running = statement;
    meter->started_ns = started_ns;
    if (ended_ns != 0) {
        end_running(meter, ended_ns);
        meter->running = NULL;
    }
    count(&meter->executed);
    count(&statement->calls);
    if (request->outcome != DBOS_OK && request->outcome != DBOS_ERR_STALE_PLAN) {
        count(&statement->errors);
    }
    if (request->arrived_ns != 0) {
        dbos_histogram_add(&meter->wait, since(request->arrived_ns, started_ns));
    }
}

void dbos_meter_rest(struct dbos_meter *meter, struct dbos_env *env) {
    if (meter->running != NULL) {
        end_running(meter, env->ops->mono_ns(env));
        meter->running = NULL;
    }
}

void dbos_meter_each(const struct dbos_meter *meter,
                     void (*each)(void *arg, const struct dbos_statement_meter *statement),
                     void *arg) {
    for (uint32_t i = 0; i < DBOS_METER_BUCKETS; i++) {
        const struct dbos_statement_meter *statement =
            atomic_load_explicit(&meter->buckets[i], memory_order_acquire);
        for (; statement != NULL; statement = statement->next) {
            each(arg, statement);
        }
    }
    if (atomic_load_explicit(&meter->other.calls, memory_order_relaxed) != 0) {
        each(arg, &meter->other);
    }
}

static void read_run(void *arg, const struct dbos_statement_meter *statement) {
    dbos_histogram_read(&statement->run, arg);
}

void dbos_meter_read(const struct dbos_meter *meter, struct dbos_histogram_reading *run) {
    dbos_meter_each(meter, read_run, run);
}
