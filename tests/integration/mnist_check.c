/* The demo's predictions, checked by arithmetic that shares nothing with the worker's: the model is
 * read back from dbos.model_chunk, decoded as docs/formats/frame.md says, and run in double
 * precision over the images as the table images has them.
 *
 *     mnist_check PORT drawn
 *     mnist_check PORT mnist T10K-IMAGES T10K-LABELS     the files, not compressed
 *
 * 999 of 1,000 predictions must be ours; real MNIST must be 97 % right, and the table must hold
 * what the files hold. */
#include <libpq-fe.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS = 784, HIDDEN = 512, OUTPUTS = 10, CHUNK_MAX = 1 << 20, HEAD = 64, CRC_AT = 32 };
enum { WEIGHTS = HIDDEN * INPUTS + HIDDEN + OUTPUTS * HIDDEN + OUTPUTS };
enum { MODEL_BYTES = HEAD + WEIGHTS * 4 };

struct model {
    double w1[HIDDEN][INPUTS];
    double b1[HIDDEN];
    double w2[OUTPUTS][HIDDEN];
    double b2[OUTPUTS];
};

struct tally {
    uint32_t images;
    uint32_t agree; /* our label is the one in predictions */
    uint32_t right; /* the one in predictions is the image's */
    double worst_probability;
};

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "mnist_check: ");
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

/* -- the database -------------------------------------------------------------------------------
 */

static uint64_t big_endian(const char *at, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value = value << 8 | (uint8_t)at[i];
    }
    return value;
}

/* Rows in binary, with one int as parameter. */
static PGresult *ask(PGconn *conn, const char *sql, uint32_t parameter) {
    const char bytes[4] = {(char)(parameter >> 24), (char)(parameter >> 16), (char)(parameter >> 8),
                           (char)parameter};
    const char *values[1] = {bytes};
    static const int lengths[1] = {4};
    static const int formats[1] = {1};
    static const Oid types[1] = {23};
    PGresult *result = PQexecParams(conn, sql, 1, types, values, lengths, formats, 1);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        die("%s: %s", sql, PQerrorMessage(conn));
    }
    return result;
}

static uint64_t integer(const PGresult *result, int row, int column) {
    int bytes = PQgetlength(result, row, column);
    if (PQgetisnull(result, row, column) || (bytes != 2 && bytes != 4 && bytes != 8)) {
        die("column %d of row %d is not an integer", column, row);
    }
    return big_endian(PQgetvalue(result, row, column), bytes);
}

static double real(const PGresult *result, int row, int column) {
    uint64_t bits = big_endian(PQgetvalue(result, row, column), 8);
    double value = 0;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* -- the model ----------------------------------------------------------------------------------
 */

static uint32_t little_endian(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Castagnoli, reflected, bit by bit. */
static uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t size_bytes) {
    crc = ~crc;
    for (size_t i = 0; i < size_bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78U : 0);
        }
    }
    return ~crc;
}

static void check_head(uint8_t *bytes, size_t size_bytes) {
    static const uint32_t wanted[] = {0x314d4244, 1, 1, INPUTS, HIDDEN, OUTPUTS, WEIGHTS * 4, 0};
    if (size_bytes != MODEL_BYTES) {
        die("the model has %zu bytes, not %d", size_bytes, (int)MODEL_BYTES);
    }
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (little_endian(bytes + i * 4) != wanted[i]) {
            die("word %zu of the model's header is %u, not %u", i, little_endian(bytes + i * 4),
                wanted[i]);
        }
    }
    uint32_t stored = little_endian(bytes + CRC_AT);
    memset(bytes + CRC_AT, 0, 4);
    uint32_t computed = crc32c(0, bytes, size_bytes);
    if (stored != computed) {
        die("the model's checksum is %08x, over its bytes it is %08x", stored, computed);
    }
}

static const uint8_t *decode(const uint8_t *at, double *out, size_t count) {
    for (size_t i = 0; i < count; i++, at += 4) {
        uint32_t bits = little_endian(at);
        float value = 0;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) {
            die("weight %zu is not finite", i);
        }
        out[i] = (double)value;
    }
    return at;
}

