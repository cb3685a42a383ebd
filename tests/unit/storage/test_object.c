#include <criterion/criterion.h>

#include "tests/unit/storage/storage_support.h"

TestSuite(storage_object, .timeout = 60);

Test(storage_object, equal_bytes_are_one_object_until_the_last_reference_is_gone) {
    struct dbos_alloc alloc;
    struct dbos_objects *objects;
    struct dbos_object *a, *b, *c;
    dbos_alloc_init(&alloc, "test", 0);
    cr_assert_eq(dbos_objects_open(&alloc, 1, &objects), DBOS_OK);
    cr_assert_eq(dbos_object_make(objects, "hello", 5, &a), DBOS_OK);
    cr_assert_eq(dbos_object_make(objects, "hello", 5, &b), DBOS_OK);
    cr_assert_eq(dbos_object_make(objects, "hellO", 5, &c), DBOS_OK);
    cr_expect_eq(a, b);
    cr_expect_neq(a, c);
    cr_expect_eq(dbos_objects_count(objects), 2);
    struct dbos_object_id id = dbos_object_identify(objects, "hello", 5);
    dbos_object_unref(a);
    struct dbos_object *found = dbos_object_find(objects, &id);
    cr_expect_eq(found, b);
    dbos_object_unref(found);
    dbos_object_unref(b);
    cr_expect_null(dbos_object_find(objects, &id));
    dbos_object_unref(c);
    dbos_object_unref(NULL);
    dbos_objects_close(objects);
    dbos_alloc_fini(&alloc);
}

Test(storage_object, identity_depends_on_the_secret_seed) {
    struct dbos_alloc alloc;
    struct dbos_objects *one, *two;
    dbos_alloc_init(&alloc, "test", 0);
    cr_assert_eq(dbos_objects_open(&alloc, 1, &one), DBOS_OK);
    cr_assert_eq(dbos_objects_open(&alloc, 2, &two), DBOS_OK);
    struct dbos_object_id a = dbos_object_identify(one, "x", 1);
    struct dbos_object_id b = dbos_object_identify(two, "x", 1);
    cr_expect(a.hash.high != b.hash.high && a.hash.low != b.hash.low);
    dbos_objects_close(one);
    dbos_objects_close(two);
    dbos_alloc_fini(&alloc);
}

Test(storage_object, a_store_of_many_survives_every_failed_allocation) {
    enum { OBJECTS = 3000 };
    static struct dbos_object *held[OBJECTS];
    struct dbos_alloc alloc;
    struct dbos_objects *objects = NULL;
    dbos_alloc_init(&alloc, "test", 0);
    for (int64_t n = 1; n <= 2; n++) {
        atomic_store(&alloc.fail_countdown, n);
        cr_assert_eq(dbos_objects_open(&alloc, 9, &objects), DBOS_ERR_NOMEM);
        cr_assert_null(objects);
        cr_assert_eq(atomic_load(&alloc.bytes), 0);
    }
    cr_assert_eq(dbos_objects_open(&alloc, 9, &objects), DBOS_OK);
    for (uint32_t i = 0; i < OBJECTS; i++) {
        atomic_store(&alloc.fail_countdown, 1 + i % 3); /* the object, then the buckets */
        enum dbos_err err = dbos_object_make(objects, &i, sizeof i, &held[i]);
        cr_assert_eq(err == DBOS_OK, held[i] != NULL);
        atomic_store(&alloc.fail_countdown, 0);
        if (err != DBOS_OK) {
            cr_assert_eq(dbos_object_make(objects, &i, sizeof i, &held[i]), DBOS_OK);
        }
    }
    cr_expect_eq(dbos_objects_count(objects), OBJECTS);
    for (uint32_t i = 0; i < OBJECTS; i++) {
        struct dbos_object_id id = dbos_object_identify(objects, &i, sizeof i);
        struct dbos_object *found = dbos_object_find(objects, &id);
        cr_assert_eq(found, held[i]);
        dbos_object_unref(found);
    }
    for (uint32_t i = 0; i < OBJECTS; i++) {
        dbos_object_unref(held[i]);
    }
    cr_expect_eq(dbos_objects_count(objects), 0);
    dbos_objects_close(objects);
    dbos_alloc_fini(&alloc);
}
