/* A power cut for tests: everything that was not synced is gone after a kill.
 *
 * `kill -9` alone loses nothing, because the page cache survives the process. This library, loaded
 * with LD_PRELOAD, notes before each change of a file under $LOSE_UNSYNCED_ROOT what was there
 * before (in a journal of the process in $LOSE_UNSYNCED_JOURNAL), and at each sync that the changes
 * so far are safe. After the kill, lose_unsynced_apply (a program from the same source) undoes,
 * newest first, what was not synced: overwritten bytes, growth, new files and renames whose
 * directory was not synced.
 *
 * LOSE_UNSYNCED_IGNORE_SYNC=1 makes fdatasync and fsync do nothing and note nothing: a test with it
 * has to fail, which shows that the loss is real. While there is a file $LOSE_UNSYNCED_FAIL, each
 * of them fails with EIO. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum entry_kind { ENTRY_WRITE = 1, ENTRY_SYNC, ENTRY_CREATE, ENTRY_RENAME, ENTRY_SYNC_DIR };

struct entry {
    uint32_t kind;
    uint32_t path_bytes;  /* with NUL */
    uint32_t other_bytes; /* RENAME: the old name, with NUL */
    uint32_t saved_bytes; /* WRITE: what was there */
    uint64_t offset;
    uint64_t old_size;
};

#ifndef LOSE_UNSYNCED_APPLY

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;
static pid_t journal_pid;
static const char *root;
static int ignore_sync;

static void open_journal(void) {
    char path[PATH_MAX];
    pid_t pid = getpid();
    if (journal_pid == pid) {
        return;
    }
    journal_pid = pid;
    root = getenv("LOSE_UNSYNCED_ROOT");
    ignore_sync = getenv("LOSE_UNSYNCED_IGNORE_SYNC") != NULL;
    const char *dir = getenv("LOSE_UNSYNCED_JOURNAL");
    if (root == NULL || dir == NULL) {
        root = NULL;
        return;
    }
    (void)snprintf(path, sizeof path, "%s/%d.journal", dir, (int)pid);
    journal =
        (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0) {
        root = NULL;
    }
}

static int is_ours(const char *path) {
    size_t bytes = root == NULL ? 0 : strlen(root);
    return root != NULL && strncmp(path, root, bytes) == 0 && path[bytes] == '/';
}

static int path_of(int fd, char *path) {
    char link[64];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(link, path, PATH_MAX - 1);
    if (bytes <= 0) {
        return 0;
    }
    path[bytes] = '\0';
    return is_ours(path) || strcmp(path, root == NULL ? "" : root) == 0;
}

static void note(const struct entry *entry, const char *path, const char *other,
                 const void *saved) {
    size_t bytes = sizeof *entry + entry->path_bytes + entry->other_bytes + entry->saved_bytes;
    uint8_t *record = malloc(bytes);
    if (record == NULL) {
        abort();
    }
    uint8_t *to = record;
    memcpy(to, entry, sizeof *entry);
    to += sizeof *entry;
    memcpy(to, path, entry->path_bytes);
    to += entry->path_bytes;
    if (entry->other_bytes != 0) {
        memcpy(to, other, entry->other_bytes);
        to += entry->other_bytes;
    }
    if (entry->saved_bytes != 0) {
        memcpy(to, saved, entry->saved_bytes);
    }
    if (syscall(SYS_write, journal, record, bytes) != (long)bytes) {
        abort();
    }
    free(record);
}

static void note_write(int fd, uint64_t offset, size_t bytes) {
    char path[PATH_MAX];
    struct stat facts;
    if (root == NULL || !path_of(fd, path) || fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        return;
    }
    uint64_t size = (uint64_t)facts.st_size;
    size_t kept = offset >= size ? 0 : size - offset < bytes ? (size_t)(size - offset) : bytes;
    uint8_t *saved = kept == 0 ? NULL : malloc(kept);
    if (kept != 0 && syscall(SYS_pread64, fd, saved, kept, offset) != (long)kept) {
        /* Written through a write-only descriptor: read it by name. */
        int reader = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
        if (reader < 0 || syscall(SYS_pread64, reader, saved, kept, offset) != (long)kept) {
            abort();
        }
        (void)syscall(SYS_close, reader);
    }
    struct entry entry = {.kind = ENTRY_WRITE,
                          .path_bytes = (uint32_t)strlen(path) + 1,
                          .saved_bytes = (uint32_t)kept,
                          .offset = offset,
                          .old_size = size};
    note(&entry, path, NULL, saved);
    free(saved);
}

