#include "tests/sim/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum { SECTOR = 512, FILES_MAX = 4096, OPEN_MAX = 1024, PATH_BYTES = 128 };

const char *const sim_fault_names[SIM_FAULTS] = {
    [SIM_TORN_WRITE] = "torn write",
    [SIM_LOST_WRITE] = "lost write",
    [SIM_LOST_NAME] = "lost name",
    [SIM_WRITE_FAILS] = "write fails",
    [SIM_SYNC_FAILS] = "sync fails",
    [SIM_READ_FAILS] = "read fails",
    [SIM_DISK_FULL] = "disk full",
    [SIM_NO_MEMORY] = "allocation fails",
    [SIM_SLOW] = "slow operation",
    [SIM_BIT_FLIP] = "bit flip",
    [SIM_CRASH_AT_OPERATION] = "crash at an operation",
    [SIM_CRASH_AT_SWITCH] = "crash at a switch",
};

/* A sector as it was before a write that is not synced. */
struct old_sector {
    struct old_sector *older;
    uint64_t write; /* which write: its sectors share a fate or not */
    uint64_t offset;
    uint8_t bytes[SECTOR];
};

struct content {
    uint8_t *bytes;
    uint64_t size;
    uint64_t capacity;
    uint64_t synced_size;
    struct old_sector *newest; /* of those that the next sync makes last */
    struct old_sector *stale;  /* of those that a failed sync has left */
};

/* A name of a file (or of a directory: content NULL), now and when its directory was synced. */
struct name {
    char path[PATH_BYTES];
    struct content *now; /* NULL: there is none */
    bool is_directory;
    bool is_directory_synced;
};

/* A change of a name that its directory's next sync makes last. */
struct name_change {
    struct name_change *older;
    struct name *name;
    struct content *before;
    bool was_directory;
};

static struct {
    struct name names[FILES_MAX];
    uint32_t name_count;
    struct name_change *newest_change;
    struct content *open[OPEN_MAX];
    struct sim_disk_mood mood;
    uint64_t operations;
    uint64_t crash_at;
    uint64_t syncs_left; /* … until it goes down in front of one; 0 = it does not */
    uint64_t writes;
    uint64_t bytes;
    uint64_t fired[SIM_FAULTS];
} disk;

uint64_t sim_disk_operations(void) { return disk.operations; }
uint64_t sim_disk_bytes(void) { return disk.bytes; }
const uint64_t *sim_disk_fired(void) { return disk.fired; }
void sim_note_fault(enum sim_fault fault) { disk.fired[fault]++; }

uint64_t sim_disk_hash(void) {
    uint64_t hash = 0;
    for (uint32_t i = 0; i < disk.name_count; i++) {
        const struct name *name = &disk.names[i];
        const struct content *content = name->now;
        hash = dbos_mix64(hash + (content == NULL ? 1 : content->size) * 2 + name->is_directory);
        hash += content == NULL ? 0 : dbos_crc32c(0, content->bytes, content->size);
    }
    return hash;
}

uint32_t sim_disk_open_files(void) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < OPEN_MAX; i++) {
        count += disk.open[i] != NULL;
    }
    return count;
}

uint32_t sim_disk_count(const char *part) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < disk.name_count; i++) {
        count += disk.names[i].now != NULL && strstr(disk.names[i].path, part) != NULL;
    }
    return count;
}

void sim_disk_set(const struct sim_disk_mood *mood) {
    disk.mood = *mood;
    disk.crash_at = mood->crash_at == 0 ? 0 : disk.operations + mood->crash_at;
    disk.syncs_left = mood->crash_at_sync;
}

void sim_disk_set_room(uint64_t room_bytes) { disk.mood.room_bytes = room_bytes; }

/* --- each operation -------------------------------------------------------------------------- */

static void go_down(void) {
    disk.fired[SIM_CRASH_AT_OPERATION]++;
    sim_crash();
}

