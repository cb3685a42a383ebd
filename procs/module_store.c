/* Modules as rows of dbos.module_chunk (hash bytea, chunk int4, bytes bytea). */
#include <stdio.h>
#include <string.h>

#include "procs/procedure_internal.h"

enum { COLUMN_HASH, COLUMN_CHUNK, COLUMN_BYTES, COLUMNS };

/* -- hashes ---------------------------------------------------------------------------------------
 */

void dbos_hash_text(struct dbos_hash128 hash, char out[33]) {
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high,
                   (unsigned long long)hash.low);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool dbos_hash_parse(const char *text, struct dbos_hash128 *out) {
    uint64_t parts[2] = {0, 0};
    if (strlen(text) != 32) {
        return false;
    }
    for (size_t i = 0; i < 32; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0) {
            return false;
        }
        parts[i / 16] = (parts[i / 16] << 4) | (uint64_t)digit;
    }
    *out = (struct dbos_hash128){.high = parts[0], .low = parts[1]};
    return true;
}

/* As stored: high then low, little-endian. */
static void hash_bytes(struct dbos_hash128 hash, uint8_t out[16]) {
    dbos_store_u64(out, hash.high);
    dbos_store_u64(out + 8, hash.low);
}

/* -- rows -----------------------------------------------------------------------------------------
 */

/* The bytes of one chunk, borrowed from its row; false = there is none. */
static bool find_chunk(struct dbos_table *table, struct dbos_hash128 hash, uint32_t chunk,
                       struct dbos_bytes *out) {
    uint8_t key_bytes[16];
    hash_bytes(hash, key_bytes);
    struct dbos_datum key[] = {
        dbos_datum_bytes(DBOS_TYPE_BYTEA, key_bytes, sizeof key_bytes),
        dbos_datum_int(DBOS_TYPE_INT4, chunk),
    };
    const struct dbos_row *row = dbos_table_find(table, 0, key);
    if (row == NULL) {
        return false;
    }
    *out = dbos_row_column(dbos_table_def_of(table), row, COLUMN_BYTES).bytes;
    return true;
}

struct dbos_table *dbos_module_table(struct dbos_txn *txn) {
    uint32_t partition = dbos_txn_partition(txn);
    return dbos_txn_table(txn, DBOS_TABLE_MODULE_CHUNK,
                          partition == DBOS_PARTITION_ALL ? 0 : partition);
}

enum dbos_err dbos_module_store_chunk(const struct dbos_run *run, struct dbos_hash128 hash,
                                      uint32_t chunk, struct dbos_bytes bytes,
                                      struct dbos_errinfo *info) {
    struct dbos_bytes old;
    if (find_chunk(dbos_module_table(run->txn), hash, chunk, &old)) {
        bool equal = old.size_bytes == bytes.size_bytes &&
                     memcmp(old.data, bytes.data, bytes.size_bytes) == 0;
        return equal ? DBOS_OK
                     : dbos_fail(info, DBOS_ERR_MODULE,
                                 "another module with this content hash is stored already");
    }
    uint8_t key_bytes[16];
    hash_bytes(hash, key_bytes);
    struct dbos_datum datums[COLUMNS] = {
        dbos_datum_bytes(DBOS_TYPE_BYTEA, key_bytes, sizeof key_bytes),
        dbos_datum_int(DBOS_TYPE_INT4, chunk),
        dbos_datum_bytes(DBOS_TYPE_BYTEA, bytes.data, bytes.size_bytes),
    };
    struct dbos_row *row;
    return dbos_txn_insert(run->txn, DBOS_TABLE_MODULE_CHUNK, datums, &row, info);
}

/* Bytes of all chunks of a module; 0 = there is none. */
static size_t stored_bytes(struct dbos_table *table, struct dbos_hash128 hash) {
    size_t size_bytes = 0;
    struct dbos_bytes part;
    for (uint32_t chunk = 0; find_chunk(table, hash, chunk, &part); chunk++) {
        size_bytes += part.size_bytes;
    }
    return size_bytes;
}

/* It may be there already, perhaps in other chunks (uploaded): then it must be the same. */
static enum dbos_err same_module(const struct dbos_run *run, const struct dbos_module_bytes *bytes,
                                 struct dbos_errinfo *info) {
    struct dbos_table *table = dbos_module_table(run->txn);
    struct dbos_bytes part;
    size_t at = 0;
    for (uint32_t chunk = 0; find_chunk(table, bytes->hash, chunk, &part); chunk++) {
        if (part.size_bytes > bytes->size_bytes - at ||
            memcmp(part.data, bytes->data + at, part.size_bytes) != 0) {
            break;
        }
        at += part.size_bytes;
    }
    return at == bytes->size_bytes
               ? DBOS_OK
               : dbos_fail(info, DBOS_ERR_MODULE,
                           "another module with this content hash is stored already");
}

enum dbos_err dbos_module_store(const struct dbos_run *run, const struct dbos_module_bytes *bytes,
                                struct dbos_errinfo *info) {
    uint32_t chunk = 0;
    if (stored_bytes(dbos_module_table(run->txn), bytes->hash) > 0) {
        return same_module(run, bytes, info);
    }
    for (size_t at = 0; at < bytes->size_bytes; at += DBOS_MODULE_CHUNK_BYTES) {
        size_t left = bytes->size_bytes - at;
        struct dbos_bytes part = {
            .data = bytes->data + at,
            .size_bytes = left < DBOS_MODULE_CHUNK_BYTES ? left : DBOS_MODULE_CHUNK_BYTES,
        };
        enum dbos_err err = dbos_module_store_chunk(run, bytes->hash, chunk++, part, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

enum dbos_err dbos_module_fetch(struct dbos_alloc *alloc, struct dbos_table *table,
                                struct dbos_hash128 hash, size_t size_bytes,
                                struct dbos_module_bytes *out, struct dbos_errinfo *info) {
    char name[33];
    dbos_hash_text(hash, name);
    memset(out, 0, sizeof *out);
    size_t stored = stored_bytes(table, hash);
    if (stored == 0 || stored > DBOS_MODULE_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_FILE, "module %s is not in the database", name);
    }
    if (size_bytes != 0 && stored != size_bytes) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "module %s has %zu of %zu bytes", name, stored,
                         size_bytes);
    }
    uint8_t *data = dbos_take(alloc, stored);
    if (data == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for module %s", name);
    }
    struct dbos_bytes part;
    size_t at = 0;
    for (uint32_t chunk = 0; find_chunk(table, hash, chunk, &part); chunk++) {
        memcpy(data + at, part.data, part.size_bytes);
        at += part.size_bytes;
    }
    struct dbos_hash128 found = dbos_hash128(0, data, stored);
    if (found.high != hash.high || found.low != hash.low) {
        dbos_give(alloc, data);
        return dbos_fail(info, DBOS_ERR_CORRUPT, "module %s does not have its content hash", name);
    }
    *out = (struct dbos_module_bytes){.data = data, .size_bytes = stored, .hash = hash};
    return DBOS_OK;
}
