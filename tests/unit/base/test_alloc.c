#include "base/alloc.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

TestSuite(base_alloc, .timeout = 20);

Test(base_alloc, what_is_taken_is_aligned_counted_and_given_back) {
    static const size_t sizes[] = {0, 1, 15, 16, 17, 4096, 1 << 20};
    struct dbos_alloc alloc;
    uint64_t held = 0;
    void *blocks[sizeof sizes / sizeof sizes[0]];
    dbos_alloc_init(&alloc, "test", 0);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        blocks[i] = dbos_take(&alloc, sizes[i]);
        cr_assert_not_null(blocks[i]);
        cr_expect_eq((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], 0xaa, sizes[i]);
        held += sizes[i];
        cr_expect_eq(atomic_load(&alloc.bytes), held);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        dbos_give(&alloc, blocks[i]);
    }
    dbos_give(&alloc, NULL);
    dbos_alloc_fini(&alloc);
}

Test(base_alloc, take_zero_clears) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    uint8_t *block = dbos_take_zero(&alloc, 1000);
    for (size_t i = 0; i < 1000; i++) {
        cr_assert_eq(block[i], 0);
    }
    dbos_give(&alloc, block);
    dbos_alloc_fini(&alloc);
}

Test(base_alloc, the_limit_refuses_and_leaves_the_count_as_it_was) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 100);
    void *first = dbos_take(&alloc, 60);
    cr_assert_not_null(first);
    cr_expect_null(dbos_take(&alloc, 41));
    cr_expect_null(dbos_take(&alloc, SIZE_MAX));
    cr_expect_null(dbos_take(&alloc, SIZE_MAX - 8));
    void *second = dbos_take(&alloc, 40);
    cr_expect_not_null(second);
    cr_expect_eq(atomic_load(&alloc.bytes), 100u);
    dbos_give(&alloc, first);
    dbos_give(&alloc, second);
    dbos_alloc_fini(&alloc);
}

Test(base_alloc, a_resize_is_charged_only_its_growth) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 100);
    char *block = dbos_retake(&alloc, NULL, 60);
    cr_assert_not_null(block);
    memcpy(block, "kept", 5);
    block = dbos_retake(&alloc, block, 100);
    cr_assert_not_null(block, "100 of 100 bytes");
    cr_expect_str_eq(block, "kept");
    cr_expect_null(dbos_retake(&alloc, block, 101));
    cr_expect_str_eq(block, "kept");
    cr_expect_eq(atomic_load(&alloc.bytes), 100u);
    block = dbos_retake(&alloc, block, 10);
    cr_assert_not_null(block);
    cr_expect_eq(atomic_load(&alloc.bytes), 10u);
    dbos_give(&alloc, block);
    dbos_alloc_fini(&alloc);
}

Test(base_alloc, the_countdown_fails_exactly_the_nth_take) {
    for (int64_t n = 1; n <= 5; n++) {
        struct dbos_alloc alloc;
        dbos_alloc_init(&alloc, "test", 0);
        atomic_store(&alloc.fail_countdown, n);
        for (int64_t i = 1; i <= 7; i++) {
            void *block = i % 2 == 0 ? dbos_retake(&alloc, NULL, 8) : dbos_take_zero(&alloc, 8);
            cr_expect_eq(block == NULL, i == n, "take %d with countdown %d", (int)i, (int)n);
            dbos_give(&alloc, block);
        }
        dbos_alloc_fini(&alloc);
    }
}

Test(base_alloc, closing_with_something_held_is_a_bug, .signal = SIGABRT) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    cr_assert_not_null(dbos_take(&alloc, 1));
    dbos_alloc_fini(&alloc);
}

Test(base_alloc, arena_blocks_are_aligned_apart_and_survive_later_takes) {
    struct dbos_alloc alloc;
    struct dbos_arena arena;
    uint8_t *blocks[200];
    dbos_alloc_init(&alloc, "test", 0);
    dbos_arena_init(&arena, &alloc, 256);
    for (size_t i = 0; i < 200; i++) {
        blocks[i] = dbos_arena_take(&arena, i);
        cr_assert_not_null(blocks[i], "block %zu", i);
        cr_expect_eq((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)i, i);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t j = 0; j < i; j++) {
            cr_assert_eq(blocks[i][j], i);
        }
    }
    dbos_arena_fini(&arena);
    dbos_alloc_fini(&alloc);
}

