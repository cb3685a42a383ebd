/* Money from one account to another, or nothing at all.
 *
 *     PROCEDURE transfer(source bigint, target bigint, amount bigint)
 *
 * Two accounts may live on two partitions: no argument routes it, so it runs with all of them in
 * hand. */
#include <dbos/procedure.h>

enum { BALANCE, TAKE, GIVE };

static const char *const statements[] = {
    [BALANCE] = "SELECT balance FROM account WHERE id = $1",
    [TAKE] = "UPDATE account SET balance = balance - $2 WHERE id = $1",
    [GIVE] = "UPDATE account SET balance = balance + $2 WHERE id = $1",
};

static int transfer(struct dbos_call *call) {
    int64_t from = dbos_arg_int(call, 0);
    int64_t to = dbos_arg_int(call, 1);
    int64_t amount = dbos_arg_int(call, 2);
    if (amount <= 0) {
        return dbos_abort(call, "an amount of %lld cannot be transferred", (long long)amount);
    }
    dbos_execute(call, TAKE, DBOS_INT(from), DBOS_INT(amount));
    if (dbos_execute(call, GIVE, DBOS_INT(to), DBOS_INT(amount)) == 0) {
        return dbos_abort(call, "there is no account %lld", (long long)to);
    }
    /* Whatever was written before an abort is undone. */
    dbos_execute(call, BALANCE, DBOS_INT(from));
    if (!dbos_fetch(call, BALANCE)) {
        return dbos_abort(call, "there is no account %lld", (long long)from);
    }
    if (dbos_column_int(call, BALANCE, 0) < 0) {
        return dbos_abort(call, "account %lld lacks %lld", (long long)from,
                          -(long long)dbos_column_int(call, BALANCE, 0));
    }
    return DBOS_DONE;
}
DBOS_PROCEDURE(transfer, .run = transfer, .statements = statements, .statement_count = 3);
