/* One record becomes one row of txn, a row of access for each read or write, a row of t_<id> for
 * each write, and rows of event for what else it did, where the row of txn does not have it. */
#include <stdio.h>

#include "provenance/archive_internal.h"
#include "provenance/archive_text.h"
#include "provenance/record.h"

struct dbos_archive_relation *dbos_archive_table(const struct dbos_archiver *archiver,
                                                 uint32_t id) {
    uint32_t low = 0, high = archiver->table_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        uint32_t found = archiver->tables[middle]->table_id;
        if (found == id) {
            return archiver->tables[middle];
        }
        if (found < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* -- definitions --------------------------------------------------------------------------------
 */

static enum dbos_err out_of_memory(struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory in the archive");
}

static enum dbos_err add_table(struct dbos_archiver *archiver, struct dbos_table_def *def,
                               uint64_t position, struct dbos_errinfo *info) {
    if (archiver->table_count == archiver->table_capacity) {
        uint32_t capacity = archiver->table_capacity * 2 + 16;
        void *tables = dbos_retake(archiver->alloc, archiver->tables,
                                   capacity * sizeof(struct dbos_archive_relation *));
        if (tables == NULL) {
            return out_of_memory(info);
        }
        archiver->tables = tables;
        archiver->table_capacity = capacity;
    }
    struct dbos_archive_relation *relation = dbos_take(archiver->alloc, sizeof *relation);
    if (relation == NULL) {
        return out_of_memory(info);
    }
    if (dbos_archive_relation_init_table(relation, archiver->alloc, archiver->duck,
                                         archiver->connection, def) != DBOS_OK) {
        dbos_give(archiver->alloc, relation);
        return out_of_memory(info);
    }
    relation->created_position = position;
    uint32_t at = archiver->table_count;
    while (at > 0 && archiver->tables[at - 1]->table_id > def->id) {
        archiver->tables[at] = archiver->tables[at - 1];
        at--;
    }
    archiver->tables[at] = relation;
    archiver->table_count++;
    return DBOS_OK;
}

static enum dbos_err define_table(struct dbos_archiver *archiver, uint64_t position,
                                  struct dbos_table_def *def, struct dbos_errinfo *info) {
    struct dbos_archive_relation *relation = dbos_archive_table(archiver, def->id);
    archiver->names_stale = true;
    if (relation == NULL) {
        return add_table(archiver, def, position, info);
    }
    if (relation->def->schema_version > def->schema_version) {
        return DBOS_OK; /* an older one, met again while restoring */
    }
    relation->dropped_position = UINT64_MAX;
    return dbos_archive_relation_redefine(relation, def, info);
}

static enum dbos_err define_procedure(struct dbos_archiver *archiver,
                                      const struct dbos_procedure_info *procedure,
                                      struct dbos_errinfo *info) {
    uint32_t at = 0;
    while (at < archiver->procedure_count && archiver->procedures[at].id != procedure->id) {
        at++;
    }
    if (at == archiver->procedure_capacity) {
        uint32_t capacity = archiver->procedure_capacity * 2 + 16;
        void *procedures = dbos_retake(archiver->alloc, archiver->procedures,
                                       capacity * sizeof(struct dbos_archive_procedure));
        if (procedures == NULL) {
            return out_of_memory(info);
        }
        archiver->procedures = procedures;
        archiver->procedure_capacity = capacity;
    }
    archiver->procedures[at].id = procedure->id;
    memcpy(archiver->procedures[at].name, procedure->name, DBOS_NAME_BYTES);
    archiver->procedure_count += at == archiver->procedure_count ? 1 : 0;
    return DBOS_OK;
}

enum dbos_err dbos_archive_define_system(struct dbos_archiver *archiver,
                                         struct dbos_errinfo *info) {
    struct dbos_catalog *catalog;
    if (dbos_catalog_open(archiver->alloc, &catalog) != DBOS_OK) {
        return out_of_memory(info);
    }
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; i < catalog->table_count && err == DBOS_OK; i++) {
        err = define_table(archiver, 0, catalog->tables[i], info);
    }
    dbos_catalog_unref(catalog);
    return err;
}

enum dbos_err dbos_archive_define(struct dbos_archiver *archiver, uint64_t position, int64_t kind,
                                  struct dbos_bytes definition, struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    if (kind == DBOS_ARCHIVE_CATALOG_TABLE_KIND) {
        struct dbos_table_def *def;
        err = dbos_table_def_decode(archiver->alloc, definition.data, definition.size_bytes, &def,
                                    info);
        if (err == DBOS_OK) {
            err = define_table(archiver, position, def, info);
            dbos_table_def_unref(def);
        }
    } else if (kind == DBOS_ARCHIVE_CATALOG_PROCEDURE_KIND) {
        struct dbos_procedure_info *procedure;
        err = dbos_procedure_info_decode(archiver->alloc, definition.data, definition.size_bytes,
                                         &procedure, info);
        if (err == DBOS_OK) {
            err = define_procedure(archiver, procedure, info);
            dbos_procedure_info_unref(procedure);
        }
    }
    return err;
}

enum dbos_err dbos_archive_undefine(struct dbos_archiver *archiver, uint64_t position, int64_t kind,
                                    struct dbos_bytes definition, struct dbos_errinfo *info) {
    if (kind != DBOS_ARCHIVE_CATALOG_TABLE_KIND) {
        return DBOS_OK; /* a dropped procedure keeps its name in history */
    }
    struct dbos_table_def *def;
    enum dbos_err err =
        dbos_table_def_decode(archiver->alloc, definition.data, definition.size_bytes, &def, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_archive_relation *relation = dbos_archive_table(archiver, def->id);
    if (relation != NULL) {
        relation->dropped_position = position;
        archiver->names_stale = true;
    }
    dbos_table_def_unref(def);
    return DBOS_OK;
}

/* A cleaned copy of a text of the log. */
static char *copy_text(struct dbos_archiver *archiver, struct dbos_bytes text) {
    struct dbos_buf buf;
    dbos_buf_init(&buf, archiver->alloc);
    dbos_archive_text_clean(&buf, text.data, text.size_bytes);
    dbos_buf_put_u8(&buf, 0);
    if (buf.failed) {
        dbos_buf_fini(&buf);
        return NULL;
    }
    return (char *)buf.data;
}

enum dbos_err dbos_archive_learn_session(struct dbos_archiver *archiver, uint64_t id,
                                         struct dbos_bytes user, struct dbos_bytes role) {
    if (archiver->session_count == archiver->session_capacity) {
        uint32_t capacity = archiver->session_capacity * 2 + 16;
        void *sessions = dbos_retake(archiver->alloc, archiver->sessions,
                                     capacity * sizeof(struct dbos_archive_session));
        if (sessions == NULL) {
            return DBOS_ERR_NOMEM;
        }
        archiver->sessions = sessions;
        archiver->session_capacity = capacity;
    }
    struct dbos_archive_session *session = &archiver->sessions[archiver->session_count];
    session->user = copy_text(archiver, user);
    session->role = copy_text(archiver, role);
    if (session->user == NULL || session->role == NULL ||
        dbos_idmap_put(&archiver->session_index, id, archiver->session_count) != DBOS_OK) {
        dbos_give(archiver->alloc, session->user);
        dbos_give(archiver->alloc, session->role);
        return DBOS_ERR_NOMEM;
    }
    archiver->session_count++;
    return DBOS_OK;
}

/* -- rows ---------------------------------------------------------------------------------------
 */

/* One record on its way into the relations. */
struct intake {
    struct dbos_archiver *archiver;
    const struct dbos_record_head *head;
    struct dbos_errinfo *info;
    int64_t next_ord;
    uint64_t reads;
    uint64_t writes;
    bool has_egress; /* the first one, which goes into the transaction's row */
    int64_t egress_number;
    struct dbos_event egress;
    bool steps_apart; /* more statements than can be shared: they are rows of event */
    uint32_t step_count;
    struct dbos_archive_step steps[DBOS_ARCHIVE_STEPS_MAX];
};

static void put_clean(struct dbos_archiver *archiver, struct dbos_archive_relation *relation,
                      uint32_t column, struct dbos_bytes text) {
    dbos_buf_reset(&archiver->scratch);
    dbos_archive_text_clean(&archiver->scratch, text.data, text.size_bytes);
    dbos_archive_put_bytes(relation, column, archiver->scratch.data, archiver->scratch.size_bytes);
}

static enum dbos_err take_session(struct intake *in, const struct dbos_event *event) {
    struct dbos_archiver *archiver = in->archiver;
    if (dbos_idmap_find(&archiver->session_index, event->session) != NULL) {
        return DBOS_OK;
    }
    if (dbos_archive_learn_session(archiver, event->session, event->user, event->role) != DBOS_OK) {
        return out_of_memory(in->info);
    }
    struct dbos_archive_relation *relation = &archiver->fixed[DBOS_ARCHIVE_SESSION];
    enum dbos_err err = dbos_archive_row_begin(relation, in->info);
    if (err != DBOS_OK) {
        return err;
    }
    dbos_archive_put_int(relation, DBOS_SESSION_POSITION, (int64_t)in->head->position);
    dbos_archive_put_int(relation, DBOS_SESSION_TS, in->head->commit_us);
    dbos_archive_put_int(relation, DBOS_SESSION_ID, (int64_t)event->session);
    put_clean(archiver, relation, DBOS_SESSION_USERNAME, event->user);
    put_clean(archiver, relation, DBOS_SESSION_ROLE, event->role);
    put_clean(archiver, relation, DBOS_SESSION_ADDRESS, event->address);
    put_clean(archiver, relation, DBOS_SESSION_APPLICATION, event->application);
    dbos_archive_row_end(relation);
    return DBOS_OK;
}

static enum dbos_err take_text(struct intake *in, const struct dbos_event *event) {
    struct dbos_archiver *archiver = in->archiver;
    if (dbos_idmap_find(&archiver->texts, event->statement_id) != NULL) {
        return DBOS_OK;
    }
    if (dbos_idmap_put(&archiver->texts, event->statement_id, 1) != DBOS_OK) {
        return out_of_memory(in->info);
    }
    struct dbos_archive_relation *relation = &archiver->fixed[DBOS_ARCHIVE_STATEMENT];
    enum dbos_err err = dbos_archive_row_begin(relation, in->info);
    if (err != DBOS_OK) {
        return err;
    }
    dbos_archive_put_int(relation, DBOS_TEXT_POSITION, (int64_t)in->head->position);
    dbos_archive_put_int(relation, DBOS_TEXT_TS, in->head->commit_us);
    dbos_archive_put_int(relation, DBOS_TEXT_ID, (int64_t)event->statement_id);
    put_clean(archiver, relation, DBOS_TEXT_TEXT, event->text);
    dbos_archive_row_end(relation);
    return DBOS_OK;
}

static bool is_write(const struct dbos_event *event) {
    return event->op == DBOS_EVENT_INSERT || event->op == DBOS_EVENT_UPDATE ||
           event->op == DBOS_EVENT_DELETE;
}

/* The columns that only some kinds of event have. */
static void put_event_details(struct dbos_archive_relation *relation,
                              const struct dbos_event *event,
                              const struct dbos_archive_relation *table, uint16_t partitions) {
    bool is_scan = event->op == DBOS_EVENT_SCAN;
    bool has_keys = event->op == DBOS_EVENT_RANGE || event->op == DBOS_EVENT_ABSENT;
    if (is_scan) {
        /* An unpartitioned table is whole wherever it is read. */
        bool whole = table != NULL && table->def->partition_column < 0;
        dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_PARTITION,
                             whole ? DBOS_PARTITION_ALL : event->partition);
        dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_PARTITIONS, partitions);
    } else {
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_PARTITION);
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_PARTITIONS);
    }
    if (has_keys) {
        dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_INDEX, event->index_id);
        dbos_archive_put_bytes(relation, DBOS_EVENT_COLUMN_LOW, event->low.data,
                               event->low.size_bytes);
        dbos_archive_put_bytes(relation, DBOS_EVENT_COLUMN_HIGH, event->high.data,
                               event->high.size_bytes);
        dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_BOUNDS, event->bound_flags);
    } else {
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_INDEX);
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_LOW);
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_HIGH);
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_BOUNDS);
    }
    if (event->op == DBOS_EVENT_STATEMENT) {
        dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_STATEMENT_ID,
                             (int64_t)event->statement_id);
    } else {
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_STATEMENT_ID);
    }
    if (event->op == DBOS_EVENT_EGRESS) {
        dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_BYTES, (int64_t)event->bytes);
        dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_DIGEST, (int64_t)event->digest);
    } else {
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_BYTES);
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_DIGEST);
    }
}

