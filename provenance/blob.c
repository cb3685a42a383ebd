/* Blob segments: where each object lies, and reading one. Declared in provenance/segment.h. */
#include "base/hash.h"
#include "provenance/segment_format.h"

struct blob_place {
    struct dbos_object_id id;
    uint64_t offset;   /* of the header; the table's slot is empty where `file` is 0 */
    uint64_t position; /* first position of the batch that it was written for */
    uint32_t file;
    uint32_t reserved;
};

struct dbos_blob_index {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    char data_dir[DBOS_DATA_DIR_BYTES_MAX + 1];
    struct blob_place *places; /* open addressing, a power of two */
    size_t capacity;
    size_t count;
    uint32_t end_file; /* where the next object will be found or written */
    uint64_t end_offset;
    int file; /* the one read last; -1 = none */
    uint32_t file_number;
};

static size_t home(const struct dbos_blob_index *index, const struct dbos_object_id *id) {
    return (size_t)dbos_mix64(id->hash.low ^ id->size_bytes) & (index->capacity - 1);
}

static bool same_id(const struct dbos_object_id *a, const struct dbos_object_id *b) {
    return a->hash.low == b->hash.low && a->hash.high == b->hash.high &&
           a->size_bytes == b->size_bytes;
}

/* The place of this identity, or the empty slot where it belongs. */
static struct blob_place *slot_of(const struct dbos_blob_index *index,
                                  const struct dbos_object_id *id) {
    size_t at = home(index, id);
    while (index->places[at].file != 0 && !same_id(&index->places[at].id, id)) {
        at = (at + 1) & (index->capacity - 1);
    }
    return &index->places[at];
}

static enum dbos_err grow(struct dbos_blob_index *index) {
    struct dbos_blob_index larger = *index;
    larger.capacity = index->capacity == 0 ? 256 : index->capacity * 2;
    larger.places = dbos_take_zero(index->alloc, larger.capacity * sizeof *larger.places);
    if (larger.places == NULL) {
        return DBOS_ERR_NOMEM;
    }
    for (size_t i = 0; i < index->capacity; i++) {
        if (index->places[i].file != 0) {
            *slot_of(&larger, &index->places[i].id) = index->places[i];
        }
    }
    dbos_give(index->alloc, index->places);
    index->places = larger.places;
    index->capacity = larger.capacity;
    return DBOS_OK;
}

enum dbos_err dbos_blob_index_add(struct dbos_blob_index *index, const struct dbos_object_id *id,
                                  uint32_t file, uint64_t offset, uint64_t position) {
    if (index->count * 4 >= index->capacity * 3 && grow(index) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    struct blob_place *place = slot_of(index, id);
    if (place->file == 0) {
        *place =
            (struct blob_place){.id = *id, .file = file, .offset = offset, .position = position};
        index->count++;
    }
    return DBOS_OK;
}

bool dbos_blob_index_has(const struct dbos_blob_index *index, const struct dbos_object_id *id) {
    return index->count != 0 && slot_of(index, id)->file != 0;
}

void dbos_blob_index_end(const struct dbos_blob_index *index, uint32_t *out_file,
                         uint64_t *out_offset) {
    *out_file = index->end_file;
    *out_offset = index->end_offset;
}

void dbos_blob_index_set_end(struct dbos_blob_index *index, uint32_t file, uint64_t offset) {
    index->end_file = file;
    index->end_offset = offset;
}

bool dbos_blob_index_first_after(const struct dbos_blob_index *index, uint64_t position,
                                 uint32_t *out_file, uint64_t *out_offset) {
    bool found = false;
    for (size_t i = 0; i < index->capacity; i++) {
        const struct blob_place *place = &index->places[i];
        if (place->file == 0 || place->position <= position) {
            continue;
        }
        if (!found || place->file < *out_file ||
            (place->file == *out_file && place->offset < *out_offset)) {
            *out_file = place->file;
            *out_offset = place->offset;
            found = true;
        }
    }
    return found;
}

/* --- files ----------------------------------------------------------------------------------- */

struct highest_number {
    uint32_t number;
};

static void note_number(void *arg, const char *name) {
    struct highest_number *highest = arg;
    uint32_t number = 0;
    for (int i = 0; i < 8; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return;
        }
        number = number * 10 + (uint32_t)(name[i] - '0');
    }
    if (strcmp(name + 8, ".blob") == 0 && number > highest->number) {
        highest->number = number;
    }
}