Test(base_alloc, nothing_from_an_arena_is_not_out_of_memory) {
    struct dbos_alloc alloc;
    struct dbos_arena arena;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_arena_init(&arena, &alloc, 0);
    cr_expect_not_null(dbos_arena_take(&arena, 0));
    cr_expect_not_null(dbos_arena_take_zero(&arena, 0));
    char *empty = dbos_arena_copy(&arena, NULL, 0);
    cr_assert_not_null(empty);
    cr_expect_str_eq(empty, "");
    cr_expect_str_eq(dbos_arena_copy(&arena, "text and more", 4), "text");
    cr_expect_null(dbos_arena_copy(&arena, "x", SIZE_MAX));
    dbos_arena_fini(&arena);
    dbos_alloc_fini(&alloc);
}

Test(base_alloc, a_warm_arena_takes_nothing_from_its_allocator) {
    struct dbos_alloc alloc;
    struct dbos_arena arena;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_arena_init(&arena, &alloc, 1024);
    dbos_arena_reset(&arena); /* before anything was taken */
    for (int round = 0; round < 10; round++) {
        atomic_store(&alloc.fail_countdown, round == 0 ? 0 : 1);
        cr_assert_not_null(dbos_arena_take(&arena, 300), "round %d", round);
        cr_assert_not_null(dbos_arena_take(&arena, 300));
        cr_expect_geq(arena.used_bytes, 600);
        dbos_arena_reset(&arena);
        cr_expect_eq(arena.used_bytes, 0);
    }
    dbos_arena_fini(&arena);
    dbos_alloc_fini(&alloc);
}

Test(base_alloc, reset_gives_back_giants_and_all_chunks_but_one) {
    struct dbos_alloc alloc;
    struct dbos_arena arena;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_arena_init(&arena, &alloc, 1024);
    for (int i = 0; i < 100; i++) {
        cr_assert_not_null(dbos_arena_take(&arena, 500));
    }
    dbos_arena_reset(&arena);
    cr_expect_leq(atomic_load(&alloc.bytes), 2048u);
    dbos_arena_fini(&arena);
    cr_assert_not_null(dbos_arena_take(&arena, 1 << 20));
    dbos_arena_reset(&arena);
    cr_expect_eq(atomic_load(&alloc.bytes), 0u);
    cr_expect_not_null(dbos_arena_take(&arena, 8), "usable after a giant");
    dbos_arena_fini(&arena);
    dbos_alloc_fini(&alloc);
}

Test(base_alloc, an_arena_survives_every_failed_take) {
    for (int64_t n = 1; n <= 4; n++) {
        struct dbos_alloc alloc;
        struct dbos_arena arena;
        dbos_alloc_init(&alloc, "test", 0);
        dbos_arena_init(&arena, &alloc, 256);
        atomic_store(&alloc.fail_countdown, n);
        int failures = 0;
        for (int i = 0; i < 20; i++) {
            uint8_t *block = dbos_arena_take_zero(&arena, 100);
            failures += block == NULL;
        }
        cr_expect_eq(failures, 1, "countdown %d: %d failures", (int)n, failures);
        dbos_arena_fini(&arena);
        dbos_alloc_fini(&alloc);
    }
}

Test(base_alloc, a_part_is_held_limited_and_made_to_fail_by_the_whole) {
    struct dbos_alloc whole;
    struct dbos_alloc part;
    dbos_alloc_init(&whole, "whole", 1000);
    dbos_alloc_init_part(&part, "part", &whole);
    void *a = dbos_take(&whole, 300);
    void *b = dbos_take(&part, 400);
    cr_assert(a != NULL && b != NULL);
    cr_expect_eq(whole.bytes, 700);
    cr_expect_eq(part.bytes, 400);
    cr_expect_null(dbos_take(&part, 301), "past the limit of the whole");
    cr_expect_null(dbos_retake(&part, b, 701));
    cr_expect_eq(part.bytes, 400, "what did not fit is not counted");
    cr_expect_eq(whole.bytes, 700);
    b = dbos_retake(&part, b, 500);
    cr_expect_eq(whole.bytes, 800);
    b = dbos_retake(&part, b, 100);
    cr_expect_eq(whole.bytes, 400);
    cr_expect_eq(part.bytes, 100);
    atomic_store(&whole.fail_countdown, 1);
    cr_expect_null(dbos_take(&part, 1));
    dbos_give(&part, b);
    dbos_give(&whole, a);
    dbos_alloc_fini(&part);
    dbos_alloc_fini(&whole);
}