/* The newest version, put together from its chunks. */
static void read_model(PGconn *conn, struct model *model) {
    uint8_t *bytes = calloc(1, MODEL_BYTES);
    size_t size_bytes = 0;
    PGresult *result = ask(conn, "SELECT max(version) FROM dbos.model WHERE model_id = $1", 1);
    uint32_t version = (uint32_t)integer(result, 0, 0);
    PQclear(result);
    result = ask(conn,
                 "SELECT chunk, bytes FROM dbos.model_chunk WHERE model_id = 1 AND version = $1 "
                 "ORDER BY chunk",
                 version);
    for (int i = 0; i < PQntuples(result); i++) {
        size_t chunk = (size_t)PQgetlength(result, i, 1);
        if (integer(result, i, 0) != (uint64_t)i || chunk == 0 || chunk > CHUNK_MAX ||
            size_bytes + chunk > MODEL_BYTES || bytes == NULL) {
            die("chunk %d of the model is out of order: number %llu, %zu bytes", i,
                (unsigned long long)integer(result, i, 0), chunk);
        }
        memcpy(bytes + size_bytes, PQgetvalue(result, i, 1), chunk);
        size_bytes += chunk;
    }
    (void)printf("model version %u: %zu bytes in %d chunks\n", version, size_bytes,
                 PQntuples(result));
    PQclear(result);
    check_head(bytes, size_bytes);
    const uint8_t *at = decode(bytes + HEAD, model->w1[0], (size_t)HIDDEN * INPUTS);
    at = decode(at, model->b1, HIDDEN);
    at = decode(at, model->w2[0], (size_t)OUTPUTS * HIDDEN);
    (void)decode(at, model->b2, OUTPUTS);
    free(bytes);
}

static void forward(const struct model *model, const uint8_t *pixels, double scores[OUTPUTS]) {
    double hidden[HIDDEN];
    int lit[INPUTS];
    int lit_count = 0;
    for (int i = 0; i < INPUTS; i++) {
        lit[lit_count] = i;
        lit_count += pixels[i] != 0;
    }
    for (int h = 0; h < HIDDEN; h++) {
        double sum = model->b1[h];
        for (int i = 0; i < lit_count; i++) {
            sum += model->w1[h][lit[i]] * pixels[lit[i]] / 255.0;
        }
        hidden[h] = sum > 0 ? sum : 0;
    }
    for (int o = 0; o < OUTPUTS; o++) {
        scores[o] = model->b2[o];
        for (int h = 0; h < HIDDEN; h++) {
            scores[o] += model->w2[o][h] * hidden[h];
        }
    }
}

static uint32_t label_of(const double scores[OUTPUTS], double *out_probability) {
    uint32_t best = 0;
    double sum = 0;
    for (uint32_t o = 1; o < OUTPUTS; o++) {
        best = scores[o] > scores[best] ? o : best;
    }
    for (int o = 0; o < OUTPUTS; o++) {
        sum += exp(scores[o] - scores[best]);
    }
    *out_probability = 1 / sum;
    return best;
}

/* -- the files ----------------------------------------------------------------------------------
 */

struct files {
    FILE *images;
    FILE *labels;
};

static FILE *open_after(const char *path, long head_bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, head_bytes, SEEK_SET) != 0) {
        die("cannot read %s", path);
    }
    return file;
}

/* The next image of the files, in their order, is this one. */
static void check_image(const struct files *files, const uint8_t *pixels, uint32_t label) {
    uint8_t wanted[INPUTS];
    if (fread(wanted, 1, INPUTS, files->images) != INPUTS || fgetc(files->labels) != (int)label ||
        memcmp(wanted, pixels, INPUTS) != 0) {
        die("an image or its label is not the one of the file");
    }
}

/* -- all of it ----------------------------------------------------------------------------------
 */

