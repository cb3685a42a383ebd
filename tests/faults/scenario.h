/* What a node is doing when something fails: statements, one after the other.
 *
 * Thread: any. Memory: static. */
#ifndef DBOS_TESTS_FAULTS_SCENARIO_H
#define DBOS_TESTS_FAULTS_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

enum { FAULT_STATEMENTS_MAX = 24, FAULT_PARAMETERS_MAX = 4 };

enum fault_way {
    FAULT_SIMPLE,    /* a Query message */
    FAULT_EXTENDED,  /* Parse, Bind, Describe, Execute, Sync; binary results */
    FAULT_PREPARED,  /* Parse and Sync, then Bind, Execute and Sync */
    FAULT_PIPELINED, /* as that; those in a row leave before the reply of the first is read */
    FAULT_CONNECT,   /* the session ends and another one begins; then a Query */
};

struct fault_statement {
    const char *sql;
    enum fault_way way;
    const char *parameters[FAULT_PARAMETERS_MAX]; /* text; "*" is one of 6,000 bytes; NULL = end */
    const char *state;                            /* the SQLSTATE it ends with; NULL = none */
    bool varies;                                  /* its answer is another one each time */
};

struct fault_scenario {
    const char *name;
    bool is_boot;                            /* the start is what fails, not the statements */
    bool is_stop;                            /* the end of the node is */
    uint32_t full_us;                        /* how long a full disk lasts; 0 = a moment */
    const char *setup[FAULT_STATEMENTS_MAX]; /* what is there before; NULL = end */
    const struct fault_statement statements[FAULT_STATEMENTS_MAX];
};

/* Ended by one without a name. */
extern const struct fault_scenario fault_scenarios[];

#endif /* DBOS_TESTS_FAULTS_SCENARIO_H */
