/* Replays a fuzz target's corpus without libFuzzer: each file, its truncations, and seeded random
 * mutations. Usage: replay_<decoder> CORPUS_DIRECTORY [MUTATIONS [SECONDS_MAX [SEED]]]
 *
 * Each input ends at the last byte before a page that can not be read, so that an over-read of one
 * byte is a crash in every build. The inputs run in a child; when it dies, the parent writes the
 * input it died of to a file and prints the command that repeats it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/env.h"
#include "base/err.h"
#include "tests/fuzz/fuzz.h"

enum {
    INPUT_BYTES_MAX = 1024 * 1024 + 4096, /* a whole frame and some more */
    FILES_MAX = 4096,
    TRUNCATIONS_MAX = 4096, /* of one file; a longer file is cut at evenly spread places */
    PAGE_BYTES = 4096,
    CHANGES_MAX = 8, /* in one mutation */
};

struct corpus_file {
    char name[256];
    uint8_t *data;
    size_t size_bytes;
};

/* Shared with the child: what it is doing now. */
struct progress {
    uint64_t runs;
    char what[384];
    size_t size_bytes;
};

struct replay {
    struct dbos_env *env;
    struct dbos_alloc alloc;
    struct dbos_rng rng;
    const char *directory;
    struct corpus_file *files;
    size_t file_count;
    bool too_many;
    uint8_t *guarded_end;  /* inputs end here; the page behind is unreadable */
    uint8_t *scratch;      /* INPUT_BYTES_MAX, where a mutation is made */
    uint64_t mutations;    /* wanted, over all files */
    uint64_t mono_end_ns;  /* mutations stop here */
    struct progress *seen; /* shared */
};

static void *map_shared(size_t size_bytes) {
    void *map = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    DBOS_CHECK(map != MAP_FAILED);
    return map;
}

static void run_one(struct replay *replay, const uint8_t *data, size_t size_bytes) {
    uint8_t *at = replay->guarded_end - size_bytes;
    if (size_bytes != 0) {
        memmove(at, data, size_bytes);
    }
    replay->seen->size_bytes = size_bytes;
    replay->seen->runs++;
    int result = LLVMFuzzerTestOneInput(at, size_bytes);
    DBOS_CHECK(result == 0 || result == -1); /* -1: libFuzzer's "not worth keeping" */
}

static void run_file(struct replay *replay, const struct corpus_file *file) {
    struct progress *seen = replay->seen;
    (void)snprintf(seen->what, sizeof seen->what, "file %s", file->name);
    run_one(replay, file->data, file->size_bytes);
    size_t step = file->size_bytes / TRUNCATIONS_MAX + 1;
    for (size_t cut = 0; cut < file->size_bytes; cut += step) {
        (void)snprintf(seen->what, sizeof seen->what, "file %s cut to %zu bytes", file->name, cut);
        run_one(replay, file->data, cut);
    }
    if (file->size_bytes > 1) {
        run_one(replay, file->data, file->size_bytes - 1);
    }
}

/* Numbers at which decoders go wrong. */
static uint64_t odd_number(struct dbos_rng *rng) {
    static const uint64_t odd[] = {
        0,          1,          2,         0x7f,       0x80,       0xff,           0x7fff,
        0x8000,     0xffff,     0x10000,   0xfffff,    0x100000,   0x100001,       0x7fffffff,
        0x80000000, 0xffffffff, INT64_MAX, 1ull << 63, UINT64_MAX, UINT32_MAX - 8,
    };
    return odd[dbos_rng_below(rng, sizeof odd / sizeof odd[0])];
}