/* The number of the next event within its transaction. */
static int64_t number_of(const struct intake *in) {
    return in->next_ord & ((1 << DBOS_ARCHIVE_ORD_BITS) - 1);
}

/* What every event has. */
static void put_event_start(const struct intake *in, struct dbos_archive_relation *relation,
                            const struct dbos_event *event, int64_t ord) {
    dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_ORD, ord);
    dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_POSITION, (int64_t)in->head->position);
    dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_TS, in->head->commit_us);
    dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_STATEMENT, event->statement);
    dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_OP, event->op);
}

/* A read or a write: a row of access. A write's key is in the scratch buffer when `has_key`. */
static enum dbos_err put_access(struct intake *in, const struct dbos_event *event, bool has_key) {
    struct dbos_archive_relation *relation = &in->archiver->fixed[DBOS_ARCHIVE_ACCESS];
    enum dbos_err err = dbos_archive_row_begin(relation, in->info);
    if (err != DBOS_OK) {
        return err;
    }
    put_event_start(in, relation, event, in->next_ord);
    dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_TABLE, event->table_id);
    dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_BLOCK, (int64_t)event->block);
    dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_COUNT,
                         is_write(event) ? 1 : (int64_t)event->count);
    if (event->op == DBOS_EVENT_UPDATE || event->op == DBOS_EVENT_DELETE) {
        dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_PREVIOUS,
                             (int64_t)event->previous_position);
    } else {
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_PREVIOUS);
    }
    if (has_key) {
        dbos_archive_put_bytes(relation, DBOS_EVENT_COLUMN_PK, in->archiver->scratch.data,
                               in->archiver->scratch.size_bytes);
    } else {
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_PK);
    }
    dbos_archive_row_end(relation);
    return DBOS_OK;
}

