/* Images of digits: the MNIST files where they are, else digits that are drawn here (seeded
 * strokes, shifted, turned, sheared, thickened, with noise).
 *
 * Thread: one. Memory: from the allocator given; owned by the caller until dbos_digits_close(). */
#ifndef DBOS_TOOLS_DEMO_DIGITS_H
#define DBOS_TOOLS_DEMO_DIGITS_H

#include "base/alloc.h"

enum { DBOS_DIGIT_PIXELS = 784 };

struct dbos_digits {
    struct dbos_alloc *alloc;
    uint32_t train_count;
    uint32_t test_count;
    uint8_t *pixels; /* (train_count + test_count) × 784, training images first */
    uint8_t *labels; /* likewise, 0..9 */
};

/* Read the four IDX files of `dir`, plain or gzip. Errors: UNDEFINED_FILE (they are not there),
 * CORRUPT (not IDX, or cut short), NOMEM. */
enum dbos_err dbos_digits_read(struct dbos_alloc *alloc, const char *dir, struct dbos_digits *out,
                               struct dbos_errinfo *info) DBOS_MUST_USE;
/* Draw them. The same seed draws the same digits. Errors: NOMEM. */
enum dbos_err dbos_digits_draw(struct dbos_alloc *alloc, uint32_t train_count, uint32_t test_count,
                               uint64_t seed, struct dbos_digits *out,
                               struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_digits_close(struct dbos_digits *digits);

#endif /* DBOS_TOOLS_DEMO_DIGITS_H */
