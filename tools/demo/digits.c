#include "tools/demo/digits.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"

enum { SIDE = 28, IDX_IMAGES = 0x803, IDX_LABELS = 0x801 };

/* -- files ---------------------------------------------------------------------------------------
 */

/* gzip -dcf passes a plain file through, and every Debian has it. */
static FILE *open_idx(const char *dir, const char *name) {
    char path[512];
    char command[640];
    (void)snprintf(path, sizeof path, "%s/%s.gz", dir, name);
    if (access(path, R_OK) != 0) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    }
    if (access(path, R_OK) != 0 || strchr(path, '\'') != NULL) {
        return NULL;
    }
    (void)snprintf(command, sizeof command, "gzip -dcf '%s'", path);
    return popen(command, "r");
}

static bool read_u32(FILE *file, uint32_t *out) {
    uint8_t bytes[4];
    if (fread(bytes, 1, sizeof bytes, file) != sizeof bytes) {
        return false;
    }
    *out = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
    return true;
}

/* Header of an IDX file; *out_count items follow. */
static bool read_head(FILE *file, uint32_t magic, uint32_t *out_count) {
    uint32_t found = 0;
    uint32_t rows = SIDE;
    uint32_t columns = SIDE;
    if (!read_u32(file, &found) || found != magic || !read_u32(file, out_count)) {
        return false;
    }
    if (magic == IDX_IMAGES && (!read_u32(file, &rows) || !read_u32(file, &columns))) {
        return false;
    }
    return rows == SIDE && columns == SIDE && *out_count > 0 && *out_count <= 1000000;
}

static enum dbos_err read_items(const char *dir, const char *name, uint32_t magic,
                                struct dbos_alloc *alloc, uint32_t *out_count, uint8_t **out,
                                struct dbos_errinfo *info) {
    size_t item = magic == IDX_IMAGES ? DBOS_DIGIT_PIXELS : 1;
    FILE *file = open_idx(dir, name);
    *out = NULL;
    if (file == NULL) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_FILE, "there is no %s(.gz) in %s", name, dir);
    }
    enum dbos_err err = DBOS_OK;
    if (!read_head(file, magic, out_count)) {
        err = dbos_fail(info, DBOS_ERR_CORRUPT, "%s in %s is not an IDX file of digits", name, dir);
    } else {
        *out = dbos_take(alloc, *out_count * item);
        if (*out == NULL) {
            err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for %s", name);
        } else if (fread(*out, item, *out_count, file) != *out_count) {
            err = dbos_fail(info, DBOS_ERR_CORRUPT, "%s in %s is cut short", name, dir);
        }
    }
    (void)pclose(file);
    return err;
}

static enum dbos_err join(struct dbos_alloc *alloc, uint8_t *train, size_t train_bytes,
                          const uint8_t *test, size_t test_bytes, uint8_t **out) {
    *out = dbos_retake(alloc, train, train_bytes + test_bytes);
    if (*out == NULL) {
        *out = train;
        return DBOS_ERR_NOMEM;
    }
    memcpy(*out + train_bytes, test, test_bytes);
    return DBOS_OK;
}

enum dbos_err dbos_digits_read(struct dbos_alloc *alloc, const char *dir, struct dbos_digits *out,
                               struct dbos_errinfo *info) {
    uint32_t counts[4] = {0};
    uint8_t *items[4] = {NULL};
    static const char *const names[4] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};
    enum dbos_err err = DBOS_OK;
    *out = (struct dbos_digits){.alloc = alloc};
    for (int i = 0; i < 4 && err == DBOS_OK; i++) {
        err = read_items(dir, names[i], i % 2 == 0 ? IDX_IMAGES : IDX_LABELS, alloc, &counts[i],
                         &items[i], info);
    }
    if (err == DBOS_OK && (counts[0] != counts[1] || counts[2] != counts[3])) {
        err = dbos_fail(info, DBOS_ERR_CORRUPT, "images and labels in %s do not match", dir);
    }
    if (err == DBOS_OK) {
        err = join(alloc, items[0], (size_t)counts[0] * DBOS_DIGIT_PIXELS, items[2],
                   (size_t)counts[2] * DBOS_DIGIT_PIXELS, &out->pixels);
        items[0] = NULL;
    }
    if (err == DBOS_OK) {
        err = join(alloc, items[1], counts[1], items[3], counts[3], &out->labels);
        items[1] = NULL;
    }
    for (int i = 0; i < 4; i++) {
        dbos_give(alloc, items[i]);
    }
    out->train_count = counts[0];
    out->test_count = counts[2];
    if (err != DBOS_OK) {
        dbos_digits_close(out);
    }
    return err;
}

/* -- drawing -------------------------------------------------------------------------------------
 */

