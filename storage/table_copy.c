#include "storage/table_copy.h"

void dbos_table_copy_begin(struct dbos_table_copy *copy, struct dbos_table *table) {
    DBOS_CHECK(dbos_table_copy_of(table) == NULL && copy->generation != 0);
    copy->table = table;
    copy->left = dbos_table_row_count(table);
    dbos_table_set_copy(table, copy);
}

void dbos_table_copy_end(struct dbos_table_copy *copy) {
    if (copy->table != NULL) {
        dbos_table_set_copy(copy->table, NULL);
        copy->table = NULL;
    }
}

static void look_at(struct dbos_table_copy *copy, struct dbos_row *row) {
    if (row->position <= copy->position && row->generation != copy->generation) {
        row->generation = copy->generation;
        copy->put(copy->arg, dbos_table_def_of(copy->table)->id, row);
    }
}

bool dbos_table_copy_step(struct dbos_table_copy *copy, uint32_t places) {
    enum { AHEAD = 8 }; /* rows that are fetched while one is copied */
    DBOS_CHECK(copy->table != NULL);
    uint64_t count = dbos_table_row_count(copy->table);
    copy->left = copy->left < count ? copy->left : count; /* above are no rows any more */
    uint64_t end = copy->left < places ? 0 : copy->left - places;
    for (uint64_t place = copy->left; place > end; place--) {
        if (place > AHEAD) {
            const uint8_t *ahead =
                (const uint8_t *)dbos_table_row_at(copy->table, place - 1 - AHEAD);
            __builtin_prefetch(ahead);
            __builtin_prefetch(ahead + 64);
        }
        look_at(copy, dbos_table_row_at(copy->table, place - 1));
    }
    copy->left = end;
    if (end == 0) {
        dbos_table_copy_end(copy);
    }
    return end == 0;
}