/* Any other event: a row of event. */
static enum dbos_err put_event(struct intake *in, const struct dbos_event *event, int64_t ord) {
    struct dbos_archive_relation *relation = &in->archiver->fixed[DBOS_ARCHIVE_EVENT];
    enum dbos_err err = dbos_archive_row_begin(relation, in->info);
    if (err != DBOS_OK) {
        return err;
    }
    put_event_start(in, relation, event, ord);
    if (event->table_id == 0) {
        dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_TABLE);
    } else {
        dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_TABLE, event->table_id);
    }
    dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_BLOCK);
    dbos_archive_put_int(relation, DBOS_EVENT_COLUMN_COUNT, (int64_t)event->count);
    dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_PREVIOUS);
    dbos_archive_put_null(relation, DBOS_EVENT_COLUMN_PK);
    put_event_details(relation, event, dbos_archive_table(in->archiver, event->table_id),
                      in->head->partitions);
    dbos_archive_row_end(relation);
    return DBOS_OK;
}

/* The statements so far become rows of event, as will those that follow. */
static enum dbos_err part_steps(struct intake *in) {
    enum dbos_err err = DBOS_OK;
    int64_t first = in->next_ord - number_of(in);
    for (uint32_t i = 0; i < in->step_count && err == DBOS_OK; i++) {
        struct dbos_event event = {.op = DBOS_EVENT_STATEMENT,
                                   .statement = (uint16_t)in->steps[i].statement,
                                   .statement_id = in->steps[i].statement_id};
        err = put_event(in, &event, first + in->steps[i].number);
    }
    in->step_count = 0;
    in->steps_apart = true;
    return err;
}

