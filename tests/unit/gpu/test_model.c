#include <criterion/criterion.h>
#include <math.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "gpu/model.h"

TestSuite(gpu_model, .timeout = 60);

/* 2-1-2; made by another program from docs/formats/frame.md. */
static const uint8_t golden[] = {
    0x44, 0x42, 0x4d, 0x31, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x1c, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xb0, 0x25, 0x67, 0xea, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0, 0x00, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x40, 0x40,
    0x00, 0x00, 0x40, 0xc0, 0x00, 0x00, 0x80, 0x3e, 0x00, 0x00, 0x80, 0xbe};

Test(gpu_model, a_stored_model_has_the_documented_bytes) {
    struct dbos_alloc alloc;
    struct dbos_mlp *mlp = NULL;
    struct dbos_buf buf;
    dbos_alloc_init(&alloc, "test", 0);
    cr_assert(dbos_model_decode(&alloc, golden, sizeof golden, &mlp, NULL) == DBOS_OK);
    cr_expect(mlp->inputs == 2 && mlp->hidden == 1 && mlp->outputs == 2);
    cr_expect(mlp->w1[0] == 1.0f && mlp->w1[1] == -2.0f && mlp->b1[0] == 0.5f);
    cr_expect(mlp->w2[0] == 3.0f && mlp->w2[1] == -3.0f);
    cr_expect(mlp->b2[0] == 0.25f && mlp->b2[1] == -0.25f);
    dbos_buf_init(&buf, &alloc);
    dbos_model_encode(mlp, &buf);
    cr_assert(buf.size_bytes == sizeof golden);
    cr_expect_arr_eq(buf.data, golden, sizeof golden);
    dbos_buf_fini(&buf);
    dbos_mlp_close(&alloc, mlp);
    dbos_alloc_fini(&alloc);
}

Test(gpu_model, a_cut_or_damaged_model_is_refused) {
    struct dbos_alloc alloc;
    struct dbos_mlp *mlp = NULL;
    dbos_alloc_init(&alloc, "test", 0);
    for (size_t cut = 0; cut < sizeof golden; cut++) {
        /* A block of its own, so that ASan sees a read past the end. */
        uint8_t *copy = dbos_take(&alloc, cut + 1);
        memcpy(copy, golden, cut);
        cr_expect(dbos_model_decode(&alloc, copy, cut, &mlp, NULL) != DBOS_OK && mlp == NULL);
        dbos_give(&alloc, copy);
    }
    for (size_t bit = 0; bit < 8 * sizeof golden; bit++) {
        uint8_t copy[sizeof golden];
        memcpy(copy, golden, sizeof golden);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_expect(dbos_model_decode(&alloc, copy, sizeof copy, &mlp, NULL) != DBOS_OK, "bit %zu",
                  bit);
    }
    dbos_alloc_fini(&alloc);
}

/* Put `value` at `offset` and make the checksum right again. */
static enum dbos_err decode_changed(struct dbos_alloc *alloc, size_t offset, uint32_t value) {
    uint8_t copy[sizeof golden];
    struct dbos_mlp *mlp = NULL;
    memcpy(copy, golden, sizeof golden);
    memcpy(copy + offset, &value, sizeof value);
    memset(copy + 32, 0, 4);
    dbos_store_u32(copy + 32, dbos_crc32c(0, copy, sizeof copy));
    enum dbos_err err = dbos_model_decode(alloc, copy, sizeof copy, &mlp, NULL);
    dbos_mlp_close(alloc, mlp);
    return err;
}

Test(gpu_model, a_model_that_says_nonsense_with_a_right_checksum_is_refused) {
    struct dbos_alloc alloc;
    static const struct {
        size_t offset;
        uint32_t value;
        enum dbos_err err;
    } cases[] = {
        {0, 0x314d4244, DBOS_OK},
        {0, 0, DBOS_ERR_CORRUPT},
        {4, 2, DBOS_ERR_FORMAT_VERSION},
        {8, 2, DBOS_ERR_NOT_SUPPORTED},
        {12, 0, DBOS_ERR_LIMIT},
        {12, 3, DBOS_ERR_CORRUPT},
        {12, 0xffffffff, DBOS_ERR_LIMIT},
        {16, 65536, DBOS_ERR_CORRUPT},
        {16, 0x40000000, DBOS_ERR_LIMIT},
        {20, 257, DBOS_ERR_LIMIT},
        {24, 0x18, DBOS_ERR_CORRUPT},
        {28, 1, DBOS_ERR_CORRUPT},
        {64, 0x7fc00000, DBOS_ERR_CORRUPT}, /* not a number */
        {88, 0x7f800000, DBOS_ERR_CORRUPT}, /* infinite */
    };
    dbos_alloc_init(&alloc, "test", 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect(decode_changed(&alloc, cases[i].offset, cases[i].value) == cases[i].err,
                  "case %zu", i);
    }
    dbos_alloc_fini(&alloc);
}

Test(gpu_model, decode_survives_a_failed_take) {
    struct dbos_alloc alloc;
    struct dbos_mlp *mlp = NULL;
    dbos_alloc_init(&alloc, "test", 0);
    atomic_store(&alloc.fail_countdown, 1);
    cr_expect(dbos_model_decode(&alloc, golden, sizeof golden, &mlp, NULL) == DBOS_ERR_NOMEM);
    cr_expect(mlp == NULL);
    dbos_alloc_fini(&alloc);
}
