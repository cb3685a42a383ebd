#include "engine/replay_compare.h"

#include <inttypes.h>
#include <stdio.h>

/* One of the two records. */
struct side {
    struct dbos_record_scratch scratch;
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_event event;
    bool has_event;
    bool has_record;
};

struct comparison {
    const struct dbos_replay_pair *pair;
    struct side recorded;
    struct side again;
    bool no_reads; /* they were not recorded then */
};

/* --- events that count ----------------------------------------------------------------------- */

bool dbos_replay_is_of_key(const struct dbos_event *event) {
    return event->table_id == DBOS_TABLE_IDEMPOTENCY &&
           (event->op == DBOS_EVENT_INSERT ||
            (event->statement == 0 &&
             (event->op == DBOS_EVENT_ABSENT || event->op == DBOS_EVENT_READ)));
}

static bool counts(const struct comparison *c, const struct dbos_event *event) {
    switch ((enum dbos_event_op)event->op) {
    case DBOS_EVENT_SESSION:
    case DBOS_EVENT_TEXT:
        return false;
    case DBOS_EVENT_READ:
    case DBOS_EVENT_RANGE:
    case DBOS_EVENT_ABSENT:
    case DBOS_EVENT_SCAN:
    case DBOS_EVENT_EGRESS:
        return !c->no_reads && !dbos_replay_is_of_key(event);
    case DBOS_EVENT_INSERT:
        return !dbos_replay_is_of_key(event);
    case DBOS_EVENT_DELETE:
    case DBOS_EVENT_UPDATE:
    case DBOS_EVENT_STATEMENT:
        break;
    }
    return true;
}

static void next_event(const struct comparison *c, struct side *side) {
    do {
        side->has_event = side->has_record && dbos_record_next(&side->decoder, &side->event);
    } while (side->has_event && !counts(c, &side->event));
}

/* --- the same? ------------------------------------------------------------------------------- */

static bool same_bytes(struct dbos_bytes a, struct dbos_bytes b) {
    return a.size_bytes == b.size_bytes &&
           (a.size_bytes == 0 || memcmp(a.data, b.data, a.size_bytes) == 0);
}

/* What an operation does not have is zero in both. */
static bool same_event(const struct dbos_event *a, const struct dbos_event *b) {
    return a->op == b->op && a->statement == b->statement && a->partition == b->partition &&
           a->table_id == b->table_id && a->index_id == b->index_id && a->block == b->block &&
           a->count == b->count && a->previous_position == b->previous_position &&
           a->statement_id == b->statement_id && a->bytes == b->bytes && a->digest == b->digest &&
           a->bound_flags == b->bound_flags && same_bytes(a->before, b->before) &&
           same_bytes(a->after, b->after) && same_bytes(a->low, b->low) &&
           same_bytes(a->high, b->high);
}

/* --- in words -------------------------------------------------------------------------------- */

enum { HEX_BYTES = 16 };

/* Some bytes of `of`, from where it differs from `other` on. */
static void put_hex(struct dbos_bytes of, struct dbos_bytes other, const char *what, char *out,
                    size_t out_bytes) {
    size_t at = 0;
    size_t shown = 0;
    char hex[2 * HEX_BYTES + 1] = "";
    while (at < of.size_bytes && at < other.size_bytes && of.data[at] == other.data[at]) {
        at++;
    }
    for (; shown < HEX_BYTES && at + shown < of.size_bytes; shown++) {
        (void)snprintf(hex + 2 * shown, 3, "%02x", of.data[at + shown]);
    }
    (void)snprintf(out, out_bytes, ", %s %zu bytes, at %zu: %s", what, of.size_bytes, at, hex);
}

static void put_images(const struct dbos_event *event, const struct dbos_event *other, char *out,
                       size_t out_bytes) {
    static const struct dbos_event none = {0};
    other = other == NULL ? &none : other;
    out[0] = '\0';
    if (event->before.size_bytes != 0 && !same_bytes(event->before, other->before)) {
        put_hex(event->before, other->before, "before", out, out_bytes);
    } else if (event->after.size_bytes != 0) {
        put_hex(event->after, other->after, "after", out, out_bytes);
    } else if (event->low.size_bytes != 0 && !same_bytes(event->low, other->low)) {
        put_hex(event->low, other->low, "key", out, out_bytes);
    } else if (event->high.size_bytes != 0) {
        put_hex(event->high, other->high, "to key", out, out_bytes);
    }
}

static const char *op_name(uint8_t op) {
    switch ((enum dbos_event_op)op) {
    case DBOS_EVENT_INSERT:
        return "insert into";
    case DBOS_EVENT_DELETE:
        return "delete from";
    case DBOS_EVENT_UPDATE:
        return "update of";
    case DBOS_EVENT_READ:
        return "read of";
    case DBOS_EVENT_RANGE:
        return "range of";
    case DBOS_EVENT_ABSENT:
        return "key not found in";
    case DBOS_EVENT_SCAN:
        return "scan of";
    case DBOS_EVENT_EGRESS:
    case DBOS_EVENT_STATEMENT:
    case DBOS_EVENT_SESSION:
    case DBOS_EVENT_TEXT:
        break;
    }
    return "event in";
}