/* Somebody else may go on, it may take its time, and it may be the last one. */
static void operate(uint64_t what) {
    sim_trace(what);
    if (sim_dice(1000) < disk.mood.slow_per_mille) {
        disk.fired[SIM_SLOW]++;
        sim_sleep(1000000 + sim_dice(100000000));
    } else {
        sim_point();
    }
    disk.operations++;
    if (disk.crash_at != 0 && disk.operations >= disk.crash_at) {
        go_down();
    }
}

static bool fails(enum sim_fault fault) {
    bool does = sim_dice(1000000) < disk.mood.fail_per_million;
    disk.fired[fault] += does;
    return does;
}

static enum dbos_err failed(struct dbos_errinfo *info, const char *operation) {
    return dbos_fail(info, DBOS_ERR_IO, "%s: simulated input/output error", operation);
}

/* --- names ----------------------------------------------------------------------------------- */

static struct name *find_name(const char *path) {
    for (uint32_t i = 0; i < disk.name_count; i++) {
        if (strcmp(disk.names[i].path, path) == 0) {
            return &disk.names[i];
        }
    }
    return NULL;
}

static struct name *take_name(const char *path) {
    struct name *name = find_name(path);
    if (name == NULL) {
        DBOS_CHECK(disk.name_count < FILES_MAX && strlen(path) < PATH_BYTES);
        name = &disk.names[disk.name_count++];
        (void)snprintf(name->path, sizeof name->path, "%s", path);
    }
    return name;
}

static void change_name(struct name *name, struct content *content, bool is_directory) {
    struct name_change *change = calloc(1, sizeof *change);
    DBOS_CHECK(change != NULL);
    *change = (struct name_change){.older = disk.newest_change,
                                   .name = name,
                                   .before = name->now,
                                   .was_directory = name->is_directory};
    disk.newest_change = change;
    name->now = content;
    name->is_directory = is_directory;
}

/* Is it a name of this directory itself? */
static bool is_in(const char *path, const char *directory) {
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && path[length] == '/' &&
           strchr(path + length + 1, '/') == NULL;
}

static struct {
    struct content *content; /* NULL: none is changed */
    const char *path;
    uint64_t offset;
    uint8_t bit;
    uint64_t born;        /* the newest write then */
    uint64_t overwritten; /* the write that has put something else there; 0 = none */
} flipped;

/* Somebody has written there, or cut it off: what stands there now is what they meant. */
static void overwrite_flip(const struct content *content, uint64_t from, uint64_t to) {
    if (flipped.content == content && flipped.overwritten == 0 && flipped.offset >= from &&
        flipped.offset < to) {
        flipped.overwritten = disk.writes;
    }
}

/* … and a crash has lost what they wrote; or what was there before, which had never been synced. */
static void uncover_flip(const struct content *content, const struct old_sector *sector) {
    if (flipped.content != content || flipped.offset / SECTOR * SECTOR != sector->offset) {
        return;
    }
    if (sector->write <= flipped.born) {
        flipped.content = NULL;
    } else if (sector->write <= flipped.overwritten) {
        flipped.overwritten = 0;
    }
}

/* --- crashes --------------------------------------------------------------------------------- */

static void put_back(struct content *content, const struct old_sector *sector) {
    uncover_flip(content, sector);
    uint64_t end = sector->offset + SECTOR;
    if (end > content->size) {
        end = content->size;
    }
    if (sector->offset < end) {
        memcpy(content->bytes + sector->offset, sector->bytes, end - sector->offset);
    }
}

/* Newest first. A whole write is lost, kept, or torn. */
static void lose_list(struct content *content, struct old_sector **list) {
    uint64_t write = 0;
    uint32_t fate = 0;
    bool was_kept = false;
    bool was_lost = false;
    while (*list != NULL) {
        struct old_sector *sector = *list;
        if (sector->write != write) {
            write = sector->write;
            fate = (uint32_t)sim_dice(3);
            was_kept = false;
            was_lost = false;
            disk.fired[SIM_LOST_WRITE] += fate == 0;
        }
        bool is_lost = fate == 0 || (fate == 1 && sim_dice(2) == 0);
        if (is_lost) {
            put_back(content, sector);
        }
        bool was_torn = was_kept && was_lost;
        was_kept |= !is_lost;
        was_lost |= is_lost;
        disk.fired[SIM_TORN_WRITE] += was_kept && was_lost && !was_torn;
        *list = sector->older;
        free(sector);
    }
}