/* One change of the scratch input; returns its new size. */
static size_t change_once(struct replay *replay, size_t size_bytes) {
    struct dbos_rng *rng = &replay->rng;
    uint8_t *data = replay->scratch;
    size_t at = size_bytes == 0 ? 0 : (size_t)dbos_rng_below(rng, size_bytes);
    size_t left = size_bytes - at;
    size_t run = left == 0 ? 0 : (size_t)dbos_rng_below(rng, left < 64 ? left : 64) + 1;
    uint64_t number = odd_number(rng);
    switch (size_bytes == 0 ? 4 : dbos_rng_below(rng, 7)) {
    case 0: /* one bit */
        data[at] ^= (uint8_t)(1u << dbos_rng_below(rng, 8));
        return size_bytes;
    case 1: /* one byte */
        data[at] = (uint8_t)dbos_rng_next(rng);
        return size_bytes;
    case 2: { /* an odd number of 1 to 8 bytes, in either order */
        size_t width = (size_t)1 << dbos_rng_below(rng, 4);
        number =
            dbos_rng_below(rng, 2) == 0 ? number : __builtin_bswap64(number) >> (64 - 8 * width);
        memcpy(data + at, &number, width < left ? width : left);
        return size_bytes;
    }
    case 3: /* a run goes */
        memmove(data + at, data + at + run, left - run);
        return size_bytes - run;
    case 4: { /* random bytes come */
        size_t extra = (size_t)dbos_rng_below(rng, 16) + 1;
        if (size_bytes + extra > INPUT_BYTES_MAX) {
            return size_bytes;
        }
        memmove(data + at + extra, data + at, left);
        for (size_t i = 0; i < extra; i++) {
            data[at + i] = (uint8_t)dbos_rng_next(rng);
        }
        return size_bytes + extra;
    }
    case 5: /* a run twice */
        if (size_bytes + run > INPUT_BYTES_MAX) {
            return size_bytes;
        }
        memmove(data + at + run, data + at, left);
        return size_bytes + run;
    default: { /* go on with the tail of another file */
        const struct corpus_file *other =
            &replay->files[dbos_rng_below(rng, (uint64_t)replay->file_count)];
        size_t from = at < other->size_bytes ? at : other->size_bytes;
        memcpy(data + at, other->data + from, other->size_bytes - from);
        return at + (other->size_bytes - from);
    }
    }
}

static bool run_mutations(struct replay *replay) {
    struct progress *seen = replay->seen;
    for (uint64_t i = 0; i < replay->mutations; i++) {
        if (replay->env->ops->mono_ns(replay->env) > replay->mono_end_ns) {
            (void)printf("time is over after %llu mutations\n", (unsigned long long)i);
            return i > 0;
        }
        const struct corpus_file *file = &replay->files[i % replay->file_count];
        size_t size_bytes = file->size_bytes;
        if (size_bytes != 0) {
            memcpy(replay->scratch, file->data, size_bytes);
        }
        uint64_t changes = dbos_rng_below(&replay->rng, CHANGES_MAX) + 1;
        for (uint64_t change = 0; change < changes; change++) {
            size_bytes = change_once(replay, size_bytes);
        }
        (void)snprintf(seen->what, sizeof seen->what, "mutation %llu, of file %s",
                       (unsigned long long)i, file->name);
        run_one(replay, replay->scratch, size_bytes);
    }
    return true;
}

static int run_all(struct replay *replay) {
    for (size_t i = 0; i < replay->file_count; i++) {
        run_file(replay, &replay->files[i]);
    }
    return run_mutations(replay) ? 0 : 1;
}

static void add_file(void *arg, const char *name) {
    struct replay *replay = arg;
    if (name[0] == '.') {
        return;
    }
    if (replay->file_count == FILES_MAX) {
        replay->too_many = true;
        return;
    }
    struct corpus_file *file = &replay->files[replay->file_count++];
    (void)snprintf(file->name, sizeof file->name, "%s", name);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct corpus_file *)a)->name, ((const struct corpus_file *)b)->name);
}

static enum dbos_err load_file(struct replay *replay, struct corpus_file *file,
                               struct dbos_errinfo *info) {
    const struct dbos_env_ops *ops = replay->env->ops;
    char path[1024];
    uint64_t size_bytes = 0;
    int fd = -1;
    (void)snprintf(path, sizeof path, "%s/%s", replay->directory, file->name);
    enum dbos_err err = ops->file_open(replay->env, path, DBOS_OPEN_READ, &fd, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = ops->file_size(replay->env, fd, &size_bytes, info);
    if (err == DBOS_OK && size_bytes > INPUT_BYTES_MAX) {
        err = dbos_fail(info, DBOS_ERR_LIMIT, "%s is longer than %d bytes", path, INPUT_BYTES_MAX);
    }
    if (err == DBOS_OK) {
        file->data = dbos_take(&replay->alloc, (size_t)size_bytes + 1);
        DBOS_CHECK(file->data != NULL);
        err = ops->file_read(replay->env, fd, 0, file->data, (size_t)size_bytes, &file->size_bytes,
                             info);
    }
    ops->file_close(replay->env, fd);
    return err;
}

/* Sorted, so that a seed means the same run on every machine. */
static enum dbos_err load_corpus(struct replay *replay, struct dbos_errinfo *info) {
    replay->files = dbos_take_zero(&replay->alloc, FILES_MAX * sizeof *replay->files);
    DBOS_CHECK(replay->files != NULL);
    enum dbos_err err =
        replay->env->ops->dir_list(replay->env, replay->directory, add_file, replay, info);
    if (err == DBOS_OK && (replay->file_count == 0 || replay->too_many)) {
        err = dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "%s holds no file, or more than %d",
                        replay->directory, FILES_MAX);
    }
    if (err != DBOS_OK) {
        return err;
    }
    qsort(replay->files, replay->file_count, sizeof *replay->files, by_name);
    for (size_t i = 0; i < replay->file_count && err == DBOS_OK; i++) {
        err = load_file(replay, &replay->files[i], info);
    }
    return err;
}

