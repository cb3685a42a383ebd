/* Calls whose second run would give another answer; for tests/crash/retry_test.c.
 *
 * All of them write a row of effect (trial bigint, id bigint, kind int, made timestamptz): the same
 * trial may have many. */
#include <dbos/procedure.h>
#include <stdio.h>

enum { WRITE };
static const char *const statements[] = {
    [WRITE] = "INSERT INTO effect VALUES ($1, $2, $3, now())",
};
#define RETRY(name)                                                                                \
    DBOS_PROCEDURE(name, .run = name, .statements = statements, .statement_count = 1,              \
                   .route = "effect.trial=$1")

/* Returns the number that it has drawn. */
static uint64_t write_effect(struct dbos_call *call) {
    uint64_t drawn = dbos_random(call) >> 1;
    dbos_execute(call, WRITE, DBOS_INT(dbos_arg_int(call, 0)), DBOS_INT((int64_t)drawn),
                 DBOS_INT(dbos_arg_int(call, 1)));
    return drawn;
}

static int answer(struct dbos_call *call, uint64_t drawn) {
    char text[96];
    int size = snprintf(text, sizeof text, "%llu at %lld", (unsigned long long)drawn,
                        (long long)dbos_now_us(call));
    return dbos_return_bytes(call, text, (size_t)size);
}

/* retry_ticket(trial bigint, kind int) returns text */
static int retry_ticket(struct dbos_call *call) { return answer(call, write_effect(call)); }
RETRY(retry_ticket);

/* retry_moody(trial bigint, kind int) returns text: every other time it gives up */
static int retry_moody(struct dbos_call *call) {
    uint64_t drawn = write_effect(call);
    return (drawn & 1) != 0 ? dbos_abort(call, "not today") : answer(call, drawn);
}
RETRY(retry_moody);

/* retry_doomed(trial bigint, kind int) returns text: it always does */
static int retry_doomed(struct dbos_call *call) {
    (void)write_effect(call);
    return dbos_abort(call, "never");
}
RETRY(retry_doomed);
