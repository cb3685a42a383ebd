/* Row images, keys and arguments inside records of format version 2: bytes as a short program.
 *
 * An image is a varint with its size and then steps that make so many bytes: literal ones, zeroes,
 * small and large numbers, an argument of the call (architecture decision 2: what equals an
 * argument is a reference), bytes of the image before it. The reader knows no table: a step says
 * which bytes it stands for, so what was put in comes out, byte for byte, whatever it was. The
 * writer looks for columns only to find good steps. docs/formats/log.md lists the steps.
 *
 * Thread: any. Memory: none; the caller's. */
#ifndef DBOS_PROVENANCE_IMAGE_H
#define DBOS_PROVENANCE_IMAGE_H

#include "storage/row.h"

enum {
    DBOS_IMAGE_ARGUMENTS = 16, /* that can be referred to: the first ones */
    /* A step of one byte stands for at most so many (an argument's bytes, below an object's). */
    DBOS_IMAGE_STEP_BYTES_MAX = DBOS_OBJECT_BYTES_MIN - 1,
};

enum dbos_image_argument_kind { DBOS_IMAGE_NOTHING, DBOS_IMAGE_NUMBER, DBOS_IMAGE_BYTES };

struct dbos_image_arguments {
    uint32_t count;
    struct {
        uint8_t kind;            /* enum dbos_image_argument_kind */
        uint64_t bits;           /* NUMBER: the integer, or the bits of a float8 */
        struct dbos_bytes bytes; /* BYTES; borrowed */
    } at[DBOS_IMAGE_ARGUMENTS];
};

/* The next argument; those past the sixteenth, NULLs and large values can not be referred to. */
void dbos_image_note_argument(struct dbos_image_arguments *arguments,
                              const struct dbos_datum *datum);

/* The most that an image of `size_bytes` takes, its size included. */
static inline size_t dbos_image_bytes_max(size_t size_bytes) { return 2 * size_bytes + 32; }
/* Write the image of a row payload to `to`, which has room for dbos_image_bytes_max(), and return
 * the place behind. `def` says where the columns of `payload` and `base` are; without columns the
 * payload is a literal. `base` is the image of the same event that the reader has already got, or
 * empty. */
uint8_t *dbos_image_put_row(uint8_t *to, const struct dbos_image_arguments *arguments,
                            const struct dbos_table_def *def, struct dbos_bytes payload,
                            struct dbos_bytes base);
/* The same for key bytes (dbos_datum_put_key()). */
uint8_t *dbos_image_put_key(uint8_t *to, const struct dbos_image_arguments *arguments,
                            struct dbos_bytes key);

/* Size of the image that comes next; false: more than what is left can make. */
bool dbos_image_size(struct dbos_reader *reader, struct dbos_bytes base, size_t *out_bytes);
/* Read the steps of an image of `size_bytes` and write it to `to`; NULL: only read. Where it is
 * malformed, `reader` has failed. */
void dbos_image_get(struct dbos_reader *reader, const struct dbos_image_arguments *arguments,
                    struct dbos_bytes base, uint8_t *to, size_t size_bytes);

/* One argument of the head: a byte less than dbos_datum_put(by_reference), two for small numbers.
 */
void dbos_image_put_argument(struct dbos_buf *to, const struct dbos_datum *datum);
/* Bytes that `count` arguments take as dbos_datum_put() writes them; passes over them. */
size_t dbos_image_arguments_bytes(struct dbos_reader *reader, uint32_t count);
/* Write them so to `to`, which has room for that many bytes, and note them. */
void dbos_image_get_arguments(struct dbos_reader *reader, uint32_t count, uint8_t *to,
                              struct dbos_image_arguments *arguments);

#endif /* DBOS_PROVENANCE_IMAGE_H */