static void note_sync(int fd) {
    char path[PATH_MAX];
    struct stat facts;
    if (root == NULL || !path_of(fd, path) || fstat(fd, &facts) != 0) {
        return;
    }
    struct entry entry = {.kind = S_ISDIR(facts.st_mode) ? ENTRY_SYNC_DIR : ENTRY_SYNC,
                          .path_bytes = (uint32_t)strlen(path) + 1};
    note(&entry, path, NULL, NULL);
}

#define LOCKED(statement)                                                                          \
    do {                                                                                           \
        (void)pthread_mutex_lock(&lock);                                                           \
        open_journal();                                                                            \
        statement;                                                                                 \
        (void)pthread_mutex_unlock(&lock);                                                         \
    } while (0)

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) {
    LOCKED(note_write(fd, (uint64_t)offset, bytes));
    return (ssize_t)syscall(SYS_pwrite64, fd, data, bytes, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset) {
    return pwrite(fd, data, bytes, offset);
}

ssize_t write(int fd, const void *data, size_t bytes) {
    off_t offset = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    if (offset >= 0) {
        int flags = (int)syscall(SYS_fcntl, fd, F_GETFL, 0);
        struct stat facts;
        if (flags >= 0 && (flags & O_APPEND) != 0 && fstat(fd, &facts) == 0) {
            offset = facts.st_size;
        }
        LOCKED(note_write(fd, (uint64_t)offset, bytes));
    }
    return (ssize_t)syscall(SYS_write, fd, data, bytes);
}

int ftruncate(int fd, off_t size) {
    struct stat facts;
    if (fstat(fd, &facts) == 0) {
        uint64_t from = (uint64_t)(size < facts.st_size ? size : facts.st_size);
        LOCKED(note_write(fd, from, (size_t)((uint64_t)facts.st_size - from)));
    }
    return (int)syscall(SYS_ftruncate, fd, size);
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

static int is_failing(void) {
    const char *path = getenv("LOSE_UNSYNCED_FAIL");
    return path != NULL && access(path, F_OK) == 0;
}

static int sync_fd(int fd, long number) {
    int skip = 0;
    if (is_failing()) {
        errno = EIO;
        return -1;
    }
    LOCKED(skip = root != NULL && ignore_sync);
    if (skip) {
        return 0;
    }
    int result = (int)syscall(number, fd);
    if (result == 0) {
        LOCKED(note_sync(fd));
    }
    return result;
}
int fdatasync(int fd) { return sync_fd(fd, SYS_fdatasync); }
int fsync(int fd) { return sync_fd(fd, SYS_fsync); }

static int open_noted(int dir, const char *path, int flags, mode_t mode) {
    struct stat facts;
    int is_new = (flags & O_CREAT) != 0 && fstatat(dir, path, &facts, 0) != 0;
    if ((flags & O_TRUNC) != 0 && !is_new) {
        int file = (int)syscall(SYS_openat, dir, path, O_RDWR | O_CLOEXEC, 0);
        if (file >= 0) {
            (void)ftruncate(file, 0);
            (void)syscall(SYS_close, file);
        }
    }
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    char real[PATH_MAX];
    if (fd >= 0 && is_new) {
        struct entry entry = {.kind = ENTRY_CREATE};
        LOCKED(if (root != NULL && path_of(fd, real)) {
            entry.path_bytes = (uint32_t)strlen(real) + 1;
            note(&entry, real, NULL, NULL);
        });
    }
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    return open_noted(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    return open_noted(AT_FDCWD, path, flags, mode);
}

int rename(const char *from, const char *to) {
    struct stat facts;
    int was_there = stat(to, &facts) == 0;
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (result == 0 && !was_there) {
        struct entry entry = {.kind = ENTRY_RENAME,
                              .path_bytes = (uint32_t)strlen(to) + 1,
                              .other_bytes = (uint32_t)strlen(from) + 1};
        LOCKED(if (root != NULL && is_ours(to)) { note(&entry, to, from, NULL); });
    }
    return result;
}

#else

/* lose_unsynced_apply JOURNAL…: undo what each journal says was not synced. */

struct step {
    struct entry entry;
    char *path;
    char *other;
    uint8_t *saved;
    int safe;
};

static void parent_of(const char *path, char *out) {
    (void)snprintf(out, PATH_MAX, "%s", path);
    char *slash = strrchr(out, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
}

/* A sync makes earlier changes of that file safe; a directory's, what was made or renamed in it. A
 * rename carries a file's earlier changes to its new name, so they are compared by either. */
static void mark_safe(struct step *steps, size_t count, const struct step *sync) {
    char parent[PATH_MAX];
    for (size_t i = 0; i < count; i++) {
        if (sync->entry.kind == ENTRY_SYNC && steps[i].entry.kind == ENTRY_WRITE &&
            strcmp(steps[i].path, sync->path) == 0) {
            steps[i].safe = 1;
        }
        if (sync->entry.kind == ENTRY_SYNC_DIR &&
            (steps[i].entry.kind == ENTRY_CREATE || steps[i].entry.kind == ENTRY_RENAME)) {
            parent_of(steps[i].path, parent);
            steps[i].safe = steps[i].safe || strcmp(parent, sync->path) == 0;
        }
    }
}

static unsigned long undo(const struct step *step) {
    if (step->entry.kind == ENTRY_CREATE) {
        return unlink(step->path) == 0;
    }
    if (step->entry.kind == ENTRY_RENAME) {
        return rename(step->path, step->other) == 0;
    }
    int file = open(step->path, O_RDWR | O_CLOEXEC);
    if (file < 0) {
        return 0;
    }
    if (step->entry.saved_bytes != 0 &&
        pwrite(file, step->saved, step->entry.saved_bytes, (off_t)step->entry.offset) < 0) {
        perror(step->path);
    }
    if (ftruncate(file, (off_t)step->entry.old_size) != 0) {
        perror(step->path);
    }
    (void)close(file);
    return 1;
}

static int read_step(FILE *file, struct step *step) {
    memset(step, 0, sizeof *step);
    if (fread(&step->entry, sizeof step->entry, 1, file) != 1) {
        return 0;
    }
    step->path = calloc(1, step->entry.path_bytes + 1);
    step->other = calloc(1, step->entry.other_bytes + 1);
    step->saved = malloc(step->entry.saved_bytes + 1);
    return fread(step->path, 1, step->entry.path_bytes, file) == step->entry.path_bytes &&
           fread(step->other, 1, step->entry.other_bytes, file) == step->entry.other_bytes &&
           fread(step->saved, 1, step->entry.saved_bytes, file) == step->entry.saved_bytes;
}

static void rename_earlier(struct step *steps, size_t count, const struct step *moved) {
    for (size_t i = 0; i < count; i++) {
        if (steps[i].entry.kind != ENTRY_RENAME && strcmp(steps[i].path, moved->other) == 0) {
            free(steps[i].path);
            steps[i].path = strdup(moved->path);
        }
    }
}

int main(int argc, char **argv) {
    unsigned long undone = 0;
    for (int a = 1; a < argc; a++) {
        FILE *file = fopen(argv[a], "rb");
        struct step *steps = NULL;
        size_t count = 0;
        struct step step;
        while (file != NULL && read_step(file, &step)) {
            if (step.entry.kind == ENTRY_SYNC || step.entry.kind == ENTRY_SYNC_DIR) {
                mark_safe(steps, count, &step);
                continue;
            }
            steps = realloc(steps, (count + 1) * sizeof *steps);
            steps[count++] = step;
        }
        for (size_t i = 0; i < count; i++) {
            if (steps[i].entry.kind == ENTRY_RENAME && steps[i].safe) {
                rename_earlier(steps, i, &steps[i]); /* they lie under the new name now */
            }
        }
        for (size_t i = count; i-- > 0;) {
            undone += steps[i].safe ? 0 : undo(&steps[i]);
        }
        if (file != NULL) {
            (void)fclose(file);
        }
    }
    (void)printf("undone=%lu\n", undone);
    return 0;
}

#endif
