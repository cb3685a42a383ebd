/* Procedures for the tests: each does one thing, right or wrong. */
#include <dbos/procedure.h>
#include <string.h>

enum { GET, PUT, ADD, ALL, REPEAT };
static const char *const statements[] = {
    [GET] = "SELECT n, t, b FROM things WHERE id = $1",
    [PUT] = "INSERT INTO things (id, n, t, b) VALUES ($1, $2, $3, $4)",
    [ADD] = "UPDATE things SET n = n + $2 WHERE id = $1",
    [ALL] = "SELECT id, b FROM things",
    [REPEAT] = "SELECT count(*) FROM things WHERE id = $1",
};
#define KIT(name, ...)                                                                             \
    DBOS_PROCEDURE(name, .run = name, .statements = statements, .statement_count = 5, __VA_ARGS__)

/* kit_put(id bigint, n int, t text, b bytea) returns bigint: rows inserted */
static int kit_put(struct dbos_call *call) {
    size_t text_size = 0;
    size_t bytes_size = 0;
    const void *text = dbos_arg_bytes(call, 2, &text_size);
    const void *bytes = dbos_arg_bytes(call, 3, &bytes_size);
    return dbos_return_int(
        call, dbos_execute(call, PUT, DBOS_INT(dbos_arg_int(call, 0)),
                           dbos_arg_is_null(call, 1) ? DBOS_NULL : DBOS_INT(dbos_arg_int(call, 1)),
                           text == NULL ? DBOS_NULL : DBOS_BYTES(text, text_size),
                           bytes == NULL ? DBOS_NULL : DBOS_BYTES(bytes, bytes_size)));
}
KIT(kit_put, .route = "things.id=$1");

/* kit_text(id bigint) returns text: column t, in a copy on the stack */
static int kit_text(struct dbos_call *call) {
    char copy[128];
    size_t size = 0;
    dbos_execute(call, GET, DBOS_INT(dbos_arg_int(call, 0)));
    if (!dbos_fetch(call, GET) || dbos_column_is_null(call, GET, 1)) {
        return dbos_return_null(call);
    }
    const void *text = dbos_column_bytes(call, GET, 1, &size);
    size = size < sizeof copy ? size : sizeof copy;
    memcpy(copy, text, size);
    return dbos_return_bytes(call, copy, size);
}
KIT(kit_text, .route = "things.id=$1");

/* kit_stubborn(id bigint) returns int: its first statement fails, and it goes on as if nothing were
 */
static int kit_stubborn(struct dbos_call *call) {
    int64_t id = dbos_arg_int(call, 0);
    dbos_execute(call, PUT, DBOS_INT(id), DBOS_INT(1), DBOS_NULL, DBOS_NULL);
    int64_t second = dbos_execute(call, PUT, DBOS_INT(id), DBOS_INT(2), DBOS_NULL, DBOS_NULL);
    int64_t third = dbos_execute(call, ADD, DBOS_INT(id), DBOS_INT(5));
    bool row = dbos_fetch(call, GET);
    int64_t n = dbos_column_int(call, GET, 0);
    size_t size = 7;
    const void *bytes = dbos_column_bytes(call, GET, 2, &size);
    const void *memory = dbos_alloc(call, 16);
    dbos_return_bytes(call, "x", 1);
    bool harmless = second < 0 && third < 0 && !row && n == 0 && bytes == NULL && size == 0 &&
                    memory == NULL && dbos_task_add(call, 1, 0, 1, "x", 1) < 0;
    return harmless ? dbos_return_int(call, 1) : dbos_abort(call, "not harmless");
}
KIT(kit_stubborn, .route = "things.id=$1");