static enum dbos_err highest_file(struct dbos_blob_index *index, uint32_t *out,
                                  struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    struct highest_number highest = {0};
    dbos_log_path(path, index->data_dir, "blobs");
    enum dbos_err err = index->env->ops->dir_list(index->env, path, note_number, &highest, info);
    *out = highest.number;
    return err;
}

static enum dbos_err use_file(struct dbos_blob_index *index, uint32_t number,
                              struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    if (index->file >= 0 && index->file_number == number) {
        return DBOS_OK;
    }
    if (index->file >= 0) {
        index->env->ops->file_close(index->env, index->file);
        index->file = -1;
    }
    dbos_blob_path(path, index->data_dir, number);
    enum dbos_err err =
        index->env->ops->file_open(index->env, path, DBOS_OPEN_READ, &index->file, info);
    index->file = err == DBOS_OK ? index->file : -1;
    index->file_number = number;
    return err;
}

/* The header at the end of what is known. *whole: there is one, with all of its bytes. */
static enum dbos_err read_header(struct dbos_blob_index *index, uint64_t file_bytes,
                                 struct dbos_stored_blob *blob, bool *whole,
                                 struct dbos_errinfo *info) {
    size_t got = 0;
    bool too_new = false;
    *whole = false;
    if (index->end_offset + sizeof *blob > file_bytes) {
        return DBOS_OK;
    }
    enum dbos_err err = index->env->ops->file_read(index->env, index->file, index->end_offset, blob,
                                                   sizeof *blob, &got, info);
    if (err != DBOS_OK || got != sizeof *blob) {
        return err;
    }
    bool valid = dbos_blob_check(blob, &too_new);
    if (too_new) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION,
                         "a blob has format version %u, this program knows %d", blob->version,
                         DBOS_LOG_FORMAT_VERSION);
    }
    *whole = valid && index->end_offset + dbos_blob_file_bytes(blob->id.size_bytes) <= file_bytes;
    return DBOS_OK;
}

/* Note the objects of the current file from end_offset on. */
static enum dbos_err scan_file(struct dbos_blob_index *index, struct dbos_errinfo *info) {
    uint64_t file_bytes = 0;
    enum dbos_err err = use_file(index, index->end_file, info);
    if (err == DBOS_OK) {
        err = index->env->ops->file_size(index->env, index->file, &file_bytes, info);
    }
    while (err == DBOS_OK) {
        struct dbos_stored_blob blob;
        bool whole = false;
        err = read_header(index, file_bytes, &blob, &whole, info);
        if (err != DBOS_OK || !whole) {
            break;
        }
        err =
            dbos_blob_index_add(index, &blob.id, index->end_file, index->end_offset, blob.position);
        if (err != DBOS_OK) {
            return dbos_fail(info, err, "out of memory for the index of large values");
        }
        index->end_offset += dbos_blob_file_bytes(blob.id.size_bytes);
    }
    return err;
}

/* A file that another one follows has been finished: all of it must have been read. */
static enum dbos_err check_finished(struct dbos_blob_index *index, struct dbos_errinfo *info) {
    uint64_t file_bytes = 0;
    enum dbos_err err = index->env->ops->file_size(index->env, index->file, &file_bytes, info);
    if (err == DBOS_OK && index->end_offset != file_bytes) {
        char path[DBOS_PATH_BYTES];
        dbos_blob_path(path, index->data_dir, index->end_file);
        err = dbos_fail(info, DBOS_ERR_CORRUPT, "blob file %s is damaged at offset %llu", path,
                        (unsigned long long)index->end_offset);
    }
    return err;
}

enum dbos_err dbos_blob_index_refresh(struct dbos_blob_index *index, struct dbos_errinfo *info) {
    uint32_t highest = 0;
    enum dbos_err err = highest_file(index, &highest, info);
    while (err == DBOS_OK && index->end_file <= highest) {
        err = scan_file(index, info);
        if (err != DBOS_OK || index->end_file == highest) {
            break;
        }
        err = check_finished(index, info);
        if (err == DBOS_OK) {
            dbos_blob_index_set_end(index, index->end_file + 1, 0);
        }
    }
    return err;
}

enum dbos_err dbos_blob_index_open(struct dbos_alloc *alloc, struct dbos_env *env,
                                   const char *data_dir, struct dbos_blob_index **out,
                                   struct dbos_errinfo *info) {
    *out = NULL;
    if (strlen(data_dir) > DBOS_DATA_DIR_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                         "path of the data directory is longer "
                         "than %d bytes",
                         DBOS_DATA_DIR_BYTES_MAX);
    }
    struct dbos_blob_index *index = dbos_take_zero(alloc, sizeof *index);
    if (index == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the index of large values");
    }
    index->alloc = alloc;
    index->env = env;
    index->file = -1;
    index->end_file = 1;
    memcpy(index->data_dir, data_dir, strlen(data_dir) + 1);
    enum dbos_err err = dbos_blob_index_refresh(index, info);
    if (err != DBOS_OK) {
        dbos_blob_index_close(index);
        return err;
    }
    *out = index;
    return DBOS_OK;
}