static enum dbos_err take_statement(struct intake *in, const struct dbos_event *event) {
    enum dbos_err err = DBOS_OK;
    if (!in->steps_apart && in->step_count == DBOS_ARCHIVE_STEPS_MAX) {
        err = part_steps(in);
    }
    if (err == DBOS_OK && in->steps_apart) {
        return put_event(in, event, in->next_ord);
    }
    in->steps[in->step_count++] = (struct dbos_archive_step){.statement_id = event->statement_id,
                                                             .number = (uint32_t)number_of(in),
                                                             .statement = event->statement};
    return err;
}

/* A sequence that no transaction had before: its rows of step. */
static enum dbos_err put_steps(struct intake *in, uint64_t id) {
    struct dbos_archive_relation *relation = &in->archiver->fixed[DBOS_ARCHIVE_STEP];
    if (dbos_archive_steps_learn(&in->archiver->steps, id, in->steps, in->step_count) != DBOS_OK) {
        return out_of_memory(in->info);
    }
    for (uint32_t i = 0; i < in->step_count; i++) {
        enum dbos_err err = dbos_archive_row_begin(relation, in->info);
        if (err != DBOS_OK) {
            return err;
        }
        dbos_archive_put_int(relation, DBOS_STEP_POSITION, (int64_t)in->head->position);
        dbos_archive_put_int(relation, DBOS_STEP_TS, in->head->commit_us);
        dbos_archive_put_int(relation, DBOS_STEP_STEPS, (int64_t)id);
        dbos_archive_put_int(relation, DBOS_STEP_NUMBER, in->steps[i].number);
        dbos_archive_put_int(relation, DBOS_STEP_STATEMENT, in->steps[i].statement);
        dbos_archive_put_int(relation, DBOS_STEP_STATEMENT_ID, (int64_t)in->steps[i].statement_id);
        dbos_archive_row_end(relation);
    }
    return DBOS_OK;
}

