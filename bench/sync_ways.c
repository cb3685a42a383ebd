/* Ways to have one write on disk, beside each other: which of them the log should use.
 *
 *   bench_sync_ways DIR [BYTES]
 *
 * A file that has been written before, as a segment of the log is; rounds of ROUND_WRITES writes of
 * each way in turn, so that a change in the disk's mood meets all of them. A line of JSON for each.
 *
 * Thread: one. Memory: one aligned buffer, a number for each write. */
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    FILE_BYTES = 16 * 1024 * 1024,
    WRITE_BYTES_MAX = 64 * 1024,
    ROUNDS = 12,
    ROUND_WRITES = 250,
    SECTOR_BYTES = 512,
};

struct bench {
    int cached;
    int direct;
    struct io_uring ring;
    uint8_t *buffer;
    size_t size_bytes;
};

typedef bool write_way(struct bench *bench, off_t at);

static bool plain(struct bench *bench, off_t at) {
    ssize_t count = pwrite(bench->cached, bench->buffer, bench->size_bytes, at);
    return count == (ssize_t)bench->size_bytes && fdatasync(bench->cached) == 0;
}

static bool in_one(struct bench *bench, int file, off_t at) {
    struct iovec part = {.iov_base = bench->buffer, .iov_len = bench->size_bytes};
    return pwritev2(file, &part, 1, at, RWF_DSYNC) == (ssize_t)bench->size_bytes;
}

static bool one_call(struct bench *bench, off_t at) { return in_one(bench, bench->cached, at); }

static bool past_cache(struct bench *bench, off_t at) { return in_one(bench, bench->direct, at); }

static bool reap(struct bench *bench, unsigned count) {
    bool fine = io_uring_submit_and_wait(&bench->ring, count) >= 0;
    for (unsigned i = 0; i < count && fine; i++) {
        struct io_uring_cqe *done;
        fine = io_uring_wait_cqe(&bench->ring, &done) == 0 && done->res >= 0;
        io_uring_cqe_seen(&bench->ring, done);
    }
    return fine;
}

static bool ring_linked(struct bench *bench, off_t at) {
    struct io_uring_sqe *write = io_uring_get_sqe(&bench->ring);
    io_uring_prep_write(write, bench->cached, bench->buffer, (unsigned)bench->size_bytes,
                        (uint64_t)at);
    write->flags |= IOSQE_IO_LINK;
    io_uring_prep_fsync(io_uring_get_sqe(&bench->ring), bench->cached, IORING_FSYNC_DATASYNC);
    return reap(bench, 2);
}

static bool ring_past_cache(struct bench *bench, off_t at) {
    struct io_uring_sqe *write = io_uring_get_sqe(&bench->ring);
    io_uring_prep_write(write, bench->direct, bench->buffer, (unsigned)bench->size_bytes,
                        (uint64_t)at);
    write->rw_flags = RWF_DSYNC;
    return reap(bench, 1);
}

static const struct way {
    const char *name;
    write_way *write;
} ways[] = {
    {"pwrite, fdatasync", plain},
    {"pwritev2 with RWF_DSYNC", one_call},
    {"the same with O_DIRECT", past_cache},
    {"io_uring: write, linked fdatasync", ring_linked},
    {"io_uring: O_DIRECT write with RWF_DSYNC", ring_past_cache},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now_us(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static void open_files(struct bench *bench, const char *path) {
    bench->cached = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bench->direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (bench->cached < 0 || bench->direct < 0) {
        fail(path);
    }
    for (off_t at = 0; at < FILE_BYTES; at += WRITE_BYTES_MAX) {
        if (pwrite(bench->cached, bench->buffer, WRITE_BYTES_MAX, at) != WRITE_BYTES_MAX) {
            fail(path);
        }
    }
    if (fsync(bench->cached) != 0) {
        fail(path);
    }
}

static void run_round(struct bench *bench, uint32_t round,
                      double times[WAYS][ROUNDS * ROUND_WRITES]) {
    size_t places = (FILE_BYTES - WRITE_BYTES_MAX) / bench->size_bytes;
    for (uint32_t way = 0; way < WAYS; way++) {
        for (uint32_t i = 0; i < ROUND_WRITES; i++) {
            uint32_t number = round * ROUND_WRITES + i;
            double before = now_us();
            if (!ways[way].write(bench, (off_t)(number % places * bench->size_bytes))) {
                fail(ways[way].name);
            }
            times[way][number] = now_us() - before;
        }
    }
}

int main(int argc, char **argv) {
    static double times[WAYS][ROUNDS * ROUND_WRITES];
    struct bench bench = {.size_bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : SECTOR_BYTES};
    char path[4096];
    if (argc < 2 || argc > 3 || bench.size_bytes == 0 || bench.size_bytes > WRITE_BYTES_MAX ||
        bench.size_bytes % SECTOR_BYTES != 0) {
        (void)fprintf(stderr, "usage: bench_sync_ways DIR [BYTES], a multiple of %d up to %d\n",
                      SECTOR_BYTES, WRITE_BYTES_MAX);
        return 2;
    }
    (void)snprintf(path, sizeof path, "%s/sync-ways", argv[1]);
    bench.buffer = aligned_alloc(4096, WRITE_BYTES_MAX);
    if (bench.buffer == NULL || io_uring_queue_init(8, &bench.ring, 0) != 0) {
        fail("io_uring");
    }
    memset(bench.buffer, 7, WRITE_BYTES_MAX);
    open_files(&bench, path);
    (void)unlink(path);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        run_round(&bench, round, times);
    }
    for (uint32_t way = 0; way < WAYS; way++) {
        size_t count = ROUNDS * ROUND_WRITES;
        qsort(times[way], count, sizeof times[way][0], compare);
        (void)printf("{\"workload\":\"sync-ways\",\"way\":\"%s\",\"bytes\":%zu,\"p50_us\":%.1f,"
                     "\"p99_us\":%.1f}\n",
                     ways[way].name, bench.size_bytes, times[way][count / 2],
                     times[way][count * 99 / 100]);
    }
    io_uring_queue_exit(&bench.ring);
    free(bench.buffer);
    return 0;
}
