/* A procedure runs the same statements in each of its transactions: they are stored once. */
#include <string.h>

#include "base/hash.h"
#include "provenance/archive_internal.h"

void dbos_archive_steps_init(struct dbos_archive_steps *steps, struct dbos_alloc *alloc) {
    memset(steps, 0, sizeof *steps);
    dbos_idmap_init(&steps->index, alloc);
}

void dbos_archive_steps_fini(struct dbos_archive_steps *steps) {
    dbos_give(steps->index.alloc, steps->sets);
    dbos_give(steps->index.alloc, steps->steps);
    dbos_idmap_fini(&steps->index);
}

uint64_t dbos_archive_steps_id(const struct dbos_archive_step *steps, uint32_t count) {
    return dbos_hash64(0, steps, count * sizeof *steps);
}

bool dbos_archive_steps_known(const struct dbos_archive_steps *steps, uint64_t id,
                              const struct dbos_archive_step *sequence, uint32_t count,
                              bool *out_taken) {
    const uint32_t *place = dbos_idmap_find(&steps->index, id);
    *out_taken = place != NULL;
    if (place == NULL) {
        return false;
    }
    const struct dbos_archive_step_set *set = &steps->sets[*place];
    return set->count == count &&
           memcmp(&steps->steps[set->first], sequence, count * sizeof *sequence) == 0;
}

/* Room for one more set and `count` steps. */
static enum dbos_err make_room(struct dbos_archive_steps *steps, uint32_t count) {
    struct dbos_alloc *alloc = steps->index.alloc;
    if (steps->set_count == steps->set_capacity) {
        uint32_t capacity = steps->set_capacity * 2 + 16;
        void *sets = dbos_retake(alloc, steps->sets, capacity * sizeof *steps->sets);
        if (sets == NULL) {
            return DBOS_ERR_NOMEM;
        }
        steps->sets = sets;
        steps->set_capacity = capacity;
    }
    if (steps->step_capacity - steps->step_count < count) {
        uint32_t capacity = steps->step_capacity * 2 + count + 64;
        void *more = dbos_retake(alloc, steps->steps, capacity * sizeof *steps->steps);
        if (more == NULL) {
            return DBOS_ERR_NOMEM;
        }
        steps->steps = more;
        steps->step_capacity = capacity;
    }
    return DBOS_OK;
}

enum dbos_err dbos_archive_steps_learn(struct dbos_archive_steps *steps, uint64_t id,
                                       const struct dbos_archive_step *sequence, uint32_t count) {
    if (make_room(steps, count) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    const uint32_t *place = dbos_idmap_find(&steps->index, id);
    if (place == NULL) {
        if (dbos_idmap_put(&steps->index, id, steps->set_count) != DBOS_OK) {
            return DBOS_ERR_NOMEM;
        }
        steps->sets[steps->set_count++] =
            (struct dbos_archive_step_set){.first = steps->step_count, .count = 0};
        place = dbos_idmap_find(&steps->index, id);
    }
    if (place == NULL || *place != steps->set_count - 1) {
        return DBOS_ERR_CORRUPT;
    }
    memcpy(&steps->steps[steps->step_count], sequence, count * sizeof *sequence);
    steps->step_count += count;
    steps->sets[*place].count += count;
    return DBOS_OK;
}
