/* Procedures that do what none should: each must cost its caller an error, and nobody else
 * anything. */
#include <dbos/procedure.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GET, PUT, STATEMENTS };
static const char *const statements[] = {
    [GET] = "SELECT n FROM victims WHERE id = $1",
    [PUT] = "UPDATE victims SET n = n + 1 WHERE id = $1",
};
#define ABUSE(name)                                                                                \
    DBOS_PROCEDURE(name, .run = name, .statements = statements, .statement_count = STATEMENTS,     \
                   .route = "victims.id=$1")

static int64_t put(struct dbos_call *call) {
    return dbos_execute(call, PUT, DBOS_INT(dbos_arg_int(call, 0)));
}

/* abuse_loop(id bigint) returns bigint: writes, and never ends */
static int abuse_loop(struct dbos_call *call) {
    volatile uint64_t turns = 0;
    put(call);
    while (turns + 1 != 0) {
        turns++;
    }
    return dbos_return_int(call, 1);
}
ABUSE(abuse_loop);

/* abuse_loop_in_math(id bigint) returns bigint: spends its time in the C library */
static int abuse_loop_in_math(struct dbos_call *call) {
    volatile double x = 1.5;
    put(call);
    while (x != 0.0) {
        x = pow(x, 1.0000001) + sin(x) - sin(x);
    }
    return dbos_return_int(call, 1);
}
ABUSE(abuse_loop_in_math);

/* abuse_loop_in_sql(id bigint) returns bigint: spends its time in the engine, deaf to errors */
static int abuse_loop_in_sql(struct dbos_call *call) {
    volatile uint64_t turns = 0;
    put(call);
    while (turns + 1 != 0) {
        turns += (uint64_t)dbos_execute(call, GET, DBOS_INT(dbos_arg_int(call, 0)));
    }
    return dbos_return_int(call, 1);
}
ABUSE(abuse_loop_in_sql);

static int never(const void *left, const void *right) {
    volatile uint64_t turns = 0;
    while (turns + 1 != 0) {
        turns++;
    }
    return memcmp(left, right, 1);
}

/* abuse_sort(id bigint) returns bigint: a comparison that never ends */
static int abuse_sort(struct dbos_call *call) {
    char letters[] = "unsorted";
    put(call);
    qsort(letters, sizeof letters - 1, 1, never);
    return dbos_return_int(call, letters[0]);
}
ABUSE(abuse_sort);

static int64_t deeper(struct dbos_call *call, volatile int64_t depth) {
    volatile char frame[300];
    frame[depth % 300] = (char)depth;
    return depth < 0 ? 0 : deeper(call, depth + 1) + frame[depth % 300];
}

/* abuse_recurse(id bigint) returns bigint */
static int abuse_recurse(struct dbos_call *call) {
    put(call);
    return dbos_return_int(call, deeper(call, 0));
}
ABUSE(abuse_recurse);

static int64_t deeper_in_sql(struct dbos_call *call, volatile int64_t depth) {
    put(call);
    return depth < 0 ? 0 : deeper_in_sql(call, depth + 1) + depth;
}

/* abuse_recurse_in_sql(id bigint) returns bigint: each level runs a statement */
static int abuse_recurse_in_sql(struct dbos_call *call) {
    return dbos_return_int(call, deeper_in_sql(call, 0));
}
ABUSE(abuse_recurse_in_sql);

/* abuse_frame(id bigint) returns bigint: one frame that is larger than any stack */
static int abuse_frame(struct dbos_call *call) {
    volatile char frame[64 * 1048576];
    put(call);
    for (size_t i = 0; i < sizeof frame; i += 4096) {
        frame[i] = (char)i;
    }
    return dbos_return_int(call, frame[4096]);
}
ABUSE(abuse_frame);

/* abuse_divide(id bigint, by bigint) returns bigint */
static int abuse_divide(struct dbos_call *call) {
    put(call);
    return dbos_return_int(call, dbos_arg_int(call, 0) / dbos_arg_int(call, 1));
}
ABUSE(abuse_divide);

/* abuse_alloc(id bigint, bytes bigint) returns bigint: deaf to the answer */
static int abuse_alloc(struct dbos_call *call) {
    put(call);
    (void)dbos_alloc(call, (size_t)dbos_arg_int(call, 1));
    return dbos_return_int(call, 1);
}
ABUSE(abuse_alloc);

/* abuse_alloc_often(id bigint) returns bigint: until there is none */
static int abuse_alloc_often(struct dbos_call *call) {
    int64_t taken = 0;
    put(call);
    while (dbos_alloc(call, 1048576) != NULL) {
        taken++;
    }
    return dbos_return_int(call, taken);
}
ABUSE(abuse_alloc_often);

/* abuse_result(id bigint) returns text: over the limit */
static int abuse_result(struct dbos_call *call) {
    enum { BYTES = 60 * 1048576 };
    put(call);
    char *bytes = dbos_alloc(call, BYTES);
    if (bytes == NULL) {
        return DBOS_ABORTED;
    }
    memset(bytes, 'x', BYTES);
    return dbos_return_bytes(call, bytes, BYTES);
}
ABUSE(abuse_result);

/* abuse_null(id bigint) returns bigint: a crash */
static int abuse_null(struct dbos_call *call) {
    int *volatile nowhere = NULL;
    put(call);
    return dbos_return_int(call, *nowhere);
}
ABUSE(abuse_null);

/* abuse_trap(id bigint) returns bigint: what the compiler makes of what can not be */
static int abuse_trap(struct dbos_call *call) {
    if (put(call) >= 0) {
        __builtin_trap();
    }
    return dbos_return_int(call, 1);
}
ABUSE(abuse_trap);

/* abuse_smash(id bigint) returns bigint: writes over its own frame, which the compiler notices */
static int abuse_smash(struct dbos_call *call) {
    char frame[16];
    char *volatile at = frame;
    put(call);
    memset(at, 'x', 64);
    return dbos_return_int(call, frame[3]);
}
ABUSE(abuse_smash);

/* abuse_on_result(task bigint, context bytea, error text): crashes with what a task has come to */
static int abuse_on_result(struct dbos_call *call) {
    const int *volatile nowhere = NULL;
    return dbos_return_int(call, dbos_arg_int(call, 0) + *nowhere);
}
DBOS_PROCEDURE(abuse_on_result, .run = abuse_on_result);

/* abuse_submit(id bigint) returns bigint: a training without parameters, which fails */
static int abuse_submit(struct dbos_call *call) {
    static const uint8_t pixels[784];
    const struct dbos_task task = {
        .kind = DBOS_TASK_TRAIN, .result_procedure = "abuse_on_result", .model_id = 77};
    put(call);
    return dbos_return_int(call, dbos_task_submit(call, &task, 1, pixels, sizeof pixels));
}
ABUSE(abuse_submit);