/* Inputs lie in shared memory, where the parent can still read them when the child is dead. */
static void map_input(struct replay *replay) {
    size_t size_bytes = (INPUT_BYTES_MAX + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    uint8_t *map = map_shared(size_bytes + PAGE_BYTES);
    replay->guarded_end = map + size_bytes;
    DBOS_CHECK(mprotect(replay->guarded_end, PAGE_BYTES, PROT_NONE) == 0);

    replay->scratch = dbos_take(&replay->alloc, INPUT_BYTES_MAX);
    DBOS_CHECK(replay->scratch != NULL);
    replay->seen = map_shared(sizeof *replay->seen);
}

static void save_crash(const struct replay *replay, const char *program) {
    const struct progress *seen = replay->seen;
    char path[1024];
    (void)snprintf(path, sizeof path, "%s.crash", program);
    FILE *out = fopen(path, "wb");
    if (out != NULL) {
        size_t put = fwrite(replay->guarded_end - seen->size_bytes, 1, seen->size_bytes, out);
        (void)fclose(out);
        (void)printf("the input, %zu bytes, is in %s\n", put, path);
    }
}

static int judge(const struct replay *replay, const char *program, int status) {
    const struct progress *seen = replay->seen;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        (void)printf("%zu files, %llu inputs, no crash\n", replay->file_count,
                     (unsigned long long)seen->runs);
        return 0;
    }
    if (WIFSIGNALED(status)) {
        (void)printf("died of signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else {
        (void)printf("ended with status %d", WEXITSTATUS(status));
    }
    (void)printf(" at input %llu: %s\n", (unsigned long long)seen->runs, seen->what);
    save_crash(replay, program);
    return 1;
}

int main(int argc, char **argv) {
    struct dbos_errinfo info = {0};
    if (argc < 2) {
        (void)fprintf(stderr, "usage: %s CORPUS_DIRECTORY [MUTATIONS [SECONDS_MAX [SEED]]]\n",
                      argv[0]);
        return 2;
    }
    struct replay replay = {.env = dbos_env_posix(), .directory = argv[1]};
    uint64_t seconds_max = argc > 3 ? strtoull(argv[3], NULL, 10) : 20;
    uint64_t seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
    dbos_alloc_init(&replay.alloc, "replay", 0);
    dbos_rng_init(&replay.rng, seed);
    replay.mutations = argc > 2 ? strtoull(argv[2], NULL, 10) : 2000;
    replay.mono_end_ns = replay.env->ops->mono_ns(replay.env) + seconds_max * 1000000000u;
    if (load_corpus(&replay, &info) != DBOS_OK) {
        (void)fprintf(stderr, "%s\n", info.message);
        return 2;
    }
    map_input(&replay);
    (void)printf("repeat with: %s %s %llu %llu %llu\n", argv[0], argv[1],
                 (unsigned long long)replay.mutations, (unsigned long long)seconds_max,
                 (unsigned long long)seed);
    (void)fflush(stdout);
    pid_t child = fork();
    DBOS_CHECK(child >= 0);
    if (child == 0) {
        exit(run_all(&replay));
    }
    int status = 0;
    DBOS_CHECK(waitpid(child, &status, 0) == child);
    int result = judge(&replay, argv[0], status);
    for (size_t i = 0; i < replay.file_count; i++) {
        dbos_give(&replay.alloc, replay.files[i].data);
    }
    dbos_give(&replay.alloc, replay.files);
    dbos_give(&replay.alloc, replay.scratch);
    dbos_alloc_fini(&replay.alloc);
    return result;
}
