/* Catalogue snapshots under threads.
 * Goal: a snapshot may be taken at any moment while DDL publishes new ones; it stays as it was for
 * as long as it is held, and versions never go back. Method: readers take, look and give back
 * snapshots; one writer creates, drops and undoes. The table is found by name exactly when it is
 * found by id. */
#include <pthread.h>
#include <stdio.h>

#include "base/err.h"
#include "storage/store.h"

enum { READERS = 3, ROUNDS = 3000, ROUNDS_MAX = 10000000 };

struct shared {
    struct dbos_store *store;
    _Atomic bool done;
    _Atomic uint32_t met_with; /* readers that have met the table */
    _Atomic uint32_t met_without;
};

struct reader {
    struct shared *shared;
    uint64_t taken;
    uint64_t seen;
};

static void *read_snapshots(void *arg) {
    struct reader *self = arg;
    uint64_t version = 0;
    while (!atomic_load(&self->shared->done)) {
        struct dbos_catalog *catalog = dbos_store_catalog_ref(self->shared->store);
        DBOS_CHECK(catalog->version >= version);
        version = catalog->version;
        const struct dbos_table_def *by_name = dbos_catalog_table(catalog, NULL, "t");
        const struct dbos_table_def *by_id = dbos_catalog_table_by_id(catalog, 100);
        DBOS_CHECK(by_name == by_id);
        DBOS_CHECK(by_name == NULL || by_name->column_count == 1);
        self->seen += by_name != NULL;
        self->taken++;
        if (by_name != NULL && self->seen == 1) {
            atomic_fetch_add(&self->shared->met_with, 1);
        }
        if (by_name == NULL && self->taken - self->seen == 1) {
            atomic_fetch_add(&self->shared->met_without, 1);
        }
        dbos_catalog_unref(catalog);
    }
    return NULL;
}

/* At least ROUNDS, and until every reader has met both states. */
static bool has_enough(struct shared *shared, uint32_t rounds) {
    return rounds >= ROUNDS && atomic_load(&shared->met_with) == READERS &&
           atomic_load(&shared->met_without) == READERS;
}

static void change_catalogue(struct shared *shared, struct dbos_table_def *def) {
    struct dbos_store *store = shared->store;
    struct dbos_dropped_table dropped;
    for (uint32_t i = 0; !has_enough(shared, i); i++) {
        DBOS_CHECK(i < ROUNDS_MAX);
        dbos_store_track_ddl(store);
        DBOS_CHECK(dbos_store_create_table(store, def, NULL) == DBOS_OK);
        if (i % 3 == 0) {
            dbos_store_undo_ddl(store);
            continue;
        }
        dbos_store_keep_ddl(store);
        DBOS_CHECK(dbos_store_drop_table(store, def->id, &dropped, NULL) == DBOS_OK);
        if (i % 3 == 1) {
            dbos_store_undrop_table(store, &dropped);
            DBOS_CHECK(dbos_store_drop_table(store, def->id, &dropped, NULL) == DBOS_OK);
        }
        dbos_store_forget_table(store, &dropped);
    }
}

int main(void) {
    struct dbos_alloc alloc;
    struct shared shared;
    struct reader readers[READERS];
    pthread_t threads[READERS];
    const struct dbos_column column = {.id = 1, .name = "c", .type = DBOS_TYPE_INT8};
    const struct dbos_table_parts parts = {
        .id = 100,
        .schema = "public",
        .name = "t",
        .partition_column = -1,
        .column_count = 1,
        .columns = &column,
    };
    struct dbos_table_def *def;
    uint64_t taken = 0, seen = 0;
    dbos_alloc_init(&alloc, "store", 0);
    DBOS_CHECK(dbos_table_def_make(&alloc, &parts, &def, NULL) == DBOS_OK);
    DBOS_CHECK(dbos_store_open(&alloc, NULL, 1, &shared.store) == DBOS_OK);
    atomic_init(&shared.done, false);
    atomic_init(&shared.met_with, 0);
    atomic_init(&shared.met_without, 0);
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.shared = &shared};
        DBOS_CHECK(pthread_create(&threads[i], NULL, read_snapshots, &readers[i]) == 0);
    }
    change_catalogue(&shared, def);
    atomic_store(&shared.done, true);
    for (uint32_t i = 0; i < READERS; i++) {
        DBOS_CHECK(pthread_join(threads[i], NULL) == 0);
        taken += readers[i].taken;
        seen += readers[i].seen;
    }
    dbos_store_close(shared.store);
    dbos_table_def_unref(def);
    dbos_alloc_fini(&alloc);
    (void)printf("catalog: %llu snapshots, %llu with the table\n", (unsigned long long)taken,
                 (unsigned long long)seen);
    return 0;
}