static void lose_sectors(struct content *content) {
    lose_list(content, &content->newest);
    lose_list(content, &content->stale);
    if (content->size > content->synced_size && sim_dice(2) == 0) {
        uint64_t grown = content->size - content->synced_size;
        content->size = content->synced_size + sim_dice(grown);
    }
    content->synced_size = content->size;
}

static void keep_sectors(struct content *content) {
    while (content->newest != NULL) {
        struct old_sector *sector = content->newest;
        content->newest = sector->older;
        free(sector);
    }
    content->synced_size = content->size;
}

/* A sync that failed: the machine takes its pages for clean. They are read as they are, no later
 * sync writes them, and the next time that the machine goes down some of them are gone. */
static void forget_sectors(struct content *content) {
    struct old_sector **end = &content->newest;
    while (*end != NULL) {
        end = &(*end)->older;
    }
    *end = content->stale;
    content->stale = content->newest;
    content->newest = NULL;
}

/* What the disk has of a sector that is written again: the page is dirty once more. */
static void take_stale(struct content *content, struct old_sector *now) {
    struct old_sector **link = &content->stale;
    while (*link != NULL) {
        struct old_sector *sector = *link;
        if (sector->offset == now->offset) {
            memcpy(now->bytes, sector->bytes, SECTOR); /* the oldest is the last that is met */
            *link = sector->older;
            free(sector);
        } else {
            link = &sector->older;
        }
    }
}

/* The changes of names since some moment, newest first; as a journal does. */
static void lose_names(void) {
    uint32_t count = 0;
    for (struct name_change *change = disk.newest_change; change != NULL; change = change->older) {
        count++;
    }
    uint64_t lost = sim_dice(count + 1);
    while (disk.newest_change != NULL) {
        struct name_change *change = disk.newest_change;
        if (lost > 0) {
            change->name->now = change->before;
            change->name->is_directory = change->was_directory;
            disk.fired[SIM_LOST_NAME]++;
            lost--;
        }
        disk.newest_change = change->older;
        free(change);
    }
}

static bool has_directory(const struct name *name) {
    for (uint32_t i = 0; i < disk.name_count; i++) {
        if (is_in(name->path, disk.names[i].path)) {
            return disk.names[i].is_directory;
        }
    }
    return true; /* the root */
}

/* With a directory goes what is in it. */
static void lose_orphans(void) {
    bool found = true;
    while (found) {
        found = false;
        for (uint32_t i = 0; i < disk.name_count; i++) {
            struct name *name = &disk.names[i];
            if ((name->now != NULL || name->is_directory) && !has_directory(name)) {
                name->now = NULL;
                name->is_directory = false;
                found = true;
            }
        }
    }
}

static void sum_bytes(void) {
    disk.bytes = 0;
    for (uint32_t i = 0; i < disk.name_count; i++) {
        disk.bytes += disk.names[i].now == NULL ? 0 : disk.names[i].now->size;
    }
}

void sim_disk_crash(bool lose_unsynced) {
    if (lose_unsynced) {
        lose_names();
        lose_orphans();
    }
    for (uint32_t i = 0; lose_unsynced && i < disk.name_count; i++) {
        if (disk.names[i].now != NULL) {
            lose_sectors(disk.names[i].now);
        }
    }
    memset(disk.open, 0, sizeof disk.open);
    sum_bytes();
}

/* --- damage ---------------------------------------------------------------------------------- */