/* After the last event: the transaction's row gets the id of its steps, or they their own rows. */
static enum dbos_err end_steps(struct intake *in, bool *out_has, uint64_t *out_id) {
    const struct dbos_archive_steps *steps = &in->archiver->steps;
    bool taken;
    *out_has = in->step_count != 0;
    if (in->step_count == 0) {
        return DBOS_OK;
    }
    *out_id = dbos_archive_steps_id(in->steps, in->step_count);
    if (dbos_archive_steps_known(steps, *out_id, in->steps, in->step_count, &taken)) {
        return DBOS_OK;
    }
    if (taken || steps->set_count >= DBOS_ARCHIVE_SETS_MAX) {
        *out_has = false;
        return part_steps(in);
    }
    return put_steps(in, *out_id);
}

/* The bytes of a large value, from the blob segments, into archiver->object. */
static enum dbos_err load_object(struct intake *in, const struct dbos_object_id *id) {
    struct dbos_archiver *archiver = in->archiver;
    if (!dbos_blob_index_has(archiver->blobs, id)) {
        enum dbos_err err = dbos_blob_index_refresh(archiver->blobs, in->info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    dbos_buf_reset(&archiver->object);
    uint8_t *to = dbos_buf_reserve(&archiver->object, id->size_bytes);
    if (to == NULL) {
        return out_of_memory(in->info);
    }
    archiver->object.size_bytes = id->size_bytes;
    return dbos_blob_read(archiver->blobs, id, to, in->info);
}

static enum dbos_err put_column(struct intake *in, struct dbos_archive_relation *table,
                                const uint8_t *payload, uint32_t column) {
    uint32_t place = table->places[column];
    struct dbos_object_id reference = {.size_bytes = 0};
    struct dbos_datum datum = dbos_payload_column(table->def, payload, column, &reference);
    if (datum.is_null) {
        dbos_archive_put_null(table, place);
    } else if (reference.size_bytes != 0) {
        enum dbos_err err = load_object(in, &reference);
        if (err != DBOS_OK) {
            return err;
        }
        dbos_archive_put_bytes(table, place, in->archiver->object.data, reference.size_bytes);
    } else if (dbos_type_is_bytes((enum dbos_type)datum.type)) {
        dbos_archive_put_bytes(table, place, datum.bytes.data, datum.bytes.size_bytes);
    } else if (datum.type == DBOS_TYPE_FLOAT8) {
        dbos_archive_put_real(table, place, datum.real);
    } else {
        dbos_archive_put_int(table, place, datum.integer);
    }
    return DBOS_OK;
}

/* The version's row of t_<id>: after an insert or update, before a delete. */
static enum dbos_err put_version(struct intake *in, struct dbos_archive_relation *table,
                                 const struct dbos_event *event, struct dbos_bytes image,
                                 bool has_key) {
    enum dbos_err err = dbos_archive_row_begin(table, in->info);
    if (err != DBOS_OK) {
        return err;
    }
    for (uint32_t i = DBOS_ROW_COLUMNS; i < table->column_count; i++) {
        dbos_archive_put_null(table, i); /* columns that the definition no longer has */
    }
    dbos_archive_put_int(table, DBOS_ROW_COLUMN_ORD, in->next_ord);
    dbos_archive_put_int(table, DBOS_ROW_COLUMN_POSITION, (int64_t)in->head->position);
    dbos_archive_put_int(table, DBOS_ROW_COLUMN_TS, in->head->commit_us);
    dbos_archive_put_int(table, DBOS_ROW_COLUMN_STATEMENT, event->statement);
    dbos_archive_put_int(table, DBOS_ROW_COLUMN_OP, event->op);
    dbos_archive_put_int(table, DBOS_ROW_COLUMN_BLOCK, (int64_t)event->block);
    dbos_archive_put_int(table, DBOS_ROW_COLUMN_PREVIOUS, (int64_t)event->previous_position);
    if (has_key) {
        dbos_archive_put_bytes(table, DBOS_ROW_COLUMN_PK, in->archiver->scratch.data,
                               in->archiver->scratch.size_bytes);
    } else {
        dbos_archive_put_null(table, DBOS_ROW_COLUMN_PK);
    }
    for (uint32_t i = 0; i < table->def->column_count; i++) {
        dbos_archive_put_valid(table, table->places[i]);
        err = put_column(in, table, image.data, i);
        if (err != DBOS_OK) {
            return err;
        }
    }
    dbos_archive_row_end(table);
    return DBOS_OK;
}

/* A row of dbos.catalog was written: the definition holds from here on. */
static enum dbos_err take_definition(struct intake *in, const struct dbos_archive_relation *table,
                                     const struct dbos_event *event, struct dbos_bytes image) {
    int32_t kind_column = dbos_table_def_column(table->def, "kind");
    int32_t definition_column = dbos_table_def_column(table->def, "definition");
    DBOS_CHECK(kind_column >= 0 && definition_column >= 0);
    struct dbos_object_id reference = {.size_bytes = 0};
    struct dbos_datum kind =
        dbos_payload_column(table->def, image.data, (uint32_t)kind_column, &reference);
    struct dbos_datum definition =
        dbos_payload_column(table->def, image.data, (uint32_t)definition_column, &reference);
    struct dbos_bytes bytes = definition.bytes;
    if (reference.size_bytes != 0) {
        enum dbos_err err = load_object(in, &reference);
        if (err != DBOS_OK) {
            return err;
        }
        bytes = (struct dbos_bytes){in->archiver->object.data, reference.size_bytes};
    }
    return event->op == DBOS_EVENT_DELETE ? dbos_archive_undefine(in->archiver, in->head->position,
                                                                  kind.integer, bytes, in->info)
                                          : dbos_archive_define(in->archiver, in->head->position,
                                                                kind.integer, bytes, in->info);
}

static enum dbos_err take_write(struct intake *in, const struct dbos_event *event) {
    struct dbos_archive_relation *table = dbos_archive_table(in->archiver, event->table_id);
    if (table == NULL) {
        return dbos_fail(in->info, DBOS_ERR_CORRUPT,
                         "position %llu writes table %u, which nothing defines",
                         (unsigned long long)in->head->position, event->table_id);
    }
    struct dbos_bytes image = event->op == DBOS_EVENT_DELETE ? event->before : event->after;
    enum dbos_err err = dbos_row_payload_check(table->def, image.data, image.size_bytes, in->info);
    if (err != DBOS_OK) {
        return err;
    }
    dbos_buf_reset(&in->archiver->scratch);
    bool has_key = dbos_archive_text_key(&in->archiver->scratch, table->def, image.data);
    err = put_access(in, event, has_key);
    if (err == DBOS_OK) {
        err = put_version(in, table, event, image, has_key);
    }
    if (err == DBOS_OK && event->table_id == DBOS_TABLE_CATALOG) {
        err = take_definition(in, table, event, image);
    }
    in->writes++;
    return err;
}

static enum dbos_err take_event(struct intake *in, const struct dbos_event *event) {
    enum dbos_err err;
    if (event->op == DBOS_EVENT_SESSION) {
        return take_session(in, event);
    }
    if (event->op == DBOS_EVENT_TEXT) {
        return take_text(in, event);
    }
    if ((in->next_ord & ((1 << DBOS_ARCHIVE_ORD_BITS) - 1)) == (1 << DBOS_ARCHIVE_ORD_BITS) - 1) {
        return dbos_fail(in->info, DBOS_ERR_LIMIT, "position %llu has too many events",
                         (unsigned long long)in->head->position);
    }
    if (is_write(event)) {
        err = take_write(in, event);
    } else if (event->op == DBOS_EVENT_READ) {
        in->reads += event->count;
        err = put_access(in, event, false);
    } else if (event->op == DBOS_EVENT_STATEMENT) {
        err = take_statement(in, event);
    } else if (event->op == DBOS_EVENT_EGRESS && !in->has_egress) {
        in->has_egress = true;
        in->egress_number = number_of(in);
        in->egress = *event;
        err = DBOS_OK;
    } else {
        in->reads += event->op == DBOS_EVENT_SCAN ? event->count : 0;
        err = put_event(in, event, in->next_ord);
    }
    in->next_ord++;
    return err;
}

static void put_text_or_null(struct dbos_archive_relation *relation, uint32_t column,
                             const char *text) {
    if (text == NULL) {
        dbos_archive_put_null(relation, column);
    } else {
        dbos_archive_put_bytes(relation, column, text, strlen(text));
    }
}

static void put_int_or_null(struct dbos_archive_relation *relation, uint32_t column, bool is_there,
                            int64_t value) {
    if (is_there) {
        dbos_archive_put_int(relation, column, value);
    } else {
        dbos_archive_put_null(relation, column);
    }
}

static const char *procedure_name(const struct dbos_archiver *archiver, uint32_t id) {
    for (uint32_t i = 0; id != 0 && i < archiver->procedure_count; i++) {
        if (archiver->procedures[i].id == id) {
            return archiver->procedures[i].name;
        }
    }
    return NULL;
}

static void put_caller(struct intake *in, struct dbos_archive_relation *txn) {
    const struct dbos_record_head *head = in->head;
    const uint32_t *index = dbos_idmap_find(&in->archiver->session_index, head->session);
    const struct dbos_archive_session *session =
        index == NULL ? NULL : &in->archiver->sessions[*index];
    dbos_archive_put_int(txn, DBOS_TXN_SESSION, (int64_t)head->session);
    dbos_archive_put_int(txn, DBOS_TXN_REQUEST, (int64_t)head->request);
    put_text_or_null(txn, DBOS_TXN_USERNAME, session == NULL ? NULL : session->user);
    put_text_or_null(txn, DBOS_TXN_ROLE, session == NULL ? NULL : session->role);
    dbos_archive_put_int(txn, DBOS_TXN_PROCEDURE_ID, head->procedure);
    dbos_archive_put_int(txn, DBOS_TXN_PROCEDURE_VERSION, head->procedure_version);
    put_text_or_null(txn, DBOS_TXN_PROCEDURE, procedure_name(in->archiver, head->procedure));
    dbos_archive_put_int(txn, DBOS_TXN_ARGUMENT_COUNT, head->argument_count);
    dbos_archive_put_bytes(txn, DBOS_TXN_ARGUMENTS, head->arguments.data,
                           head->arguments.size_bytes);
}

static void put_egress(const struct intake *in, struct dbos_archive_relation *txn) {
    const struct dbos_event *egress = &in->egress;
    bool has = in->has_egress;
    put_int_or_null(txn, DBOS_TXN_EGRESS_NUMBER, has, in->egress_number);
    put_int_or_null(txn, DBOS_TXN_EGRESS_STATEMENT, has, egress->statement);
    put_int_or_null(txn, DBOS_TXN_EGRESS_COUNT, has, (int64_t)egress->count);
    put_int_or_null(txn, DBOS_TXN_EGRESS_BYTES, has, (int64_t)egress->bytes);
    put_int_or_null(txn, DBOS_TXN_EGRESS_DIGEST, has, (int64_t)egress->digest);
}

static enum dbos_err put_txn(struct intake *in) {
    const struct dbos_record_head *head = in->head;
    struct dbos_archive_relation *txn = &in->archiver->fixed[DBOS_ARCHIVE_TXN];
    bool has_steps = false;
    uint64_t steps = 0;
    enum dbos_err err = end_steps(in, &has_steps, &steps);
    if (err == DBOS_OK) {
        err = dbos_archive_row_begin(txn, in->info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    dbos_archive_put_int(txn, DBOS_TXN_POSITION, (int64_t)head->position);
    dbos_archive_put_int(txn, DBOS_TXN_TS, head->commit_us);
    dbos_archive_put_int(txn, DBOS_TXN_START_TS, head->start_us);
    dbos_archive_put_int(txn, DBOS_TXN_PARTITION, head->partition);
    dbos_archive_put_int(txn, DBOS_TXN_PARTITIONS, head->partitions);
    dbos_archive_put_int(txn, DBOS_TXN_FLAGS, head->flags);
    dbos_archive_put_int(txn, DBOS_TXN_OUTCOME, head->outcome);
    put_text_or_null(txn, DBOS_TXN_STATUS,
                     (head->flags & DBOS_RECORD_ABORTED) != 0 ? "abort" : "commit");
    dbos_archive_put_int(txn, DBOS_TXN_READ_ONLY, (head->flags & DBOS_RECORD_READ_ONLY) != 0);
    dbos_archive_put_int(txn, DBOS_TXN_TASK_ID, (int64_t)head->task_id);
    put_int_or_null(txn, DBOS_TXN_SEED, head->has_seed, (int64_t)head->seed);
    put_int_or_null(txn, DBOS_TXN_HASH_DELTA, head->has_hash_delta, head->hash_delta);
    dbos_archive_put_int(txn, DBOS_TXN_READS, (int64_t)in->reads);
    dbos_archive_put_int(txn, DBOS_TXN_WRITES, (int64_t)in->writes);
    put_int_or_null(txn, DBOS_TXN_STEPS, has_steps, (int64_t)steps);
    put_egress(in, txn);
    put_caller(in, txn);
    dbos_archive_row_end(txn);
    return DBOS_OK;
}

static void widen_span(struct dbos_archive_span *span, const struct dbos_record_head *head) {
    if (span->records == 0) {
        span->first_position = head->position;
        span->first_us = head->commit_us;
        span->last_us = head->commit_us;
    }
    span->records++;
    span->last_position = head->position;
    span->first_us = head->commit_us < span->first_us ? head->commit_us : span->first_us;
    span->last_us = head->commit_us > span->last_us ? head->commit_us : span->last_us;
}

enum dbos_err dbos_archive_ingest(struct dbos_archiver *archiver, const uint8_t *record,
                                  size_t size_bytes, struct dbos_errinfo *info) {
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    enum dbos_err err =
        dbos_record_open(record, size_bytes, &archiver->record_scratch, &head, &decoder, info);
    if (err != DBOS_OK) {
        return err;
    }
    DBOS_CHECK(head.position < UINT64_C(1) << (63 - DBOS_ARCHIVE_ORD_BITS));
    struct intake in; /* not its whole list of steps */
    memset(&in, 0, offsetof(struct intake, steps));
    in.archiver = archiver;
    in.head = &head;
    in.info = info;
    in.next_ord = (int64_t)(head.position << DBOS_ARCHIVE_ORD_BITS);
    struct dbos_event event;
    while (err == DBOS_OK && dbos_record_next(&decoder, &event)) {
        err = take_event(&in, &event);
    }
    if (err == DBOS_OK) {
        err = dbos_record_end(&decoder, info);
    }
    if (err == DBOS_OK) {
        err = put_txn(&in);
    }
    if (err == DBOS_OK) {
        widen_span(&archiver->span, &head);
        archiver->position = head.position;
        archiver->records++;
    }
    return err;
}
