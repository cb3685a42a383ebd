#include "tools/dbosctl_replay.h"

#include <inttypes.h>
#include <stdio.h>

#include "engine/replay.h"

enum { SHOWN_MAX = 20 };

static void say_difference(void *arg, const struct dbos_replay_finding *finding) {
    uint64_t *shown = arg;
    if (++*shown > SHOWN_MAX) {
        return;
    }
    (void)printf("DIFFERENT at position %" PRIu64 ", \"%s\" version %" PRIu32 ":\n"
                 "  recorded: %s\n"
                 "  again:    %s\n",
                 finding->head.position, finding->procedure, finding->head.procedure_version,
                 finding->texts.expected, finding->texts.came);
}

static const char *const asides[DBOS_REPLAY_VERDICTS] = {
    [DBOS_REPLAY_DEFINITIONS] = "definitions of tables and procedures",
    [DBOS_REPLAY_STATEMENTS] = "of SQL, or of several statements: no call that the record names",
    [DBOS_REPLAY_TASK_RESULT] = "results of tasks: the worker's answer is not in the record",
    [DBOS_REPLAY_KEPT_REPLY] = "answered by an idempotency key: nothing ran",
    [DBOS_REPLAY_CUT_SHORT] = "ended from outside (cancel, time limit, memory, disk)",
    [DBOS_REPLAY_NO_CALLER] = "different, but who called is not known: the session began in a part "
                              "of the log that is gone",
    [DBOS_REPLAY_ROW_ORDER] = "different behind a scan, but the order of its rows is not known: a "
                              "snapshot does not keep it",
};

static void say_asides(const struct dbos_replay_facts *facts) {
    for (uint32_t i = 0; i < DBOS_REPLAY_VERDICTS; i++) {
        if (asides[i] != NULL && facts->verdicts[i] != 0) {
            (void)printf("%s: %" PRIu64 " %s\n",
                         i < DBOS_REPLAY_NO_CALLER ? "not run again" : "not comparable",
                         facts->verdicts[i], asides[i]);
        }
    }
}

static void say_facts(const struct dbos_replay_facts *facts, double seconds) {
    uint64_t same = facts->verdicts[DBOS_REPLAY_SAME];
    uint64_t different = facts->verdicts[DBOS_REPLAY_DIFFERENT];
    (void)printf("%" PRIu64 " records, positions %" PRIu64 " to %" PRIu64 "%s\n", facts->records,
                 facts->after_position + 1, facts->last_position,
                 facts->after_position == 0 ? "" : ", behind the oldest snapshot");
    say_asides(facts);
    (void)printf("%" PRIu64 " calls run again in %.1f s: %" PRIu64 " the same (%" PRIu64
                 " of them gave up, as then), %" PRIu64 " different\n",
                 same + different, seconds, same, facts->same_aborted, different);
}

int dbosctl_replay(struct dbos_alloc *alloc, const char *data_dir) {
    struct dbos_env *env = dbos_env_posix();
    uint64_t shown = 0;
    struct dbos_replay_options options = {
        .env = env, .data_dir = data_dir, .differs = say_difference, .arg = &shown};
    struct dbos_replay_facts facts;
    struct dbos_errinfo info = {0};
    uint64_t start_ns = env->ops->mono_ns(env);
    enum dbos_err err = dbos_replay(alloc, &options, &facts, &info);
    double seconds = (double)(env->ops->mono_ns(env) - start_ns) / 1e9;
    if (err != DBOS_OK) {
        (void)fprintf(stderr, "dbosctl: %s%s%s\n", info.message, info.detail[0] == '\0' ? "" : " ",
                      info.detail);
        return 1;
    }
    if (shown > SHOWN_MAX) {
        (void)printf("… and %" PRIu64 " more\n", shown - SHOWN_MAX);
    }
    say_facts(&facts, seconds);
    return facts.verdicts[DBOS_REPLAY_DIFFERENT] == 0 ? 0 : 1;
}