/* A part of a snapshot counts with its manifest, which is made last and removed first. */
static bool has_manifest(const struct name *part) {
    char path[PATH_BYTES];
    const char *dash = strrchr(part->path, '-');
    int length = dash == NULL ? 0 : (int)(dash - part->path);
    (void)snprintf(path, sizeof path, "%.*s.manifest", length, part->path);
    const struct name *manifest = find_name(path);
    return manifest != NULL && manifest->now != NULL;
}

/* Nothing stands in a sector of zeroes, nor in the zeroes behind a large value. */
static bool is_live(const struct name *name, uint64_t offset) {
    if (strstr(name->path, ".part") != NULL && !has_manifest(name)) {
        return false;
    }
    const struct content *content = name->now;
    if (strstr(name->path, ".blob") != NULL && content->bytes[offset] == 0) {
        return false;
    }
    uint64_t first = offset / SECTOR * SECTOR;
    for (uint64_t at = first; at < content->size && at < first + SECTOR; at++) {
        if (content->bytes[at] != 0) {
            return true;
        }
    }
    return false;
}

void sim_disk_flip(void) {
    for (uint32_t tries = 0; tries < 1000; tries++) {
        const struct name *name = &disk.names[sim_dice(disk.name_count)];
        struct content *content = name->now;
        if (content == NULL || content->size == 0) {
            continue;
        }
        uint64_t offset = sim_dice(content->size);
        if (is_live(name, offset)) {
            flipped.content = content;
            flipped.path = name->path;
            flipped.offset = offset;
            flipped.born = disk.writes;
            flipped.overwritten = 0;
            flipped.bit = (uint8_t)(1U << sim_dice(8));
            content->bytes[offset] ^= flipped.bit;
            disk.fired[SIM_BIT_FLIP]++;
            return;
        }
    }
}

const char *sim_disk_flipped(uint64_t *out_offset) {
    *out_offset = flipped.offset;
    return flipped.content == NULL ? NULL : flipped.path;
}

void sim_disk_flip_back(void) {
    struct content *content = flipped.content;
    if (content != NULL && flipped.overwritten == 0 && flipped.offset < content->size) {
        content->bytes[flipped.offset] ^= flipped.bit;
    }
    flipped.content = NULL;
}

/* --- files ----------------------------------------------------------------------------------- */

static enum dbos_err file_open(struct dbos_env *env, const char *path, enum dbos_open_mode mode,
                               int *out, struct dbos_errinfo *info) {
    (void)env;
    *out = -1;
    operate('o');
    struct name *name = find_name(path);
    bool is_there = name != NULL && name->now != NULL;
    if (!is_there && (mode == DBOS_OPEN_READ || mode == DBOS_OPEN_WRITE)) {
        return dbos_fail(info, DBOS_ERR_IO, "open %s: no such file", path);
    }
    if (is_there && mode == DBOS_OPEN_CREATE_NEW) {
        return dbos_fail(info, DBOS_ERR_IO, "open %s: it is there", path);
    }
    if (!is_there) {
        struct content *content = calloc(1, sizeof *content);
        DBOS_CHECK(content != NULL);
        name = take_name(path);
        change_name(name, content, false);
    }
    int file = 0;
    while (disk.open[file] != NULL) {
        file++;
        DBOS_CHECK(file < OPEN_MAX);
    }
    disk.open[file] = name->now;
    *out = file;
    return DBOS_OK;
}

static void file_close(struct dbos_env *env, int file) {
    (void)env;
    DBOS_CHECK(disk.open[file] != NULL);
    disk.open[file] = NULL;
}

static enum dbos_err file_read(struct dbos_env *env, int file, uint64_t offset, void *data,
                               size_t size_bytes, size_t *out_bytes, struct dbos_errinfo *info) {
    (void)env;
    *out_bytes = 0;
    operate('r');
    const struct content *content = disk.open[file];
    if (fails(SIM_READ_FAILS)) {
        return failed(info, "read");
    }
    if (offset < content->size) {
        uint64_t left = content->size - offset;
        *out_bytes = left < size_bytes ? (size_t)left : size_bytes;
        memcpy(data, content->bytes + offset, *out_bytes);
    }
    return DBOS_OK;
}

