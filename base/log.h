/* Messages to the operator: one line each on standard error, "2026-01-02T03:04:05.678Z LEVEL text".
 *
 * Thread: any (one write per line). Memory: none. */
#ifndef DBOS_BASE_LOG_H
#define DBOS_BASE_LOG_H

#include "base/err.h"

enum dbos_log_level { DBOS_LOG_INFO, DBOS_LOG_WARN, DBOS_LOG_ERROR };

void dbos_log(enum dbos_log_level level, const char *format, ...) DBOS_PRINTF(2, 3);

#endif /* DBOS_BASE_LOG_H */