static void check_batch(PGconn *conn, const struct model *model, const struct files *files,
                        uint32_t batch, struct tally *tally) {
    PGresult *images =
        ask(conn, "SELECT id, label, pixels FROM images WHERE batch = $1 ORDER BY id", batch);
    PGresult *predictions = ask(
        conn, "SELECT id, label, probability FROM predictions WHERE batch = $1 ORDER BY id", batch);
    if (PQntuples(images) != PQntuples(predictions)) {
        die("batch %u: %d images, %d predictions", batch, PQntuples(images),
            PQntuples(predictions));
    }
    for (int i = 0; i < PQntuples(images); i++) {
        double scores[OUTPUTS];
        double probability = 0;
        const uint8_t *pixels = (const uint8_t *)PQgetvalue(images, i, 2);
        uint64_t predicted = integer(predictions, i, 1);
        uint64_t label = integer(images, i, 1);
        if (integer(images, i, 0) != integer(predictions, i, 0) ||
            PQgetlength(images, i, 2) != INPUTS) {
            die("batch %u: row %d is not an image and its prediction", batch, i);
        }
        if (files->images != NULL) {
            check_image(files, pixels, (uint32_t)label);
        }
        forward(model, pixels, scores);
        bool agrees = label_of(scores, &probability) == predicted;
        double off = fabs(probability - real(predictions, i, 2));
        tally->agree += agrees;
        tally->right += predicted == label;
        tally->worst_probability =
            agrees && off > tally->worst_probability ? off : tally->worst_probability;
        tally->images++;
    }
    PQclear(images);
    PQclear(predictions);
}

static int judge(const struct tally *tally, bool is_mnist) {
    double accuracy = (double)tally->right / tally->images;
    (void)printf("images=%u agree=%u accuracy=%.4f probability_off_by=%.1e data=%s\n",
                 tally->images, tally->agree, accuracy, tally->worst_probability,
                 is_mnist ? "mnist" : "drawn");
    if (tally->images < (is_mnist ? 10000U : 1000U)) {
        die("too few images were classified");
    }
    if ((uint64_t)tally->agree * 1000 < (uint64_t)tally->images * 999) {
        die("only %u of %u predictions are those of the double-precision pass", tally->agree,
            tally->images);
    }
    if (tally->worst_probability > 1e-3) {
        die("a probability is off by %g", tally->worst_probability);
    }
    if (accuracy < 0.97) {
        die("%.2f %% is less than 97 %%", accuracy * 100);
    }
    return 0;
}

int main(int argc, char **argv) {
    char info[128];
    struct tally tally = {0};
    struct files files = {0};
    struct model *model = malloc(sizeof *model);
    if (argc != 3 && argc != 5) {
        die("usage: mnist_check PORT drawn | mnist T10K-IMAGES T10K-LABELS");
    }
    if (argc == 5) {
        files.images = open_after(argv[3], 16);
        files.labels = open_after(argv[4], 8);
    }
    (void)snprintf(info, sizeof info, "host=127.0.0.1 port=%s user=auditor dbname=dbos", argv[1]);
    PGconn *conn = PQconnectdb(info);
    if (PQstatus(conn) != CONNECTION_OK || model == NULL) {
        die("cannot connect: %s", PQerrorMessage(conn));
    }
    PQclear(PQexec(conn, "SET statement_timeout = '60s'"));
    read_model(conn, model);
    PGresult *batches = ask(conn,
                            "SELECT batch, count(*) FROM predictions WHERE batch >= $1 "
                            "GROUP BY batch ORDER BY batch",
                            0);
    for (int i = 0; i < PQntuples(batches); i++) {
        check_batch(conn, model, &files, (uint32_t)integer(batches, i, 0), &tally);
    }
    if (files.images != NULL && (fgetc(files.images) != EOF || fgetc(files.labels) != EOF)) {
        die("the files have more images than were classified");
    }
    PQclear(batches);
    PQfinish(conn);
    free(model);
    if (files.images != NULL) {
        (void)fclose(files.images);
        (void)fclose(files.labels);
    }
    return judge(&tally, argc == 5);
}