static void grow(struct content *content, uint64_t size) {
    if (size > content->capacity) {
        uint64_t capacity = size * 3 / 2 + 65536;
        content->bytes = realloc(content->bytes, capacity);
        DBOS_CHECK(content->bytes != NULL);
        content->capacity = capacity;
    }
    if (size > content->size) {
        memset(content->bytes + content->size, 0, size - content->size);
        disk.bytes += size - content->size;
        content->size = size;
    }
}

static void keep_old(struct content *content, uint64_t offset, uint64_t end) {
    disk.writes++;
    for (uint64_t at = offset / SECTOR * SECTOR; at < end; at += SECTOR) {
        struct old_sector *sector = calloc(1, sizeof *sector);
        DBOS_CHECK(sector != NULL);
        sector->older = content->newest;
        sector->write = disk.writes;
        sector->offset = at;
        uint64_t left = at < content->size ? content->size - at : 0;
        memcpy(sector->bytes, content->bytes + at, left < SECTOR ? left : SECTOR);
        take_stale(content, sector);
        content->newest = sector;
    }
}

static enum dbos_err file_write(struct dbos_env *env, int file, uint64_t offset, const void *data,
                                size_t size_bytes, struct dbos_errinfo *info) {
    (void)env;
    operate('w' + (offset << 8) + ((uint64_t)size_bytes << 40));
    struct content *content = disk.open[file];
    uint64_t end = offset + size_bytes;
    uint64_t grown = end > content->size ? end - content->size : 0;
    if (disk.mood.room_bytes != 0 && grown != 0 && disk.bytes + grown > disk.mood.room_bytes) {
        disk.fired[SIM_DISK_FULL]++;
        return dbos_fail(info, DBOS_ERR_DISK_FULL, "write: simulated full disk");
    }
    if (fails(SIM_WRITE_FAILS)) {
        return failed(info, "write");
    }
    uint64_t size = content->size;
    grow(content, end);
    content->size = size; /* the old sectors are those of the old file */
    keep_old(content, offset, end);
    content->size = end > size ? end : size;
    memcpy(content->bytes + offset, data, size_bytes);
    overwrite_flip(content, offset, end);
    return DBOS_OK;
}

static enum dbos_err file_sync(struct dbos_env *env, int file, struct dbos_errinfo *info) {
    (void)env;
    operate('s');
    if (disk.syncs_left != 0 && --disk.syncs_left == 0) {
        go_down();
    }
    if (fails(SIM_SYNC_FAILS)) {
        forget_sectors(disk.open[file]);
        return failed(info, "fsync");
    }
    keep_sectors(disk.open[file]);
    operate('S'); /* it is on the disk, and nobody knows yet */
    return DBOS_OK;
}

static enum dbos_err file_size(struct dbos_env *env, int file, uint64_t *out_bytes,
                               struct dbos_errinfo *info) {
    (void)env;
    (void)info;
    *out_bytes = disk.open[file]->size;
    return DBOS_OK;
}

static enum dbos_err file_truncate(struct dbos_env *env, int file, uint64_t size_bytes,
                                   struct dbos_errinfo *info) {
    (void)env;
    operate('t');
    struct content *content = disk.open[file];
    if (fails(SIM_WRITE_FAILS)) {
        return failed(info, "truncate");
    }
    if (size_bytes < content->size) {
        keep_old(content, size_bytes, content->size);
        overwrite_flip(content, size_bytes, content->size);
        disk.bytes -= content->size - size_bytes;
        content->size = size_bytes;
    } else {
        grow(content, size_bytes);
    }
    return DBOS_OK;
}

static enum dbos_err file_lock(struct dbos_env *env, int file, struct dbos_errinfo *info) {
    (void)env;
    (void)file;
    (void)info;
    return DBOS_OK;
}

/* --- names, as the engine asks for them ------------------------------------------------------ */

