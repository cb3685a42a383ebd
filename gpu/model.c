#include "gpu/model.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"

static uint64_t weights_of(uint32_t inputs, uint32_t hidden, uint32_t outputs) {
    return (uint64_t)hidden * inputs + hidden + (uint64_t)outputs * hidden + outputs;
}

static enum dbos_err check_sizes(uint32_t inputs, uint32_t hidden, uint32_t outputs,
                                 struct dbos_errinfo *info) {
    if (inputs == 0 || hidden == 0 || outputs == 0 || inputs > DBOS_MODEL_WIDTH_MAX ||
        hidden > DBOS_MODEL_WIDTH_MAX || outputs > DBOS_MODEL_OUTPUTS_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "a model of %u-%u-%u units", inputs,
                         hidden, outputs);
    }
    return DBOS_OK;
}

enum dbos_err dbos_mlp_open(struct dbos_alloc *alloc, uint32_t inputs, uint32_t hidden,
                            uint32_t outputs, struct dbos_mlp **out, struct dbos_errinfo *info) {
    *out = NULL;
    enum dbos_err err = check_sizes(inputs, hidden, outputs, info);
    if (err != DBOS_OK) {
        return err;
    }
    /* The head takes a whole number of cache lines, so the weights keep the block's alignment. */
    size_t head = (sizeof(struct dbos_mlp) + 63) / 64 * 64;
    size_t count = (size_t)weights_of(inputs, hidden, outputs);
    uint8_t *block = dbos_take_zero(alloc, head + count * sizeof(float));
    if (block == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a model of %zu weights", count);
    }
    struct dbos_mlp *mlp = (struct dbos_mlp *)(void *)block;
    mlp->inputs = inputs;
    mlp->hidden = hidden;
    mlp->outputs = outputs;
    mlp->weight_count = count;
    mlp->w1 = (float *)(void *)(block + head);
    mlp->b1 = mlp->w1 + (size_t)hidden * inputs;
    mlp->w2 = mlp->b1 + hidden;
    mlp->b2 = mlp->w2 + (size_t)outputs * hidden;
    DBOS_CHECK(mlp->b2 + outputs == mlp->w1 + count);
    *out = mlp;
    return DBOS_OK;
}

void dbos_mlp_close(struct dbos_alloc *alloc, struct dbos_mlp *mlp) { dbos_give(alloc, mlp); }

static uint32_t model_crc(struct dbos_model_header header, const void *weights) {
    header.crc32c = 0;
    uint32_t crc = dbos_crc32c(0, &header, sizeof header);
    return dbos_crc32c(crc, weights, (size_t)header.weight_bytes);
}

void dbos_model_encode(const struct dbos_mlp *mlp, struct dbos_buf *buf) {
    struct dbos_model_header header = {
        .magic = DBOS_MODEL_MAGIC,
        .version = DBOS_MODEL_VERSION,
        .arch = DBOS_MODEL_ARCH_MLP,
        .inputs = mlp->inputs,
        .hidden = mlp->hidden,
        .outputs = mlp->outputs,
        .weight_bytes = mlp->weight_count * sizeof(float),
    };
    header.crc32c = model_crc(header, mlp->w1);
    dbos_buf_put(buf, &header, sizeof header);
    dbos_buf_put(buf, mlp->w1, mlp->weight_count * sizeof(float));
}

static enum dbos_err check_header(const struct dbos_model_header *header, uint64_t left_bytes,
                                  struct dbos_errinfo *info) {
    if (header->magic != DBOS_MODEL_MAGIC) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "not a model: magic %08x", header->magic);
    }
    if (header->version != DBOS_MODEL_VERSION) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION, "model format version %u, not %u",
                         header->version, DBOS_MODEL_VERSION);
    }
    if (header->arch != DBOS_MODEL_ARCH_MLP) {
        return dbos_fail(info, DBOS_ERR_NOT_SUPPORTED, "model architecture %u", header->arch);
    }
    if (check_sizes(header->inputs, header->hidden, header->outputs, info) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "a model of %u-%u-%u units", header->inputs,
                         header->hidden, header->outputs);
    }
    uint64_t weights = weights_of(header->inputs, header->hidden, header->outputs);
    if (header->weight_bytes != weights * sizeof(float) || header->weight_bytes != left_bytes) {
        return dbos_fail(
            info, DBOS_ERR_CORRUPT, "a model says %llu bytes of weights, needs %llu and has %llu",
            (unsigned long long)header->weight_bytes, (unsigned long long)(weights * sizeof(float)),
            (unsigned long long)left_bytes);
    }
    return DBOS_OK;
}

enum dbos_err dbos_model_decode(struct dbos_alloc *alloc, const void *data, size_t size_bytes,
                                struct dbos_mlp **out, struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(data, size_bytes);
    struct dbos_model_header header;
    *out = NULL;
    const uint8_t *head = dbos_get(&reader, sizeof header);
    if (head == NULL) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "a model of %zu bytes", size_bytes);
    }
    memcpy(&header, head, sizeof header);
    enum dbos_err err = check_header(&header, dbos_reader_left(&reader), info);
    if (err != DBOS_OK) {
        return err;
    }
    const uint8_t *weights = dbos_get(&reader, (size_t)header.weight_bytes);
    if (model_crc(header, weights) != header.crc32c) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "a model's checksum does not match");
    }
    struct dbos_mlp *mlp = NULL;
    err = dbos_mlp_open(alloc, header.inputs, header.hidden, header.outputs, &mlp, info);
    if (err != DBOS_OK) {
        return err;
    }
    memcpy(mlp->w1, weights, (size_t)header.weight_bytes);
    for (size_t i = 0; i < mlp->weight_count; i++) {
        if (!isfinite(mlp->w1[i])) {
            dbos_mlp_close(alloc, mlp);
            return dbos_fail(info, DBOS_ERR_CORRUPT, "weight %zu of a model is not finite", i);
        }
    }
    *out = mlp;
    return DBOS_OK;
}
