#include "engine/views.h"

#include "engine/engine_internal.h"

enum dbos_err dbos_views_fill(void *engine, struct dbos_view_rows *rows) {
    switch (rows->view) {
    case DBOS_VIEW_MEMORY:
        return dbos_views_fill_memory(engine, rows);
    case DBOS_VIEW_HISTOGRAM:
    case DBOS_VIEW_LATENCY:
    case DBOS_VIEW_LOG:
    case DBOS_VIEW_PARTITIONS:
    case DBOS_VIEW_SESSIONS:
    case DBOS_VIEW_STATEMENTS:
    case DBOS_VIEW_TABLES:
    case DBOS_VIEWS:
        break;
    }
    return DBOS_OK;
}
