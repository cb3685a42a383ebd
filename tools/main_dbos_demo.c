/* dbos-demo: the paper's image workflow as a client of a running node, over plain libpq.
 *
 *   load images ─▶ train through tasks ─▶ classify by invocations of 1,200 ─▶ ask provenance
 *
 * It prints what it does and ends with one line of key=value figures. With --bench it classifies
 * 1, 10, 100 and 1,000 times instead and prints a line for each. */
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "tools/demo/digits.h"

enum {
    BATCH = 1200,
    ROWS_PER_INSERT = 100,
    DRAWN_TRAIN = 12000,
    DRAWN_TEST = 2400,
    WINDOW = 32, /* invocations that are not answered yet */
    POLL_US = 200,
};

struct demo {
    struct dbos_env *env;
    struct dbos_alloc alloc;
    struct dbos_digits digits;
    const char *port;
    const char *mnist_dir; /* NULL = draw */
    bool bench;
    uint32_t train_batches;
    uint32_t test_batches;
};

/* -- small things --------------------------------------------------------------------------------
 */

static void die(const char *format, ...) DBOS_PRINTF(1, 2);
static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "dbos-demo: ");
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

static PGconn *connect_as(const struct demo *demo, const char *user) {
    char info[256];
    (void)snprintf(info, sizeof info, "host=127.0.0.1 port=%s user=%s dbname=dbos", demo->port,
                   user);
    PGconn *conn = PQconnectdb(info);
    if (PQstatus(conn) != CONNECTION_OK) {
        die("cannot connect: %s", PQerrorMessage(conn));
    }
    PQclear(PQexec(conn, "SET statement_timeout = '120s'"));
    return conn;
}

static PGresult *checked(PGconn *conn, PGresult *result, const char *what) {
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        die("%s: %s", what, PQerrorMessage(conn));
    }
    return result;
}

static PGresult *query(PGconn *conn, const char *format, ...) DBOS_PRINTF(2, 3);
static PGresult *query(PGconn *conn, const char *format, ...) {
    char sql[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    return checked(conn, PQexec(conn, sql), sql);
}

static double seconds(const struct demo *demo) {
    return (double)demo->env->ops->mono_ns(demo->env) / 1e9;
}

static void progress(const char *what, uint32_t done, uint32_t all) {
    if (isatty(STDOUT_FILENO)) {
        (void)printf("\r  %s %u of %u%s", what, done, all, done == all ? "\n" : "");
    } else if (done == all || (all >= 10 && done % (all / 5 + 1) == 0)) {
        (void)printf("  %s %u of %u\n", what, done, all);
    }
    (void)fflush(stdout);
}

/* -- loading -------------------------------------------------------------------------------------
 */

static uint32_t batches_of(uint32_t images) { return (images + BATCH - 1) / BATCH; }

/* Training batches come first; a test image's batch number follows on. */
static uint32_t batch_of(const struct demo *demo, uint32_t image) {
    return image < demo->digits.train_count
               ? image / BATCH
               : demo->train_batches + (image - demo->digits.train_count) / BATCH;
}

static void put_be(uint8_t *to, uint32_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) {
        to[i] = (uint8_t)value;
        value >>= 8;
    }
}

static void prepare_insert(PGconn *conn, uint32_t rows) {
    char sql[ROWS_PER_INSERT * 40 + 64];
    char name[16];
    size_t used = (size_t)snprintf(sql, sizeof sql, "INSERT INTO images VALUES ");
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t p = i * 4;
        used += (size_t)snprintf(sql + used, sizeof sql - used, "%s($%u,$%u,$%u,$%u)",
                                 i == 0 ? "" : ",", p + 1, p + 2, p + 3, p + 4);
    }
    (void)snprintf(name, sizeof name, "load%u", rows);
    PQclear(checked(conn, PQprepare(conn, name, sql, 0, NULL), "prepare"));
}