static void put_row_event(const struct comparison *c, const struct dbos_event *event,
                          const struct dbos_event *other, char *out) {
    const struct dbos_table_def *def = dbos_catalog_table_by_id(c->pair->catalog, event->table_id);
    char images[128];
    char name[DBOS_NAME_BYTES + 16];
    put_images(event, other, images, sizeof images);
    if (def == NULL) {
        (void)snprintf(name, sizeof name, "table %u", event->table_id);
    } else {
        (void)snprintf(name, sizeof name, "\"%s\"", def->name);
    }
    (void)snprintf(out, DBOS_REPLAY_TEXT_BYTES,
                   "statement %u: %s %s, block %" PRIu64 ", count %" PRIu64 ", version %" PRIu64
                   "%s",
                   event->statement, op_name(event->op), name, event->block, event->count,
                   event->previous_position, images);
}

static void put_event(const struct comparison *c, const struct side *side, const struct side *other,
                      char *out) {
    const struct dbos_event *event = &side->event;
    if (!side->has_event) {
        (void)snprintf(out, DBOS_REPLAY_TEXT_BYTES, "nothing more");
    } else if (event->op == DBOS_EVENT_STATEMENT) {
        (void)snprintf(out, DBOS_REPLAY_TEXT_BYTES, "statement %u is %016" PRIx64, event->statement,
                       event->statement_id);
    } else if (event->op == DBOS_EVENT_EGRESS) {
        (void)snprintf(out, DBOS_REPLAY_TEXT_BYTES,
                       "the result: %" PRIu64 " rows of %" PRIu64 " bytes, digest %016" PRIx64,
                       event->count, event->bytes, event->digest);
    } else {
        put_row_event(c, event, other->has_event ? &other->event : NULL, out);
    }
}

static void put_outcome(const struct side *side, const char *error, char *out) {
    if (!side->has_record) {
        (void)snprintf(out, DBOS_REPLAY_TEXT_BYTES, "no record%s%s", error[0] == '\0' ? "" : ": ",
                       error);
    } else if (side->head.outcome == DBOS_OK) {
        (void)snprintf(out, DBOS_REPLAY_TEXT_BYTES, "committed");
    } else {
        (void)snprintf(out, DBOS_REPLAY_TEXT_BYTES, "aborted with %s%s%s",
                       dbos_err_name((enum dbos_err)side->head.outcome),
                       error[0] == '\0' ? "" : ": ", error);
    }
}

static void put_seed(const struct side *side, char *out) {
    if (side->head.has_seed) {
        (void)snprintf(out, DBOS_REPLAY_TEXT_BYTES, "random numbers of seed %016" PRIx64,
                       side->head.seed);
    } else {
        (void)snprintf(out, DBOS_REPLAY_TEXT_BYTES, "no random numbers");
    }
}

/* --- comparing ------------------------------------------------------------------------------- */

static bool same_head(const struct comparison *c, struct dbos_replay_texts *out) {
    const struct side *recorded = &c->recorded;
    const struct side *again = &c->again;
    if (!again->has_record || recorded->head.outcome != again->head.outcome) {
        put_outcome(recorded, "", out->expected);
        put_outcome(again, c->pair->error, out->came);
        return false;
    }
    if (recorded->head.has_seed != again->head.has_seed ||
        recorded->head.seed != again->head.seed) {
        put_seed(recorded, out->expected);
        put_seed(again, out->came);
        return false;
    }
    /* They were handed over; a difference would be the replayer's own. */
    DBOS_CHECK(same_bytes(recorded->head.arguments, again->head.arguments) &&
               recorded->head.partition == again->head.partition &&
               recorded->head.start_us == again->head.start_us);
    return true;
}

static bool same_events(struct comparison *c, struct dbos_replay_texts *out) {
    struct side *recorded = &c->recorded;
    struct side *again = &c->again;
    do {
        next_event(c, recorded);
        next_event(c, again);
        if (recorded->has_event != again->has_event ||
            (recorded->has_event && !same_event(&recorded->event, &again->event))) {
            out->statement =
                recorded->has_event ? recorded->event.statement : recorded->decoder.statement;
            put_event(c, recorded, again, out->expected);
            put_event(c, again, recorded, out->came);
            return false;
        }
    } while (recorded->has_event);
    return true;
}

static enum dbos_err open_side(struct side *side, struct dbos_bytes record,
                               struct dbos_errinfo *info) {
    side->has_record = record.size_bytes != 0;
    return side->has_record ? dbos_record_open(record.data, record.size_bytes, &side->scratch,
                                               &side->head, &side->decoder, info)
                            : DBOS_OK;
}

enum dbos_err dbos_replay_compare(const struct dbos_replay_pair *pair, bool *out_same,
                                  struct dbos_replay_texts *out, struct dbos_errinfo *info) {
    struct comparison c = {.pair = pair};
    *out_same = false;
    dbos_record_scratch_init(&c.recorded.scratch, pair->alloc);
    dbos_record_scratch_init(&c.again.scratch, pair->alloc);
    enum dbos_err err = open_side(&c.recorded, pair->recorded, info);
    if (err == DBOS_OK) {
        err = open_side(&c.again, pair->again, info);
    }
    if (err == DBOS_OK) {
        c.no_reads = (c.recorded.head.flags & DBOS_RECORD_READS_OFF) != 0;
        *out_same = same_head(&c, out) && same_events(&c, out);
        err = dbos_record_end(&c.recorded.decoder, info);
    }
    if (err == DBOS_OK && c.again.has_record) {
        err = dbos_record_end(&c.again.decoder, info);
    }
    dbos_record_scratch_fini(&c.recorded.scratch);
    dbos_record_scratch_fini(&c.again.scratch);
    return err;
}
