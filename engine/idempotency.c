#include "engine/idempotency.h"

#include <string.h>

#include "engine/wire.h"

enum { COLUMN_KEY, COLUMN_USERNAME, COLUMN_DIGEST, COLUMN_REPLY, COLUMN_COMMITTED, COLUMNS };

static struct dbos_datum key_datum(const char *key) {
    return dbos_datum_bytes(DBOS_TYPE_TEXT, key, strlen(key));
}

uint32_t dbos_idempotency_slot(const char *key) {
    struct dbos_datum datum = key_datum(key);
    return dbos_slot_of(&datum);
}

/* All text can be said in several ways: none, 0 for all, one 0 each. */
static bool is_all_text(const struct dbos_request_statement *statement) {
    for (uint32_t i = 0; i < statement->format_count; i++) {
        if (statement->formats[i] != 0) {
            return false;
        }
    }
    return true;
}

/* What was asked: the statements' texts, their parameters and the result formats. */
static enum dbos_err put_request(const struct dbos_request *request, struct dbos_buf *buf,
                                 struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < request->statement_count; i++) {
        const struct dbos_request_statement *statement = &request->statements[i];
        dbos_buf_put_text(buf, dbos_plan_text(statement->plan));
        for (uint32_t p = 0; p < statement->parameter_count; p++) {
            dbos_datum_put(buf, &statement->parameters[p], false);
        }
        uint32_t format_count = is_all_text(statement) ? 0 : statement->format_count;
        dbos_buf_put_sized(buf, statement->formats, format_count * sizeof(int16_t));
    }
    if (request->script != NULL) {
        for (uint32_t i = 0; i < dbos_script_count(request->script); i++) {
            if (dbos_script_kind(request->script, i) != DBOS_STATEMENT_SET) {
                struct dbos_bytes text = dbos_script_text(request->script, i);
                dbos_buf_put_sized(buf, text.data, text.size_bytes);
            }
        }
    }
    return buf->failed ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for an idempotency key")
                       : DBOS_OK;
}

static enum dbos_err request_digest(const struct dbos_request *request, struct dbos_hash128 *out,
                                    struct dbos_errinfo *info) {
    struct dbos_buf buf;
    dbos_buf_init(&buf, request->reply.alloc);
    enum dbos_err err = put_request(request, &buf, info);
    if (err == DBOS_OK) {
        *out = dbos_hash128(0, buf.data, buf.size_bytes);
    }
    dbos_buf_fini(&buf);
    return err;
}

/* -- the reply as it is kept --------------------------------------------------------------------
 * With the RowDescription of each statement, so that a retry may come by either protocol: the
 * simple one shows them, the extended one has told of them by Describe. */

static bool wants_descriptions(const struct dbos_request *request) {
    return request->kind != DBOS_REQUEST_STATEMENTS || request->statement_count == 0 ||
           request->statements[0].describe;
}

static void put_description(const struct dbos_request_statement *statement, struct dbos_buf *out) {
    const struct dbos_result_column *columns = NULL;
    uint32_t count = dbos_plan_columns(statement->plan, &columns);
    if (count != 0) {
        dbos_wire_put_row_description(out, columns, count, statement->formats,
                                      statement->format_count);
    }
}

/* Each statement's reply ends with one CommandComplete or EmptyQueryResponse. */
static void keep_reply(const struct dbos_request *request, size_t start, struct dbos_buf *out) {
    const struct dbos_buf *reply = &request->reply;
    size_t at = start;
    if (wants_descriptions(request)) {
        dbos_buf_put(out, reply->data + start, reply->size_bytes - start);
        return;
    }
    for (uint32_t i = 0; i < request->statement_count; i++) {
        uint8_t type = 0;
        put_description(&request->statements[i], out);
        while (at < reply->size_bytes && type != 'C' && type != 'I') {
            size_t end = dbos_wire_message_end(reply, at);
            type = reply->data[at];
            dbos_buf_put(out, reply->data + at, end - at);
            at = end;
        }
    }
}

static void replay_reply(struct dbos_request *request, struct dbos_bytes kept) {
    struct dbos_buf all = {.data = (uint8_t *)(uintptr_t)kept.data, .size_bytes = kept.size_bytes};
    bool all_of_it = wants_descriptions(request);
    for (size_t at = 0; at < all.size_bytes;) {
        size_t end = dbos_wire_message_end(&all, at);
        if (all_of_it || all.data[at] != 'T') {
            dbos_buf_put(&request->reply, all.data + at, end - at);
        }
        at = end;
    }
}

/* The part that has the keys of a slot. */
static struct dbos_table *keys_of(const struct dbos_run *run, uint32_t slot) {
    uint32_t partition = dbos_store_partition_of(dbos_txn_store(run->txn), slot);
    struct dbos_table *table = dbos_txn_table(run->txn, DBOS_TABLE_IDEMPOTENCY, partition);
    DBOS_CHECK(table != NULL); /* routing has seen to it */
    return table;
}

static struct dbos_row *find_key(const struct dbos_run *run, const struct dbos_datum *key,
                                 struct dbos_table_def **out_def) {
    struct dbos_table *table = keys_of(run, dbos_slot_of(key));
    *out_def = dbos_table_def_of(table);
    return dbos_table_find(table, 0, key);
}

static bool same_bytes(const struct dbos_datum *datum, const void *data, size_t size_bytes) {
    return datum->bytes.size_bytes == size_bytes &&
           memcmp(datum->bytes.data, data, size_bytes) == 0;
}