static void insert_rows(const struct demo *demo, PGconn *conn, uint32_t first, uint32_t rows) {
    uint8_t integers[ROWS_PER_INSERT][10];
    const char *values[ROWS_PER_INSERT * 4];
    int lengths[ROWS_PER_INSERT * 4];
    int formats[ROWS_PER_INSERT * 4];
    char name[16];
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t image = first + i;
        put_be(integers[i], batch_of(demo, image), 4);
        put_be(integers[i] + 4, image, 4);
        put_be(integers[i] + 8, demo->digits.labels[image], 2);
        values[i * 4] = (char *)integers[i];
        values[i * 4 + 1] = (char *)integers[i] + 4;
        values[i * 4 + 2] = (char *)integers[i] + 8;
        values[i * 4 + 3] = (const char *)demo->digits.pixels + (size_t)image * DBOS_DIGIT_PIXELS;
        lengths[i * 4] = lengths[i * 4 + 1] = 4;
        lengths[i * 4 + 2] = 2;
        lengths[i * 4 + 3] = DBOS_DIGIT_PIXELS;
        formats[i * 4] = formats[i * 4 + 1] = formats[i * 4 + 2] = formats[i * 4 + 3] = 1;
    }
    (void)snprintf(name, sizeof name, "load%u", rows);
    PQclear(checked(conn, PQexecPrepared(conn, name, (int)rows * 4, values, lengths, formats, 1),
                    "insert images"));
}

static void load(struct demo *demo) {
    PGconn *conn = connect_as(demo, "loader");
    uint32_t count = demo->digits.train_count + demo->digits.test_count;
    double start = seconds(demo);
    prepare_insert(conn, ROWS_PER_INSERT);
    prepare_insert(conn, 1);
    for (uint32_t i = 0; i < count;) {
        uint32_t rows = count - i < ROWS_PER_INSERT ||
                                batch_of(demo, i) != batch_of(demo, i + ROWS_PER_INSERT - 1)
                            ? 1
                            : ROWS_PER_INSERT;
        insert_rows(demo, conn, i, rows);
        i += rows;
        if (i % 5000 < rows || i == count) {
            progress("images loaded:", i, count);
        }
    }
    (void)printf("  %u images in %.2f s\n", count, seconds(demo) - start);
    PQfinish(conn);
}

/* -- training ------------------------------------------------------------------------------------
 */

