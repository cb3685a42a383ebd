#include "engine/meter.h"

#include <stdio.h>

/* What a request is counted as. */
struct identity {
    uint32_t procedure;
    const char *name;
};

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

static struct identity identify(const struct dbos_request *request) {
    struct identity identity = {.name = "script"};
    if (request->kind == DBOS_REQUEST_TASK) {
        identity.name = "task result";
    } else if (request->kind == DBOS_REQUEST_STATEMENTS && request->statement_count != 1) {
        identity.name = "group";
    } else if (request->kind == DBOS_REQUEST_STATEMENTS) {
        const struct dbos_plan *plan = request->statements[0].plan;
        const struct dbos_procedure_info *procedure = dbos_plan_procedure(plan);
        identity.procedure = procedure == NULL ? 0 : procedure->id;
        identity.name = procedure == NULL ? kind_name(dbos_plan_kind(plan)) : procedure->name;
    }
    return identity;
}

void dbos_meter_init(struct dbos_meter *meter, struct dbos_alloc *alloc) {
    meter->alloc = alloc;
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

/* Names of kinds are constants of this file, so that their letters suffice. */
static uint32_t bucket_of(const struct identity *identity) {
    uint32_t sum = identity->procedure;
    for (const char *at = identity->name; identity->procedure == 0 && *at != 0; at++) {
        sum = sum * 31 + (uint8_t)*at;
    }
    return sum % DBOS_METER_BUCKETS;
}

static bool is_of(const struct dbos_statement_meter *statement, const struct identity *identity) {
    return statement->procedure == identity->procedure &&
           (identity->procedure != 0 || strcmp(statement->name, identity->name) == 0);
}

static struct dbos_statement_meter *make(struct dbos_meter *meter, const struct identity *identity,
                                         _Atomic(struct dbos_statement_meter *) *bucket) {
    if (meter->statement_count == DBOS_METER_STATEMENTS_MAX) {
        return &meter->other;
    }
    struct dbos_statement_meter *statement = dbos_take_zero(meter->alloc, sizeof *statement);
    if (statement == NULL) {
        return &meter->other;
    }
    statement->procedure = identity->procedure;
    (void)snprintf(statement->name, sizeof statement->name, "%s", identity->name);
    statement->next = atomic_load_explicit(bucket, memory_order_relaxed);
    atomic_store_explicit(bucket, statement, memory_order_release);
    meter->statement_count++;
    return statement;
}

static struct dbos_statement_meter *find(struct dbos_meter *meter,
                                         const struct dbos_request *request) {
    struct identity identity = identify(request);
    _Atomic(struct dbos_statement_meter *) *bucket = &meter->buckets[bucket_of(&identity)];
    struct dbos_statement_meter *statement = atomic_load_explicit(bucket, memory_order_relaxed);
    while (statement != NULL && !is_of(statement, &identity)) {
        statement = statement->next;
    }
    return statement != NULL ? statement : make(meter, &identity, bucket);
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
                     uint64_t started_ns) {
    end_running(meter, started_ns);
    struct dbos_statement_meter *statement = find(meter, request);
    meter->running = statement;
    meter->started_ns = started_ns;
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
