/* What the record of a call holds, and how little it takes: a Vote as the engine runs it, read back
 * from the log. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/unit/engine/engine_support.h"

TestSuite(engine_record, .timeout = 60);

enum { RECORDS_MAX = 64, TEXTS_MAX = 64, STATEMENTS_MAX = 8 };

/* One call, as its record says. */
struct call_record {
    size_t size_bytes;
    uint32_t argument_count;
    uint32_t statements;
    uint64_t statement_ids[STATEMENTS_MAX];
    uint32_t inserts, updates, reads, absents;
    bool has_definitions;
};

struct findings {
    struct call_record calls[RECORDS_MAX];
    uint32_t call_count;
    struct {
        uint64_t id;
        char text[96];
    } texts[TEXTS_MAX];
    uint32_t text_count;
};

static void note_event(struct findings *found, struct call_record *call,
                       const struct dbos_event *event) {
    call->inserts += event->op == DBOS_EVENT_INSERT;
    call->updates += event->op == DBOS_EVENT_UPDATE;
    call->reads += event->op == DBOS_EVENT_READ;
    call->absents += event->op == DBOS_EVENT_ABSENT;
    if (event->op == DBOS_EVENT_STATEMENT) {
        cr_assert_lt(call->statements, STATEMENTS_MAX);
        call->statement_ids[call->statements++] = event->statement_id;
    }
    if (event->op == DBOS_EVENT_TEXT) {
        cr_assert_lt(found->text_count, TEXTS_MAX);
        found->texts[found->text_count].id = event->statement_id;
        (void)snprintf(found->texts[found->text_count].text, sizeof found->texts[0].text, "%.*s",
                       (int)event->text.size_bytes, (const char *)event->text.data);
        found->text_count++;
    }
    call->has_definitions |= event->op == DBOS_EVENT_TEXT || event->op == DBOS_EVENT_SESSION;
}

static void note_record(void *arg, const struct dbos_record_head *head,
                        struct dbos_record_decoder *decoder, size_t size_bytes) {
    struct findings *found = arg;
    struct dbos_event event;
    struct call_record call = {.size_bytes = size_bytes};
    while (dbos_record_next(decoder, &event)) {
        if (event.op != DBOS_EVENT_STATEMENT || head->procedure != 0) {
            note_event(found, &call, &event);
        }
    }
    if (head->procedure != 0) {
        cr_assert_lt(found->call_count, RECORDS_MAX);
        call.argument_count = head->argument_count;
        found->calls[found->call_count++] = call;
    }
}

static const char *text_of(const struct findings *found, uint64_t id) {
    for (uint32_t i = 0; i < found->text_count; i++) {
        if (found->texts[i].id == id) {
            return found->texts[i].text;
        }
    }
    return "";
}

static void expect_texts(const struct findings *found, const struct call_record *call,
                         const char *last) {
    static const char *const texts[] = {"SELECT vote(", "SELECT 1 FROM contestants",
                                        "SELECT n FROM phone_votes",
                                        "INSERT INTO votes VALUES ($1, $2)"};
    cr_assert_eq(call->statements, 5);
    for (uint32_t i = 0; i < 5; i++) {
        const char *wanted = i < 4 ? texts[i] : last;
        const char *text = text_of(found, call->statement_ids[i]);
        cr_expect(strncmp(text, wanted, strlen(wanted)) == 0, "statement %u is \"%s\"", i, text);
    }
}

static void open_votes(struct test_engine *t) {
    static const char *const statements[] = {
        "CREATE TABLE contestants (id int PRIMARY KEY, name text NOT NULL)",
        "INSERT INTO contestants VALUES (1, 'one'), (2, 'two'), (3, 'three')",
        "CREATE TABLE votes (phone bigint NOT NULL, contestant int NOT NULL) "
        "PARTITION BY HASH (phone)",
        "CREATE TABLE phone_votes (phone bigint PRIMARY KEY, n int NOT NULL) "
        "PARTITION BY HASH (phone)",
        "CREATE FUNCTION vote(bigint, int, int) RETURNS int LANGUAGE c AS 'vote.so', 'vote'",
    };
    const struct dbos_engine_options options = {.partitions = 1};
    test_engine_open(t, options);
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        cr_assert_eq(test_engine_run(t, statements[i]), DBOS_OK, "%s", statements[i]);
    }
}

Test(engine_record, a_vote_says_what_it_did_in_ninety_one_bytes) {
    static struct findings found;
    struct test_engine t;
    open_votes(&t);
    /* The first one brings definitions; then the first vote of a number, and its next one. */
    cr_assert_eq(test_engine_run(&t, "SELECT vote(6175551230, 3, 10)"), DBOS_OK);
    cr_assert_eq(test_engine_run(&t, "SELECT vote(6175551230, 3, 10)"), DBOS_OK);
    cr_assert_eq(test_engine_run(&t, "SELECT vote(6175551234, 3, 10)"), DBOS_OK);
    cr_assert_eq(test_engine_run(&t, "SELECT vote(6175551234, 3, 10)"), DBOS_OK);
    cr_assert_eq(test_engine_run(&t, "SELECT vote(6175551235, 3, 10)"), DBOS_OK);
    dbos_log_wait(t.engine->log, dbos_log_last_position(t.engine->log));
    found.call_count = found.text_count = 0;
    test_log_walk(&t, note_record, &found);
    cr_assert_eq(found.call_count, 5);
    const struct call_record *next = &found.calls[3];
    const struct call_record *first = &found.calls[2];
    cr_expect_eq(first->argument_count, 3);
    cr_expect_eq(first->reads + 10 * first->absents + 100 * first->inserts, 211);
    cr_expect_eq(next->reads, 3);
    cr_expect_eq(next->inserts + 10 * next->updates, 11);
    expect_texts(&found, first, "INSERT INTO phone_votes");
    expect_texts(&found, next, "UPDATE phone_votes");
    /* The text of a statement is defined with its first use; each of these has one of its own. */
    cr_expect_not(next->has_definitions);
    cr_expect_leq(next->size_bytes, 91, "%zu", next->size_bytes);
    cr_expect(first->has_definitions);
    test_engine_close(&t);
}