static void train(struct demo *demo) {
    PGconn *conn = connect_as(demo, "trainer");
    double start = seconds(demo);
    PGresult *result = query(conn, "SELECT train_open(%u)", demo->train_batches);
    char task[32];
    (void)snprintf(task, sizeof task, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    for (uint32_t i = 0; i < demo->train_batches; i++) {
        PQclear(query(conn, "SELECT train_add(%u, %s, %u)", i, task, i));
        progress("training pieces submitted:", i + 1, demo->train_batches);
    }
    for (;;) {
        result = query(conn, "SELECT version, exec_us, error FROM trainings WHERE task = %s", task);
        if (PQntuples(result) != 0) {
            break;
        }
        PQclear(result);
        demo->env->ops->sleep_us(demo->env, 100000);
    }
    if (!PQgetisnull(result, 0, 2)) {
        die("training failed: %s", PQgetvalue(result, 0, 2));
    }
    (void)printf("  task %s: model version %s after %.2f s (worker: %.2f s)\n", task,
                 PQgetvalue(result, 0, 0), seconds(demo) - start,
                 strtod(PQgetvalue(result, 0, 1), NULL) / 1e6);
    PQclear(result);
    PQfinish(conn);
}

/* -- classifying ---------------------------------------------------------------------------------
 */

struct invocation {
    char task[32];
    uint32_t batch;
};

struct figures {
    uint32_t invocations;
    uint64_t images;
    double wall_s;
    double exec_s; /* in the worker, summed */
};

static void submit(PGconn *conn, struct invocation *invocation, uint32_t batch) {
    char text[16];
    const char *values[1] = {text};
    (void)snprintf(text, sizeof text, "%u", batch);
    PGresult *result =
        checked(conn, PQexecPrepared(conn, "classify", 1, values, NULL, NULL, 0), "classify");
    (void)snprintf(invocation->task, sizeof invocation->task, "%s", PQgetvalue(result, 0, 0));
    invocation->batch = batch;
    PQclear(result);
}

static void await(const struct demo *demo, PGconn *conn, const struct invocation *invocation,
                  struct figures *figures) {
    char batch[16];
    const char *values[2] = {batch, invocation->task};
    (void)snprintf(batch, sizeof batch, "%u", invocation->batch);
    for (;;) {
        PGresult *result =
            checked(conn, PQexecPrepared(conn, "run", 2, values, NULL, NULL, 0), "look for a run");
        if (PQntuples(result) == 0) {
            PQclear(result);
            demo->env->ops->sleep_us(demo->env, POLL_US);
            continue;
        }
        if (!PQgetisnull(result, 0, 2)) {
            die("task %s failed: %s", invocation->task, PQgetvalue(result, 0, 2));
        }
        figures->images += strtoul(PQgetvalue(result, 0, 0), NULL, 10);
        figures->exec_s += strtod(PQgetvalue(result, 0, 1), NULL) / 1e6;
        PQclear(result);
        return;
    }
}

/* `count` invocations over the test batches, which repeat; at most WINDOW unanswered. */
static struct figures classify(struct demo *demo, PGconn *conn, uint32_t count, bool show) {
    struct figures figures = {.invocations = count};
    struct invocation window[WINDOW];
    double start = seconds(demo);
    uint32_t sent = 0;
    for (uint32_t done = 0; done < count; done++) {
        while (sent < count && sent - done < WINDOW) {
            submit(conn, &window[sent % WINDOW], demo->train_batches + sent % demo->test_batches);
            sent++;
        }
        await(demo, conn, &window[done % WINDOW], &figures);
        if (show) {
            progress("invocations answered:", done + 1, count);
        }
    }
    figures.wall_s = seconds(demo) - start;
    return figures;
}

static PGconn *connect_classifier(const struct demo *demo) {
    PGconn *conn = connect_as(demo, "app");
    PQclear(checked(conn, PQprepare(conn, "classify", "SELECT classify($1)", 0, NULL), "prepare"));
    PQclear(checked(conn,
                    PQprepare(conn, "run",
                              "SELECT images, exec_us, error FROM runs WHERE batch = $1 AND "
                              "task = $2",
                              0, NULL),
                    "prepare"));
    return conn;
}

static double accuracy(const struct demo *demo, PGconn *conn) {
    PGresult *result = query(conn, "SELECT id, label FROM predictions");
    uint32_t right = 0;
    int rows = PQntuples(result);
    for (int i = 0; i < rows; i++) {
        uint32_t id = (uint32_t)strtoul(PQgetvalue(result, i, 0), NULL, 10);
        right += (uint32_t)atoi(PQgetvalue(result, i, 1)) == demo->digits.labels[id];
    }
    PQclear(result);
    return rows == 0 ? 0 : 100.0 * right / rows;
}

static double overhead_percent(const struct figures *figures) {
    return 100 * (figures->wall_s - figures->exec_s) / figures->exec_s;
}

/* -- provenance ----------------------------------------------------------------------------------
 */

static void print_rows(PGconn *conn, const char *sql) {
    PQprintOpt options = {.header = 1, .align = 1, .fieldSep = (char *)(uintptr_t) "|"};
    PGresult *result = query(conn, "%s", sql);
    (void)printf("  %s\n", sql);
    PQprint(stdout, result, &options);
    PQclear(result);
}

static void explain_prediction(const struct demo *demo) {
    PGconn *conn = connect_as(demo, "auditor");
    char sql[512];
    uint32_t image = demo->digits.train_count; /* the first test image */
    uint32_t batch = demo->train_batches;
    double start = seconds(demo);
    (void)snprintf(sql, sizeof sql,
                   "SELECT id, label, probability FROM predictions WHERE batch = %u AND id = %u",
                   batch, image);
    print_rows(conn, sql);
    (void)snprintf(sql, sizeof sql,
                   "SELECT position, ts, op, username, procedure FROM "
                   "prov_history('predictions', '(%u,%u)')",
                   batch, image);
    print_rows(conn, sql);
    (void)printf("  what led to it, step by step (the images of its batch, the model, the images "
                 "that the model was trained on, and who brought them):\n");
    (void)snprintf(sql, sizeof sql,
                   "SELECT depth, table_name, count(*) AS rows, username, procedure FROM "
                   "prov_upstream('predictions', '(%u,%u)') GROUP BY depth, table_name, username, "
                   "procedure ORDER BY depth, table_name",
                   batch, image);
    print_rows(conn, sql);
    (void)printf("  provenance answered in %.2f s\n", seconds(demo) - start);
    PQfinish(conn);
}

/* -- main ----------------------------------------------------------------------------------------
 */

static void read_digits(struct demo *demo) {
    struct dbos_errinfo info;
    enum dbos_err err =
        demo->mnist_dir == NULL
            ? dbos_digits_draw(&demo->alloc, DRAWN_TRAIN, DRAWN_TEST, 7, &demo->digits, &info)
            : dbos_digits_read(&demo->alloc, demo->mnist_dir, &demo->digits, &info);
    if (err != DBOS_OK) {
        die("%s", info.message);
    }
    demo->train_batches = batches_of(demo->digits.train_count);
    demo->test_batches = batches_of(demo->digits.test_count);
}

static void run_bench(struct demo *demo) {
    PGconn *conn = connect_classifier(demo);
    (void)classify(demo, conn, demo->test_batches, false); /* the model is at the worker now */
    for (uint32_t count = 1; count <= 1000; count *= 10) {
        struct figures f = classify(demo, conn, count, false);
        (void)printf("mnist invocations=%u images=%llu wall_ms=%.3f exec_ms=%.3f "
                     "us_per_image=%.3f raw_us_per_image=%.3f overhead_percent=%.1f\n",
                     count, (unsigned long long)f.images, f.wall_s * 1e3, f.exec_s * 1e3,
                     f.wall_s * 1e6 / (double)f.images, f.exec_s * 1e6 / (double)f.images,
                     overhead_percent(&f));
        (void)fflush(stdout);
    }
    PQfinish(conn);
}

static void run_demo(struct demo *demo) {
    PGconn *conn = connect_classifier(demo);
    (void)printf("\n3. Classify the test images: procedure -> task -> worker -> procedure\n");
    struct figures f = classify(demo, conn, demo->test_batches, true);
    double percent = accuracy(demo, conn);
    (void)printf("  accuracy on %llu test images: %.2f %%\n", (unsigned long long)f.images,
                 percent);
    (void)printf("  %.0f images/s; %.2f ms per invocation of up to %d images, of which %.2f ms is "
                 "the worker's own execution\n",
                 (double)f.images / f.wall_s, f.wall_s * 1e3 / f.invocations, BATCH,
                 f.exec_s * 1e3 / f.invocations);
    (void)printf("\n4. Ask provenance about one prediction\n");
    explain_prediction(demo);
    (void)printf("\naccuracy=%.4f images_per_s=%.0f invocations=%u overhead_percent=%.1f "
                 "ms_per_invocation=%.3f exec_ms_per_invocation=%.3f data=%s\n",
                 percent / 100, (double)f.images / f.wall_s, f.invocations, overhead_percent(&f),
                 f.wall_s * 1e3 / f.invocations, f.exec_s * 1e3 / f.invocations,
                 demo->mnist_dir == NULL ? "drawn" : "mnist");
    PQfinish(conn);
}

static void read_options(struct demo *demo, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--port") == 0 && i + 1 < argc) {
            demo->port = argv[++i];
        } else if (strcmp(argv[i], "--mnist") == 0 && i + 1 < argc) {
            demo->mnist_dir = argv[++i];
        } else if (strcmp(argv[i], "--bench") == 0) {
            demo->bench = true;
        } else {
            die("usage: dbos-demo --port PORT [--mnist DIR] [--bench]");
        }
    }
    if (demo->port == NULL) {
        die("usage: dbos-demo --port PORT [--mnist DIR] [--bench]");
    }
}

int main(int argc, char **argv) {
    struct demo demo = {.env = dbos_env_posix()};
    dbos_alloc_init(&demo.alloc, "demo", 0);
    read_options(&demo, argc, argv);
    read_digits(&demo);
    (void)printf("1. Load %u + %u images of digits (%s) as raw bytes\n", demo.digits.train_count,
                 demo.digits.test_count,
                 demo.mnist_dir == NULL ? "drawn here: no MNIST files found" : "MNIST");
    load(&demo);
    (void)printf("\n2. Train a 784-512-10 network: %u pieces of %d images to the worker\n",
                 demo.train_batches, BATCH);
    train(&demo);
    if (demo.bench) {
        run_bench(&demo);
    } else {
        run_demo(&demo);
    }
    dbos_digits_close(&demo.digits);
    return 0;
}