/* kit_misuse(id bigint, what int) returns int: one mistake each */
static int kit_misuse(struct dbos_call *call) {
    int64_t id = dbos_arg_int(call, 0);
    switch (dbos_arg_int(call, 1)) {
    case 0:
        return dbos_return_int(call, dbos_arg_int(call, 9));
    case 1:
        return dbos_return_float(call, dbos_arg_float(call, 0));
    case 2:
        return dbos_return_bytes(call, dbos_arg_bytes(call, 1, NULL), 0);
    case 3:
        return dbos_return_int(call, dbos_execute(call, 77, DBOS_INT(id)));
    case 4:
        return dbos_return_int(call, dbos_execute(call, GET));
    case 5:
        return dbos_return_int(call, dbos_execute(call, GET, DBOS_INT(id), DBOS_INT(1)));
    case 6:
        return dbos_return_int(call, dbos_execute(call, GET, DBOS_BYTES("1", 1)));
    case 7:
        return dbos_return_int(call, dbos_column_int(call, GET, 0));
    case 8:
        dbos_execute(call, REPEAT, DBOS_INT(id));
        (void)dbos_fetch(call, REPEAT);
        return dbos_return_int(call, dbos_column_int(call, REPEAT, 4));
    case 9:
        dbos_execute(call, REPEAT, DBOS_INT(id));
        (void)dbos_fetch(call, REPEAT);
        return dbos_return_float(call, dbos_column_float(call, REPEAT, 0));
    case 10:
        return dbos_return_bytes(call, "text for an int", 15);
    case 11:
        return dbos_return_int(call, INT64_C(1) << 40);
    case 12:
        dbos_execute(call, ADD, DBOS_INT(id), DBOS_INT(INT64_C(1) << 40));
        return DBOS_DONE;
    case 13:
        dbos_execute(call, PUT, DBOS_INT(id), DBOS_INT(1), DBOS_BYTES("\xff\xfe", 2), DBOS_NULL);
        return DBOS_DONE;
    case 14:
        return 5;
    case 15:
        dbos_abort(call, "said and then forgotten");
        return DBOS_DONE;
    default:
        return dbos_return_int(call, 0);
    }
}
KIT(kit_misuse, .route = "things.id=$1");

/* kit_abort(id bigint, message text): writes, then gives up with the message */
static int kit_abort(struct dbos_call *call) {
    size_t size = 0;
    const char *message = dbos_arg_bytes(call, 1, &size);
    dbos_execute(call, PUT, DBOS_INT(dbos_arg_int(call, 0)), DBOS_INT(1), DBOS_NULL, DBOS_NULL);
    return dbos_abort(call, "%.*s", (int)size, message);
}
KIT(kit_abort, .route = "things.id=$1");

/* kit_all() returns bigint: bytes of all large values, read in one result */
static int kit_all(struct dbos_call *call) {
    int64_t bytes = 0;
    dbos_execute(call, ALL);
    while (dbos_fetch(call, ALL)) {
        size_t size = 0;
        const uint8_t *data = dbos_column_bytes(call, ALL, 1, &size);
        bytes += (int64_t)size;
        if (size > 0 && data[size - 1] != data[0]) {
            return dbos_abort(call, "a value is torn");
        }
    }
    return dbos_return_int(call, bytes);
}
KIT(kit_all);

/* kit_loop(id bigint, times int) returns bigint: the same statement many times */
static int kit_loop(struct dbos_call *call) {
    int64_t sum = 0;
    for (int64_t i = dbos_arg_int(call, 1); i > 0; i--) {
        dbos_execute(call, GET, DBOS_INT(dbos_arg_int(call, 0)));
        if (dbos_fetch(call, GET)) {
            sum += dbos_column_int(call, GET, 0);
        }
    }
    return dbos_return_int(call, sum);
}
KIT(kit_loop, .route = "things.id=$1");

/* kit_surroundings() returns text: time, random number and user, as the engine says */
static int kit_surroundings(struct dbos_call *call) {
    int64_t numbers[3] = {dbos_now_us(call), (int64_t)dbos_random(call),
                          (int64_t)dbos_random(call)};
    if (numbers[0] != dbos_now_us(call) || numbers[1] == numbers[2]) {
        return dbos_abort(call, "time moved, or chance did not");
    }
    return dbos_return_bytes(call, dbos_user(call), strlen(dbos_user(call)));
}
KIT(kit_surroundings);