enum dbos_err dbos_idempotency_begin(const struct dbos_run *run, struct dbos_request *request,
                                     bool *out_replayed, struct dbos_errinfo *info) {
    *out_replayed = false;
    if (request->idempotency_key == NULL) {
        return DBOS_OK;
    }
    struct dbos_hash128 digest;
    enum dbos_err err = request_digest(request, &digest, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_datum key = key_datum(request->idempotency_key);
    struct dbos_table_def *def = NULL;
    struct dbos_row *row = find_key(run, &key, &def);
    if (row == NULL) {
        dbos_txn_note_absent(run->txn, DBOS_TABLE_IDEMPOTENCY, def->indexes[0].id, &key, 1);
        return DBOS_OK;
    }
    dbos_txn_note_read(run->txn, DBOS_TABLE_IDEMPOTENCY, row);
    struct dbos_datum user = dbos_row_column(def, row, COLUMN_USERNAME);
    struct dbos_datum kept = dbos_row_column(def, row, COLUMN_DIGEST);
    if (!same_bytes(&user, run->user, strlen(run->user)) ||
        !same_bytes(&kept, &digest, sizeof digest)) {
        err =
            dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                      "idempotency key \"%s\" was used for another call", request->idempotency_key);
        dbos_err_hint(info, "Use a new key for each call that is meant to have an effect.");
        return err;
    }
    struct dbos_datum reply = dbos_row_column(def, row, COLUMN_REPLY);
    replay_reply(request, reply.bytes);
    *out_replayed = !request->reply.failed;
    return request->reply.failed ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the reply")
                                 : DBOS_OK;
}

static enum dbos_err insert_key(const struct dbos_run *run, const struct dbos_request *request,
                                const struct dbos_buf *kept, struct dbos_errinfo *info) {
    struct dbos_hash128 digest;
    if (kept->failed) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for an idempotency key");
    }
    if (kept->size_bytes > DBOS_COLUMN_BYTES_MAX) {
        return dbos_fail(
            info, DBOS_ERR_LIMIT,
            "the reply to a call with an idempotency key is %zu bytes: the limit is %d",
            kept->size_bytes, DBOS_COLUMN_BYTES_MAX);
    }
    enum dbos_err err = request_digest(request, &digest, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_datum datums[COLUMNS];
    datums[COLUMN_KEY] = key_datum(request->idempotency_key);
    datums[COLUMN_USERNAME] = dbos_datum_bytes(DBOS_TYPE_TEXT, run->user, strlen(run->user));
    datums[COLUMN_DIGEST] = dbos_datum_bytes(DBOS_TYPE_BYTEA, &digest, sizeof digest);
    datums[COLUMN_REPLY] = dbos_datum_bytes(DBOS_TYPE_BYTEA, kept->data, kept->size_bytes);
    datums[COLUMN_COMMITTED] = dbos_datum_int(DBOS_TYPE_INT8, dbos_txn_now_us(run->txn));
    struct dbos_row *row = NULL;
    return dbos_txn_insert(run->txn, DBOS_TABLE_IDEMPOTENCY, datums, &row, info);
}

enum dbos_err dbos_idempotency_end(const struct dbos_run *run, struct dbos_request *request,
                                   size_t reply_start, struct dbos_errinfo *info) {
    if (request->idempotency_key == NULL) {
        return DBOS_OK;
    }
    struct dbos_buf kept;
    dbos_buf_init(&kept, request->reply.alloc);
    keep_reply(request, reply_start, &kept);
    enum dbos_err err = insert_key(run, request, &kept, info);
    dbos_buf_fini(&kept);
    return err;
}

/* -- how long a key is kept ---------------------------------------------------------------------
 * Block ids count up in a slot, and rows go from the oldest one on only, so that those of a slot
 * are a run of counters without a gap:
 *
 *      counters    1 … first-1 | first … due … newest
 *                      gone    |  to go  | kept
 */

static struct dbos_row *row_of(struct dbos_table *table, uint32_t slot, uint64_t counter) {
    return counter == 0 ? NULL : dbos_table_by_block(table, counter * DBOS_SLOTS + slot);
}

/* The oldest counter of a slot. `known` is there, and as a rule is the one. */
static uint64_t first_counter(struct dbos_table *table, uint32_t slot, uint64_t known) {
    uint64_t gone = row_of(table, slot, known - 1) == NULL ? known - 1 : 0;
    while (known - gone > 1) {
        uint64_t middle = gone + (known - gone) / 2;
        if (row_of(table, slot, middle) == NULL) {
            gone = middle;
        } else {
            known = middle;
        }
    }
    return known;
}

enum dbos_err dbos_idempotency_expire(const struct dbos_run *run,
                                      const struct dbos_request *request, uint64_t keys_max,
                                      struct dbos_errinfo *info) {
    /* Where fewer are kept than before, the surplus goes little by little: no call pays for all. */
    enum { EXPIRE_MAX = 2 };
    if (request->idempotency_key == NULL) {
        return DBOS_OK;
    }
    uint32_t slot = dbos_idempotency_slot(request->idempotency_key);
    struct dbos_table *table = keys_of(run, slot);
    uint64_t newest = dbos_table_next_counter(table, slot) - 1;
    uint64_t kept = keys_max <= DBOS_SLOTS ? 1 : keys_max / DBOS_SLOTS;
    uint64_t due = newest <= kept ? 0 : newest - kept;
    if (row_of(table, slot, due) == NULL) {
        return DBOS_OK;
    }
    uint64_t first = first_counter(table, slot, due);
    enum dbos_err err = DBOS_OK;
    for (uint64_t at = first; err == DBOS_OK && at <= due && at < first + EXPIRE_MAX; at++) {
        err = dbos_txn_delete(run->txn, DBOS_TABLE_IDEMPOTENCY, row_of(table, slot, at), info);
    }
    return err;
}
