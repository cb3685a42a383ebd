/* Running DDL: a definition statement becomes changes of the catalogue in a barrier transaction.
 *
 * Thread: the barrier's. Memory: the transaction's arena. */
#ifndef DBOS_PROCS_SQL_RUN_DDL_H
#define DBOS_PROCS_SQL_RUN_DDL_H

#include "procs/sql/ast.h"

/* Run a statement of kind DDL in run->txn, then plan all procedures again (dbos_procs_replan).
 * Errors: 42P07, 42P01, 42704, 42703, 42701, 42P16, 42501, 2BP01, and those of a procedure's
 * statements and module; with position where there is one. */
enum dbos_err dbos_ddl_run(const struct dbos_ast_statement *statement, const struct dbos_run *run,
                           struct dbos_errinfo *info) DBOS_MUST_USE;

/* CommandComplete's tag: "CREATE TABLE". Static. */
const char *dbos_ddl_tag(const struct dbos_ast_statement *statement);

#endif /* DBOS_PROCS_SQL_RUN_DDL_H */
