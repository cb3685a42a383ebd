#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "procs/include/dbos/procedure.h"
#include "procs/module.h"

enum { STATEMENTS_MAX = 256 };

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3 */
#endif

struct dbos_module {
    struct dbos_alloc *alloc;
    void *handle;
    struct dbos_module_text text;
    int file; /* stays open: the dynamic linker knows a library by its path, and the path has its
                 number */
};

static int memory_file(void) {
    int file = memfd_create("dbos-module", MFD_CLOEXEC | MFD_EXEC);
    if (file < 0 && errno == EINVAL) { /* a kernel that does not know MFD_EXEC */
        file = memfd_create("dbos-module", MFD_CLOEXEC);
    }
    return file;
}

static bool write_all(int file, const uint8_t *data, size_t size_bytes) {
    while (size_bytes > 0) {
        ssize_t n = write(file, data, size_bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        data += n;
        size_bytes -= (size_t)n;
    }
    return true;
}

struct text_search {
    uintptr_t base; /* of the module */
    struct dbos_module_text *text;
};

static int note_text(struct dl_phdr_info *object, size_t size_bytes, void *arg) {
    struct text_search *search = arg;
    (void)size_bytes;
    if (object->dlpi_addr != search->base) {
        return 0;
    }
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0) {
            uintptr_t low = object->dlpi_addr + segment->p_vaddr;
            uintptr_t high = low + segment->p_memsz;
            bool is_first = search->text->high == 0;
            search->text->low = is_first || low < search->text->low ? low : search->text->low;
            search->text->high = high > search->text->high ? high : search->text->high;
        }
    }
    return 1;
}

static void find_text(struct dbos_module *module) {
    struct link_map *map = NULL;
    if (dlinfo(module->handle, RTLD_DI_LINKMAP, &map) == 0) {
        struct text_search search = {.base = map->l_addr, .text = &module->text};
        (void)dl_iterate_phdr(note_text, &search);
    }
}

struct dbos_module_text dbos_module_text(const struct dbos_module *module) {
    return module->text;
}

enum dbos_err dbos_module_open(struct dbos_alloc *alloc, const void *data, size_t size_bytes,
                               struct dbos_module **out, struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_module *module = dbos_take_zero(alloc, sizeof *module);
    if (module == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory loading a module");
    }
    module->alloc = alloc;
    module->file = memory_file();
    if (module->file < 0 || !write_all(module->file, data, size_bytes)) {
        (void)dbos_fail(info, DBOS_ERR_IO, "module could not be put in memory: %s",
                        strerror(errno));
        dbos_module_close(module);
        return DBOS_ERR_IO;
    }
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", module->file);
    module->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (module->handle == NULL) {
        const char *why = dlerror();
        (void)dbos_fail(info, DBOS_ERR_MODULE, "module cannot be loaded: %s",
                        why == NULL ? "unknown" : why);
        dbos_module_close(module);
        return DBOS_ERR_MODULE;
    }
    find_text(module);
    *out = module;
    return DBOS_OK;
}

void dbos_module_close(struct dbos_module *module) {
    if (module == NULL) {
        return;
    }
    if (module->handle != NULL) {
        (void)dlclose(module->handle);
    }
    if (module->file >= 0) {
        (void)close(module->file);
    }
    dbos_give(module->alloc, module);
}

static bool statements_there(const struct dbos_procedure *procedure) {
    if (procedure->statement_count == 0) {
        return true;
    }
    if (procedure->statements == NULL || procedure->statement_count > STATEMENTS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < procedure->statement_count; i++) {
        if (procedure->statements[i] == NULL) {
            return false;
        }
    }
    return true;
}

enum dbos_err dbos_module_procedure(struct dbos_module *module, const char *name,
                                    const struct dbos_procedure **out, struct dbos_errinfo *info) {
    char symbol[160];
    *out = NULL;
    (void)snprintf(symbol, sizeof symbol, "dbos_procedure_%s", name);
    const struct dbos_procedure *procedure = dlsym(module->handle, symbol);
    if (procedure == NULL) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module has no procedure \"%s\"", name);
    }
    if (procedure->sdk_version != dbos_sdk_version()) {
        return dbos_fail(info, DBOS_ERR_MODULE,
                         "procedure \"%s\" was compiled for SDK version %u, this server has %u",
                         name, procedure->sdk_version, dbos_sdk_version());
    }
    if (procedure->run == NULL || !statements_there(procedure)) {
        return dbos_fail(info, DBOS_ERR_MODULE,
                         "procedure \"%s\" lacks .run, or its .statements do not match "
                         ".statement_count (at most %d)",
                         name, STATEMENTS_MAX);
    }
    *out = procedure;
    return DBOS_OK;
}
