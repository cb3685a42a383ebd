#include "tests/support/alloc_fault.h"

#include "base/alloc.h"

/* The linker's names; see the header. */
void __real_dbos_alloc_init(struct dbos_alloc *alloc, const char *name, uint64_t bytes_max);
void __wrap_dbos_alloc_init(struct dbos_alloc *alloc, const char *name, uint64_t bytes_max);

/* The wrapped function has no argument that a state could come with. */
static struct {
    struct dbos_alloc root;
    bool is_on;
    int64_t armed;
} fault;

/* A part of another allocator is initialised inside base/alloc.c, which is not wrapped. */
void __wrap_dbos_alloc_init(struct dbos_alloc *alloc, const char *name, uint64_t bytes_max) {
    __real_dbos_alloc_init(alloc, name, bytes_max);
    if (fault.is_on) {
        alloc->parent = &fault.root;
    }
}

void alloc_fault_begin(void) {
    __real_dbos_alloc_init(&fault.root, "root", 0);
    fault.is_on = true;
    fault.armed = 0;
}

void alloc_fault_arm(int64_t n) {
    fault.armed = n;
    atomic_store(&fault.root.fail_countdown, n);
}

bool alloc_fault_has_fired(void) {
    return fault.armed > 0 && atomic_load(&fault.root.fail_countdown) <= 0;
}

uint64_t alloc_fault_held_bytes(void) { return atomic_load(&fault.root.bytes); }