void dbos_blob_index_close(struct dbos_blob_index *index) {
    if (index != NULL) {
        if (index->file >= 0) {
            index->env->ops->file_close(index->env, index->file);
        }
        dbos_give(index->alloc, index->places);
        dbos_give(index->alloc, index);
    }
}

enum dbos_err dbos_blob_read(struct dbos_blob_index *index, const struct dbos_object_id *id,
                             uint8_t *to, struct dbos_errinfo *info) {
    struct dbos_stored_blob blob;
    bool too_new = false;
    size_t got = 0;
    if (!dbos_blob_index_has(index, id)) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_OBJECT,
                         "large value %016llx%016llx is not in the blob files",
                         (unsigned long long)id->hash.high, (unsigned long long)id->hash.low);
    }
    const struct blob_place *place = slot_of(index, id);
    const struct dbos_env_ops *ops = index->env->ops;
    enum dbos_err err = use_file(index, place->file, info);
    if (err == DBOS_OK) {
        err =
            ops->file_read(index->env, index->file, place->offset, &blob, sizeof blob, &got, info);
    }
    bool valid = err == DBOS_OK && got == sizeof blob && dbos_blob_check(&blob, &too_new) &&
                 same_id(&blob.id, id);
    if (valid) {
        err = ops->file_read(index->env, index->file, place->offset + sizeof blob, to,
                             id->size_bytes, &got, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    if (!valid || got != id->size_bytes || dbos_crc32c(0, to, id->size_bytes) != blob.data_crc) {
        char path[DBOS_PATH_BYTES];
        dbos_blob_path(path, index->data_dir, place->file);
        return dbos_fail(info, DBOS_ERR_CORRUPT, "a large value in %s at offset %llu is damaged",
                         path, (unsigned long long)place->offset);
    }
    return DBOS_OK;
}

/* --- verification ---------------------------------------------------------------------------- */

/* Values one behind the other, read as they lie. */
struct blob_walk {
    struct dbos_blob_index *index;
    uint64_t object_seed;
    uint64_t file_bytes;
    struct dbos_stored_blob blob; /* the header that was read */
    uint8_t *value;
    size_t capacity;
};

static enum dbos_err enter_file(struct blob_walk *walk, uint32_t number,
                                struct dbos_errinfo *info) {
    struct dbos_blob_index *index = walk->index;
    enum dbos_err err = use_file(index, number, info);
    return err == DBOS_OK
               ? index->env->ops->file_size(index->env, index->file, &walk->file_bytes, info)
               : err;
}

/* The header at `offset`; *fits: it is one, and its value ends within the file. */
static enum dbos_err walk_header(struct blob_walk *walk, uint64_t offset, bool *fits,
                                 struct dbos_errinfo *info) {
    struct dbos_blob_index *index = walk->index;
    bool too_new = false;
    size_t got = 0;
    enum dbos_err err = index->env->ops->file_read(index->env, index->file, offset, &walk->blob,
                                                   sizeof walk->blob, &got, info);
    *fits = err == DBOS_OK && got == sizeof walk->blob && dbos_blob_check(&walk->blob, &too_new) &&
            offset + dbos_blob_file_bytes(walk->blob.id.size_bytes) <= walk->file_bytes;
    return err;
}

/* The value behind the header; *whole: its checksum and its identity are right. */
static enum dbos_err walk_value(struct blob_walk *walk, uint64_t offset, bool *whole,
                                struct dbos_errinfo *info) {
    struct dbos_blob_index *index = walk->index;
    const struct dbos_object_id *id = &walk->blob.id;
    size_t got = 0;
    *whole = false;
    if (id->size_bytes > walk->capacity) {
        uint8_t *value = dbos_retake(index->alloc, walk->value, id->size_bytes);
        if (value == NULL) {
            return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a large value");
        }
        walk->value = value;
        walk->capacity = id->size_bytes;
    }
    enum dbos_err err =
        index->env->ops->file_read(index->env, index->file, offset + sizeof walk->blob, walk->value,
                                   id->size_bytes, &got, info);
    if (err == DBOS_OK && got == id->size_bytes &&
        dbos_crc32c(0, walk->value, got) == walk->blob.data_crc) {
        struct dbos_hash128 hash = dbos_hash128(walk->object_seed, walk->value, got);
        *whole = hash.high == id->hash.high && hash.low == id->hash.low;
    }
    return err;
}

static enum dbos_err damaged_blob(const struct dbos_blob_index *index, uint32_t number,
                                  uint64_t offset, struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    dbos_blob_path(path, index->data_dir, number);
    return dbos_fail(info, DBOS_ERR_CORRUPT, "a large value in %s at offset %llu is damaged", path,
                     (unsigned long long)offset);
}

/* A header lies in one sector, which is written whole, and start-up cuts the file where its values
 * end: what stands there is nothing, or a header, or was one. */
static enum dbos_err check_header_at_end(struct dbos_blob_index *index, struct dbos_errinfo *info) {
    static const struct dbos_stored_blob nothing;
    struct dbos_stored_blob blob;
    bool too_new = false;
    size_t got = 0;
    enum dbos_err err = index->env->ops->file_read(index->env, index->file, index->end_offset,
                                                   &blob, sizeof blob, &got, info);
    bool is_header = err == DBOS_OK && got == sizeof blob;
    if (is_header && memcmp(&blob, &nothing, sizeof blob) != 0 &&
        !dbos_blob_check(&blob, &too_new)) {
        return damaged_blob(index, index->end_file, index->end_offset, info);
    }
    return err;
}

enum dbos_err dbos_blob_index_check_end(struct dbos_blob_index *index, uint64_t position,
                                        uint64_t object_seed, struct dbos_errinfo *info) {
    uint32_t highest = 0;
    struct blob_walk walk = {.index = index, .object_seed = object_seed};
    enum dbos_err err = highest_file(index, &highest, info);
    if (err != DBOS_OK || index->end_file > highest) {
        return err;
    }
    err = enter_file(&walk, index->end_file, info);
    if (err == DBOS_OK) {
        err = check_header_at_end(index, info);
    }
    for (uint64_t at = index->end_offset; err == DBOS_OK && at < walk.file_bytes;
         at += DBOS_SECTOR_BYTES) {
        bool found = false;
        err = walk_header(&walk, at, &found, info);
        if (err == DBOS_OK && found && walk.blob.position <= position) {
            err = walk_value(&walk, at, &found, info);
            if (err == DBOS_OK && found) {
                err = damaged_blob(index, index->end_file, index->end_offset, info);
            }
        }
    }
    dbos_give(index->alloc, walk.value);
    return err;
}

/* One file, to `end`: what was found at open, value by value. */
static enum dbos_err verify_file(struct blob_walk *walk, uint32_t number, uint64_t end,
                                 uint64_t position, struct dbos_blob_facts *facts,
                                 struct dbos_errinfo *info) {
    uint64_t at = 0;
    enum dbos_err err = DBOS_OK;
    while (err == DBOS_OK && at < end) {
        bool whole = false;
        err = walk_header(walk, at, &whole, info);
        if (err == DBOS_OK && whole && walk->blob.position > position) {
            break; /* and all behind it: positions only grow */
        }
        if (err == DBOS_OK && whole) {
            err = walk_value(walk, at, &whole, info);
        }
        if (err == DBOS_OK && !whole) {
            err = damaged_blob(walk->index, number, at, info);
        }
        if (err == DBOS_OK) {
            facts->values++;
            facts->bytes += walk->blob.id.size_bytes;
            at += dbos_blob_file_bytes(walk->blob.id.size_bytes);
        }
    }
    facts->torn_bytes += walk->file_bytes - at;
    return err;
}

enum dbos_err dbos_blob_index_verify(struct dbos_blob_index *index, uint64_t position,
                                     uint64_t object_seed, struct dbos_blob_facts *out,
                                     struct dbos_errinfo *info) {
    uint32_t highest = 0;
    struct blob_walk walk = {.index = index, .object_seed = object_seed};
    *out = (struct dbos_blob_facts){0};
    enum dbos_err err = highest_file(index, &highest, info);
    for (uint32_t number = 1; err == DBOS_OK && number <= highest; number++) {
        err = enter_file(&walk, number, info);
        if (err == DBOS_OK) {
            uint64_t end = number == index->end_file ? index->end_offset : walk.file_bytes;
            err = verify_file(&walk, number, end, position, out, info);
        }
    }
    dbos_give(index->alloc, walk.value);
    return err == DBOS_OK ? dbos_blob_index_check_end(index, position, object_seed, info) : err;
}