static enum dbos_err path_rename(struct dbos_env *env, const char *from, const char *to,
                                 struct dbos_errinfo *info) {
    (void)env;
    operate('n');
    struct name *source = find_name(from);
    if (source == NULL || source->now == NULL) {
        return dbos_fail(info, DBOS_ERR_IO, "rename %s: no such file", from);
    }
    if (fails(SIM_WRITE_FAILS)) {
        return failed(info, "rename");
    }
    change_name(take_name(to), source->now, false);
    change_name(find_name(from), NULL, false);
    sum_bytes();
    return DBOS_OK;
}

static enum dbos_err path_remove(struct dbos_env *env, const char *path,
                                 struct dbos_errinfo *info) {
    (void)env;
    operate('d');
    struct name *name = find_name(path);
    if (name == NULL || name->now == NULL) {
        return dbos_fail(info, DBOS_ERR_IO, "remove %s: no such file", path);
    }
    change_name(name, NULL, false);
    sum_bytes();
    return DBOS_OK;
}

static enum dbos_err dir_make(struct dbos_env *env, const char *path, struct dbos_errinfo *info) {
    (void)env;
    (void)info;
    operate('m');
    struct name *name = take_name(path);
    if (!name->is_directory) {
        change_name(name, NULL, true);
    }
    return DBOS_OK;
}

static enum dbos_err dir_sync(struct dbos_env *env, const char *path, struct dbos_errinfo *info) {
    (void)env;
    operate('D');
    if (fails(SIM_SYNC_FAILS)) {
        return failed(info, "fsync of a directory");
    }
    struct name_change **link = &disk.newest_change;
    while (*link != NULL) {
        struct name_change *change = *link;
        if (is_in(change->name->path, path)) {
            *link = change->older;
            free(change);
        } else {
            link = &change->older;
        }
    }
    return DBOS_OK;
}

static enum dbos_err dir_list(struct dbos_env *env, const char *path,
                              void (*each)(void *arg, const char *name), void *arg,
                              struct dbos_errinfo *info) {
    (void)env;
    operate('l');
    struct name *directory = find_name(path);
    if (directory == NULL || !directory->is_directory) {
        return dbos_fail(info, DBOS_ERR_IO, "list %s: no such directory", path);
    }
    for (uint32_t i = 0; i < disk.name_count; i++) {
        const struct name *name = &disk.names[i];
        if ((name->now != NULL || name->is_directory) && is_in(name->path, path)) {
            each(arg, strrchr(name->path, '/') + 1);
        }
    }
    return DBOS_OK;
}

/* --- clock, random numbers ------------------------------------------------------------------- */

static int64_t wall_us(struct dbos_env *env) {
    (void)env;
    return (int64_t)(UINT64_C(1700000000000000) + sim_now_ns() / 1000);
}

static uint64_t mono_ns(struct dbos_env *env) {
    (void)env;
    sim_point(); /* whoever looks at the clock may be interrupted there */
    return sim_now_ns();
}

static void sleep_us(struct dbos_env *env, uint64_t us) {
    (void)env;
    sim_sleep(us * 1000);
}

static uint64_t random_u64(struct dbos_env *env) {
    (void)env;
    return sim_dice(UINT64_MAX);
}

struct dbos_env *sim_disk_env(void) {
    static const struct dbos_env_ops ops = {
        .wall_us = wall_us,
        .mono_ns = mono_ns,
        .sleep_us = sleep_us,
        .random_u64 = random_u64,
        .file_open = file_open,
        .file_close = file_close,
        .file_read = file_read,
        .file_write = file_write,
        .file_sync = file_sync,
        .file_size = file_size,
        .file_truncate = file_truncate,
        .file_lock = file_lock,
        .path_rename = path_rename,
        .path_remove = path_remove,
        .dir_make = dir_make,
        .dir_sync = dir_sync,
        .dir_list = dir_list,
    };
    static struct dbos_env env = {.ops = &ops};
    return &env;
}