/* Strokes of each digit on a 10 × 14 grid: x, y pairs; 99 lifts the pen, -1 ends. */
static const int8_t strokes[10][40] = {
    {5, 0, 2, 2, 1, 7, 2, 12, 5, 14, 8, 12, 9, 7, 8, 2, 5, 0, -1},
    {3, 3, 5, 0, 5, 14, -1},
    {1, 3, 3, 0, 7, 0, 9, 3, 8, 6, 1, 14, 9, 14, -1},
    {1, 1, 5, 0, 8, 2, 8, 5, 4, 7, 8, 9, 9, 12, 5, 14, 1, 13, -1},
    {7, 14, 7, 0, 1, 9, 9, 9, -1},
    {9, 0, 2, 0, 2, 6, 6, 5, 9, 8, 9, 11, 6, 14, 1, 13, -1},
    {8, 0, 4, 3, 1, 8, 2, 13, 6, 14, 9, 11, 7, 8, 2, 9, -1},
    {1, 0, 9, 0, 4, 14, -1},
    {5, 0, 2, 2, 3, 5, 7, 8, 9, 11, 5, 14, 1, 11, 3, 8, 7, 5, 8, 2, 5, 0, -1},
    {8, 6, 4, 7, 1, 4, 3, 0, 7, 0, 9, 4, 8, 9, 5, 14, -1},
};

struct pen {
    float ink[SIDE][SIDE];
    float cos_turn, sin_turn, shear, scale_x, scale_y, shift_x, shift_y, width;
};

static float between(struct dbos_rng *rng, float low, float high) {
    return low + (high - low) * (float)dbos_rng_unit(rng);
}

static void dab(struct pen *pen, float x, float y) {
    for (int row = (int)y - 2; row <= (int)y + 3; row++) {
        for (int column = (int)x - 2; column <= (int)x + 3; column++) {
            if (row < 0 || row >= SIDE || column < 0 || column >= SIDE) {
                continue;
            }
            float dx = (float)column - x;
            float dy = (float)row - y;
            float ink = 1.2f - sqrtf(dx * dx + dy * dy) / pen->width;
            if (ink > pen->ink[row][column]) {
                pen->ink[row][column] = ink > 1 ? 1 : ink;
            }
        }
    }
}

static void place(const struct pen *pen, float x, float y, float *out_x, float *out_y) {
    float u = (x - 5 + pen->shear * (y - 7)) * pen->scale_x;
    float v = (y - 7) * pen->scale_y;
    *out_x = 14 + pen->shift_x + u * pen->cos_turn - v * pen->sin_turn;
    *out_y = 14 + pen->shift_y + u * pen->sin_turn + v * pen->cos_turn;
}

static void line(struct pen *pen, float x0, float y0, float x1, float y1) {
    for (int i = 0; i <= 24; i++) {
        float t = (float)i / 24;
        dab(pen, x0 + (x1 - x0) * t, y0 + (y1 - y0) * t);
    }
}

static void draw(struct dbos_rng *rng, uint8_t digit, uint8_t *pixels) {
    struct pen pen = {.width = between(rng, 1.0f, 1.9f)};
    float turn = between(rng, -0.25f, 0.25f);
    pen.cos_turn = cosf(turn);
    pen.sin_turn = sinf(turn);
    pen.shear = between(rng, -0.25f, 0.25f);
    pen.scale_x = between(rng, 1.1f, 1.7f);
    pen.scale_y = between(rng, 1.1f, 1.5f);
    pen.shift_x = between(rng, -2.0f, 2.0f);
    pen.shift_y = between(rng, -2.0f, 2.0f);
    const int8_t *point = strokes[digit];
    float last_x = 0;
    float last_y = 0;
    for (int i = 0; point[i] >= 0; i += 2) {
        float x = 0;
        float y = 0;
        place(&pen, (float)point[i] + between(rng, -0.7f, 0.7f),
              (float)point[i + 1] + between(rng, -0.7f, 0.7f), &x, &y);
        if (i > 0) {
            line(&pen, last_x, last_y, x, y);
        }
        last_x = x;
        last_y = y;
    }
    for (int i = 0; i < DBOS_DIGIT_PIXELS; i++) {
        float ink = pen.ink[i / SIDE][i % SIDE] * 255 + between(rng, -12, 12);
        pixels[i] = ink < 0 ? 0 : ink > 255 ? 255 : (uint8_t)ink;
    }
}

enum dbos_err dbos_digits_draw(struct dbos_alloc *alloc, uint32_t train_count, uint32_t test_count,
                               uint64_t seed, struct dbos_digits *out, struct dbos_errinfo *info) {
    size_t count = (size_t)train_count + test_count;
    *out = (struct dbos_digits){
        .alloc = alloc,
        .train_count = train_count,
        .test_count = test_count,
        .pixels = dbos_take(alloc, count * DBOS_DIGIT_PIXELS),
        .labels = dbos_take(alloc, count),
    };
    if (out->pixels == NULL || out->labels == NULL) {
        dbos_digits_close(out);
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for %zu digits", count);
    }
    struct dbos_rng rng;
    dbos_rng_init(&rng, seed);
    for (size_t i = 0; i < count; i++) {
        out->labels[i] = (uint8_t)dbos_rng_below(&rng, 10);
        draw(&rng, out->labels[i], out->pixels + i * DBOS_DIGIT_PIXELS);
    }
    return DBOS_OK;
}

void dbos_digits_close(struct dbos_digits *digits) {
    dbos_give(digits->alloc, digits->pixels);
    dbos_give(digits->alloc, digits->labels);
    *digits = (struct dbos_digits){.alloc = digits->alloc};
}
