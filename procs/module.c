#include "procs/module.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>

enum {
    SEGMENTS_MAX = 64,
    DYNAMIC_MAX = 256,
    SECTIONS_MAX = 4096,
    NAME_BYTES = 128, /* longer names are cut in messages and match nothing */
    LIST_BYTES = 320,
};

/* What a procedure may use: the SDK first. docs/procedures.md lists them for users. */
static const char *const allowed[] = {
    "dbos_arg_count",
    "dbos_arg_is_null",
    "dbos_arg_int",
    "dbos_arg_float",
    "dbos_arg_bytes",
    "dbos_execute_values",
    "dbos_fetch",
    "dbos_column_is_null",
    "dbos_column_int",
    "dbos_column_float",
    "dbos_column_bytes",
    "dbos_abort",
    "dbos_return_null",
    "dbos_return_int",
    "dbos_return_float",
    "dbos_return_bytes",
    "dbos_now_us",
    "dbos_random",
    "dbos_user",
    "dbos_alloc",
    "dbos_task_open",
    "dbos_task_add",
    "dbos_task_submit",
    "dbos_result_pieces",
    "dbos_result_piece",
    "dbos_result_exec_us",
    /* bytes and strings */
    "memcpy",
    "memset",
    "memmove",
    "memcmp",
    "memchr",
    "strlen",
    "strnlen",
    "strcmp",
    "strncmp",
    "strchr",
    "strrchr",
    "strstr",
    "snprintf",
    "qsort",
    "bsearch",
    "abs",
    "labs",
    "llabs",
    /* arithmetic */
    "sqrt",
    "fabs",
    "floor",
    "ceil",
    "pow",
    "exp",
    "log",
    "log2",
    "log10",
    "sin",
    "cos",
    "tan",
    "fmin",
    "fmax",
    "fmod",
    "round",
    "trunc",
    "sqrtf",
    "fabsf",
    "floorf",
    "ceilf",
    "powf",
    "expf",
    "logf",
    "log2f",
    "log10f",
    "sinf",
    "cosf",
    "tanf",
    "fminf",
    "fmaxf",
    "fmodf",
    "roundf",
    "truncf",
    /* what the compiler adds by itself */
    "__stack_chk_fail",
};

bool dbos_module_allows(const char *name) {
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        if (strcmp(allowed[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* -- lists of offenders ---------------------------------------------------------------------------
 */

struct name_list {
    char text[LIST_BYTES]; /* "rand, time" */
    uint32_t count;
    uint32_t left_out; /* for which there was no room */
};

static bool list_has(const struct name_list *list, const char *name) {
    size_t length = strlen(name);
    const char *at = list->text;
    while ((at = strstr(at, name)) != NULL) {
        bool starts = at == list->text || at[-1] == ' ';
        if (starts && (at[length] == '\0' || at[length] == ',')) {
            return true;
        }
        at += length;
    }
    return false;
}

/* Where a name belongs, so that messages do not depend on the order of relocations. */
static size_t list_place(const struct name_list *list, const char *name) {
    size_t at = 0;
    while (list->text[at] != '\0') {
        size_t length = strcspn(list->text + at, ",");
        char other[NAME_BYTES] = "";
        memcpy(other, list->text + at, length < sizeof other ? length : sizeof other - 1);
        if (strcmp(name, other) < 0) {
            return at;
        }
        at += length;
        at += strspn(list->text + at, ", ");
    }
    return at;
}

static void list_add(struct name_list *list, const char *name) {
    if (name[0] == '\0' || list_has(list, name)) {
        return;
    }
    size_t used = strlen(list->text);
    size_t length = strlen(name);
    if (used + length + 3 > sizeof list->text) {
        list->left_out++;
        return;
    }
    size_t at = list_place(list, name);
    if (at == used) {
        (void)snprintf(list->text + used, sizeof list->text - used, "%s%s", used == 0 ? "" : ", ",
                       name);
    } else {
        memmove(list->text + at + length + 2, list->text + at, used - at + 1);
        memcpy(list->text + at, name, length);
        memcpy(list->text + at + length, ", ", 2);
    }
    list->count++;
}

/* Appends "; module uses …: a, b and 3 more" to the message. */
static void list_say(const struct name_list *list, const char *what, char *message, size_t room) {
    if (list->count == 0 && list->left_out == 0) {
        return;
    }
    size_t used = strlen(message);
    int written = snprintf(message + used, room - used, "%s%s: %s", used == 0 ? "module " : "; it ",
                           what, list->text);
    if (list->left_out > 0 && written > 0 && used + (size_t)written < room) {
        used += (size_t)written;
        (void)snprintf(message + used, room - used, " and %u more", list->left_out);
    }
}

/* -- the file -------------------------------------------------------------------------------------
 */

struct elf {
    const uint8_t *data;
    size_t size_bytes;
    Elf64_Ehdr header;
    Elf64_Phdr segments[SEGMENTS_MAX];
    uint32_t segment_count;
    const Elf64_Phdr *relro; /* NULL = none */

    /* From the dynamic section: file offsets and sizes. */
    uint64_t strings;
    uint64_t strings_bytes;
    uint64_t symbols;
    uint64_t relocations[2]; /* DT_RELA, DT_JMPREL */
    uint64_t relocations_bytes[2];

    /* .symtab, for names only; 0 = stripped. */
    Elf64_Shdr symtab;
    Elf64_Shdr symtab_strings;

    struct dbos_module_facts facts;
    struct name_list functions;
    struct name_list variables;
    struct name_list thread_locals;
    struct name_list constructors;
    struct name_list libraries;
};

/* Copy `bytes` from `offset` of the file; false = they are not all there. */
static bool fetch(const struct elf *elf, uint64_t offset, void *to, size_t bytes) {
    if (offset > elf->size_bytes || bytes > elf->size_bytes - offset) {
        return false;
    }
    memcpy(to, elf->data + offset, bytes);
    return true;
}

/* The NUL-terminated name at `at` of a string table; "" where there is none. */
static void fetch_name(const struct elf *elf, uint64_t table, uint64_t table_bytes, uint64_t at,
                       char out[NAME_BYTES]) {
    out[0] = '\0';
    if (at >= table_bytes || table > elf->size_bytes || at >= elf->size_bytes - table) {
        return;
    }
    const uint8_t *from = elf->data + table + at;
    size_t room = elf->size_bytes - (size_t)(table + at);
    if (room > table_bytes - at) {
        room = (size_t)(table_bytes - at);
    }
    size_t length = 0;
    while (length < room && length < NAME_BYTES - 1 && from[length] > ' ' && from[length] < 127) {
        out[length] = (char)from[length];
        length++;
    }
    out[length] = '\0';
}

/* File offset of an address of the loaded image; false = not in the file. */
static bool offset_of(const struct elf *elf, uint64_t address, uint64_t *out) {
    for (uint32_t i = 0; i < elf->segment_count; i++) {
        const Elf64_Phdr *segment = &elf->segments[i];
        if (segment->p_type == PT_LOAD && address >= segment->p_vaddr &&
            address - segment->p_vaddr < segment->p_filesz) {
            uint64_t offset = segment->p_offset + (address - segment->p_vaddr);
            if (offset < segment->p_offset || offset >= elf->size_bytes) {
                return false;
            }
            *out = offset;
            return true;
        }
    }
    return false;
}

static enum dbos_err read_header(struct elf *elf, struct dbos_errinfo *info) {
    Elf64_Ehdr *h = &elf->header;
    if (!fetch(elf, 0, h, sizeof *h) || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module is not an ELF file");
    }
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB ||
        h->e_machine != EM_X86_64 || h->e_ident[EI_VERSION] != EV_CURRENT) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module is not for x86-64");
    }
    if (h->e_type != ET_DYN) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module is not a shared object");
    }
    if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phnum > SEGMENTS_MAX) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module has a damaged program header");
    }
    elf->segment_count = h->e_phnum;
    if (!fetch(elf, h->e_phoff, elf->segments, h->e_phnum * sizeof(Elf64_Phdr))) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module is cut short");
    }
    return DBOS_OK;
}

/* .symtab is not loaded and may be absent; it gives offenders a name. */
static void find_symtab(struct elf *elf) {
    const Elf64_Ehdr *h = &elf->header;
    if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shnum > SECTIONS_MAX) {
        return;
    }
    for (uint32_t i = 0; i < h->e_shnum; i++) {
        Elf64_Shdr section;
        Elf64_Shdr strings;
        if (!fetch(elf, h->e_shoff + i * sizeof section, &section, sizeof section)) {
            return;
        }
        if (section.sh_type == SHT_SYMTAB && section.sh_link < h->e_shnum &&
            fetch(elf, h->e_shoff + section.sh_link * sizeof strings, &strings, sizeof strings)) {
            elf->symtab = section;
            elf->symtab_strings = strings;
            return;
        }
    }
}

/* The i-th symbol of .symtab and its name; false = no more. */
static bool symtab_at(const struct elf *elf, uint64_t i, Elf64_Sym *out, char name[NAME_BYTES]) {
    uint64_t count = elf->symtab.sh_size / sizeof *out;
    if (i >= count || !fetch(elf, elf->symtab.sh_offset + i * sizeof *out, out, sizeof *out)) {
        return false;
    }
    fetch_name(elf, elf->symtab_strings.sh_offset, elf->symtab_strings.sh_size, out->st_name, name);
    return true;
}

/* -- segments -------------------------------------------------------------------------------------
 */

static bool in_range(uint64_t at, uint64_t start, uint64_t bytes) {
    return at >= start && at - start < bytes;
}

/* Name the variables between two addresses; a line about the range where no name is known. */
static void name_variables(struct elf *elf, const Elf64_Phdr *segment) {
    Elf64_Sym symbol;
    char name[NAME_BYTES];
    uint32_t before = elf->variables.count + elf->variables.left_out;
    for (uint64_t i = 0; symtab_at(elf, i, &symbol, name); i++) {
        bool relro = elf->relro != NULL &&
                     in_range(symbol.st_value, elf->relro->p_vaddr, elf->relro->p_memsz);
        if (ELF64_ST_TYPE(symbol.st_info) == STT_OBJECT && symbol.st_size > 0 && !relro &&
            in_range(symbol.st_value, segment->p_vaddr, segment->p_memsz)) {
            list_add(&elf->variables, name);
        }
    }
    if (elf->variables.count + elf->variables.left_out == before) {
        (void)snprintf(name, sizeof name, "%llu bytes", (unsigned long long)segment->p_memsz);
        list_add(&elf->variables, name);
    }
}

static void name_thread_locals(struct elf *elf, const Elf64_Phdr *segment) {
    Elf64_Sym symbol;
    char name[NAME_BYTES];
    for (uint64_t i = 0; symtab_at(elf, i, &symbol, name); i++) {
        if (ELF64_ST_TYPE(symbol.st_info) == STT_TLS) {
            list_add(&elf->thread_locals, name);
        }
    }
    if (elf->thread_locals.count == 0) {
        (void)snprintf(name, sizeof name, "%llu bytes", (unsigned long long)segment->p_memsz);
        list_add(&elf->thread_locals, name);
    }
}

/* Writable after loading = not covered by the part that the linker makes read-only. */
static bool stays_writable(const struct elf *elf, const Elf64_Phdr *segment) {
    if ((segment->p_flags & PF_W) == 0 || segment->p_memsz == 0) {
        return false;
    }
    const Elf64_Phdr *relro = elf->relro;
    if (relro == NULL || segment->p_vaddr < relro->p_vaddr) {
        return true;
    }
    uint64_t skipped = segment->p_vaddr - relro->p_vaddr;
    return skipped > relro->p_memsz || segment->p_memsz > relro->p_memsz - skipped;
}

static enum dbos_err check_segments(struct elf *elf, struct dbos_errinfo *info) {
    bool stack_said = false;
    for (uint32_t i = 0; i < elf->segment_count; i++) {
        const Elf64_Phdr *segment = &elf->segments[i];
        if (segment->p_type == PT_GNU_RELRO) {
            elf->relro = segment;
        } else if (segment->p_type == PT_INTERP) {
            return dbos_fail(info, DBOS_ERR_MODULE, "module is a program, not a shared object");
        } else if (segment->p_type == PT_GNU_STACK) {
            stack_said = (segment->p_flags & PF_X) == 0;
        } else if (segment->p_type == PT_TLS && segment->p_memsz > 0) {
            name_thread_locals(elf, segment);
        }
    }
    if (!stack_said) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module wants an executable stack");
    }
    for (uint32_t i = 0; i < elf->segment_count; i++) {
        const Elf64_Phdr *segment = &elf->segments[i];
        if (segment->p_type != PT_LOAD) {
            continue;
        }
        if (segment->p_filesz > segment->p_memsz || segment->p_offset > elf->size_bytes ||
            segment->p_filesz > elf->size_bytes - segment->p_offset) {
            return dbos_fail(info, DBOS_ERR_MODULE, "module is cut short");
        }
        if ((segment->p_flags & (PF_W | PF_X)) == (PF_W | PF_X)) {
            return dbos_fail(info, DBOS_ERR_MODULE, "module has code that can be written");
        }
        if (stays_writable(elf, segment)) {
            name_variables(elf, segment);
        }
    }
    return DBOS_OK;
}

/* -- dynamic section ------------------------------------------------------------------------------
 */

struct dynamic {
    uint64_t strings, strings_bytes, symbols;
    uint64_t rela, rela_bytes, jump, jump_bytes;
    uint64_t init, fini;
    uint64_t init_array, init_array_bytes, fini_array, fini_array_bytes;
    uint64_t preinit_bytes;
    uint64_t needed[16]; /* offsets in the string table */
    uint32_t needed_count;
    bool text_relocations;
    bool unusual; /* DT_REL, RPATH, AUDIT, …: nothing that dbos-cc makes */
};

static void dynamic_entry(struct dynamic *d, const Elf64_Dyn *entry) {
    uint64_t value = entry->d_un.d_val;
    switch (entry->d_tag) {
    case DT_STRTAB:
        d->strings = value;
        break;
    case DT_STRSZ:
        d->strings_bytes = value;
        break;
    case DT_SYMTAB:
        d->symbols = value;
        break;
    case DT_RELA:
        d->rela = value;
        break;
    case DT_RELASZ:
        d->rela_bytes = value;
        break;
    case DT_JMPREL:
        d->jump = value;
        break;
    case DT_PLTRELSZ:
        d->jump_bytes = value;
        break;
    case DT_INIT:
        d->init = value;
        break;
    case DT_FINI:
        d->fini = value;
        break;
    case DT_INIT_ARRAY:
        d->init_array = value;
        break;
    case DT_INIT_ARRAYSZ:
        d->init_array_bytes = value;
        break;
    case DT_FINI_ARRAY:
        d->fini_array = value;
        break;
    case DT_FINI_ARRAYSZ:
        d->fini_array_bytes = value;
        break;
    case DT_PREINIT_ARRAYSZ:
        d->preinit_bytes = value;
        break;
    case DT_TEXTREL:
        d->text_relocations = true;
        break;
    case DT_FLAGS:
        d->text_relocations |= (value & DF_TEXTREL) != 0;
        break;
    case DT_NEEDED:
        if (d->needed_count < sizeof d->needed / sizeof *d->needed) {
            d->needed[d->needed_count++] = value;
        } else {
            d->unusual = true;
        }
        break;
    case DT_REL:
    case DT_RPATH:
    case DT_RUNPATH:
    case DT_AUDIT:
    case DT_DEPAUDIT:
    case DT_FILTER:
    case DT_AUXILIARY:
        d->unusual = true;
        break;
    case DT_SYMENT:
        d->unusual |= value != sizeof(Elf64_Sym);
        break;
    case DT_RELAENT:
        d->unusual |= value != sizeof(Elf64_Rela);
        break;
    case DT_PLTREL:
        d->unusual |= value != DT_RELA;
        break;
    default:
        break;
    }
}

static bool read_dynamic(const struct elf *elf, struct dynamic *d) {
    for (uint32_t i = 0; i < elf->segment_count; i++) {
        const Elf64_Phdr *segment = &elf->segments[i];
        if (segment->p_type != PT_DYNAMIC) {
            continue;
        }
        for (uint64_t n = 0; n < DYNAMIC_MAX; n++) {
            Elf64_Dyn entry;
            if (!fetch(elf, segment->p_offset + n * sizeof entry, &entry, sizeof entry)) {
                return false;
            }
            if (entry.d_tag == DT_NULL) {
                return true;
            }
            dynamic_entry(d, &entry);
        }
    }
    return false;
}

static void check_libraries(struct elf *elf, const struct dynamic *d) {
    for (uint32_t i = 0; i < d->needed_count; i++) {
        char name[NAME_BYTES];
        fetch_name(elf, elf->strings, elf->strings_bytes, d->needed[i], name);
        if (strcmp(name, "libc.so.6") != 0 && strcmp(name, "libm.so.6") != 0) {
            list_add(&elf->libraries, name[0] == '\0' ? "?" : name);
        }
    }
}

/* The function at an address, by .symtab. */
static void name_function(const struct elf *elf, uint64_t address, char name[NAME_BYTES]) {
    Elf64_Sym symbol;
    for (uint64_t i = 0; symtab_at(elf, i, &symbol, name); i++) {
        if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_value == address &&
            name[0] != '\0') {
            return;
        }
    }
    (void)snprintf(name, NAME_BYTES, "at 0x%llx", (unsigned long long)address);
}

static void check_start_code(struct elf *elf, const struct dynamic *d) {
    char name[NAME_BYTES];
    if (d->init != 0) {
        name_function(elf, d->init, name);
        list_add(&elf->constructors, name);
    }
    if (d->fini != 0) {
        name_function(elf, d->fini, name);
        list_add(&elf->constructors, name);
    }
    if (d->preinit_bytes != 0) {
        list_add(&elf->constructors, ".preinit_array");
    }
}

/* -- relocations: what the loader will really look up ---------------------------------------------
 */

static void check_import(struct elf *elf, const Elf64_Sym *symbol) {
    char name[NAME_BYTES];
    fetch_name(elf, elf->strings, elf->strings_bytes, symbol->st_name, name);
    if (ELF64_ST_TYPE(symbol->st_info) == STT_TLS) {
        list_add(&elf->thread_locals, name);
    } else if (!dbos_module_allows(name)) {
        list_add(&elf->functions, name[0] == '\0' ? "?" : name);
    } else if (strncmp(name, "dbos_task_", 10) == 0) {
        elf->facts.uses_tasks = true;
    }
}

static enum dbos_err check_relocation(struct elf *elf, const struct dynamic *d,
                                      const Elf64_Rela *rela, struct dbos_errinfo *info) {
    if (in_range(rela->r_offset, d->init_array, d->init_array_bytes) ||
        in_range(rela->r_offset, d->fini_array, d->fini_array_bytes)) {
        char name[NAME_BYTES];
        name_function(elf, (uint64_t)rela->r_addend, name);
        list_add(&elf->constructors, name);
    }
    uint64_t type = ELF64_R_TYPE(rela->r_info);
    uint64_t index = ELF64_R_SYM(rela->r_info);
    if (type == R_X86_64_IRELATIVE || type == R_X86_64_COPY) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module has code that runs when it is loaded");
    }
    Elf64_Sym symbol = {0};
    if (index != 0 && !fetch(elf, elf->symbols + index * sizeof symbol, &symbol, sizeof symbol)) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module has a damaged symbol table");
    }
    if (type == R_X86_64_DTPMOD64 || type == R_X86_64_DTPOFF64 || type == R_X86_64_TPOFF64 ||
        type == R_X86_64_TLSDESC) {
        char name[NAME_BYTES];
        fetch_name(elf, elf->strings, elf->strings_bytes, symbol.st_name, name);
        list_add(&elf->thread_locals, index == 0 ? "" : name);
        return DBOS_OK;
    }
    if (index == 0) {
        return DBOS_OK;
    }
    if (ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module has code that runs when it is loaded");
    }
    if (symbol.st_shndx == SHN_UNDEF) {
        check_import(elf, &symbol);
    }
    return DBOS_OK;
}

static enum dbos_err check_relocations(struct elf *elf, const struct dynamic *d,
                                       struct dbos_errinfo *info) {
    for (uint32_t table = 0; table < 2; table++) {
        uint64_t count = elf->relocations_bytes[table] / sizeof(Elf64_Rela);
        for (uint64_t i = 0; i < count; i++) {
            Elf64_Rela rela;
            if (!fetch(elf, elf->relocations[table] + i * sizeof rela, &rela, sizeof rela)) {
                return dbos_fail(info, DBOS_ERR_MODULE, "module has a damaged relocation table");
            }
            enum dbos_err err = check_relocation(elf, d, &rela, info);
            if (err != DBOS_OK) {
                return err;
            }
        }
    }
    return DBOS_OK;
}

static enum dbos_err check_dynamic(struct elf *elf, struct dbos_errinfo *info) {
    struct dynamic d = {0};
    if (!read_dynamic(elf, &d) || !offset_of(elf, d.strings, &elf->strings) ||
        !offset_of(elf, d.symbols, &elf->symbols)) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module has a damaged dynamic section");
    }
    elf->strings_bytes = d.strings_bytes;
    elf->relocations_bytes[0] = d.rela_bytes;
    elf->relocations_bytes[1] = d.jump_bytes;
    if ((d.rela_bytes != 0 && !offset_of(elf, d.rela, &elf->relocations[0])) ||
        (d.jump_bytes != 0 && !offset_of(elf, d.jump, &elf->relocations[1]))) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module has a damaged relocation table");
    }
    if (d.text_relocations) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module is not position-independent (TEXTREL)");
    }
    if (d.unusual) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module was not linked by dbos-cc");
    }
    check_libraries(elf, &d);
    check_start_code(elf, &d);
    enum dbos_err err = check_relocations(elf, &d, info);
    if (err == DBOS_OK && elf->constructors.count == 0 &&
        d.init_array_bytes + d.fini_array_bytes != 0) {
        list_add(&elf->constructors, ".init_array");
    }
    return err;
}

static enum dbos_err verdict(const struct elf *elf, struct dbos_errinfo *info) {
    char message[384] = "";
    size_t room = sizeof message;
    list_say(&elf->functions, "uses functions that are not allowed", message, room);
    list_say(&elf->variables, "has writable data", message, room);
    list_say(&elf->thread_locals, "has thread-local data", message, room);
    list_say(&elf->constructors, "has code that runs when it is loaded", message, room);
    list_say(&elf->libraries, "needs libraries that are not allowed", message, room);
    if (message[0] == '\0') {
        return DBOS_OK;
    }
    (void)dbos_fail(info, DBOS_ERR_MODULE, "%s", message);
    dbos_err_hint(info, "Compile with dbos-cc; docs/procedures.md says what a module may have.");
    return DBOS_ERR_MODULE;
}

enum dbos_err dbos_module_check(const void *data, size_t size_bytes, struct dbos_module_facts *out,
                                struct dbos_errinfo *info) {
    struct elf elf = {.data = data, .size_bytes = size_bytes};
    *out = (struct dbos_module_facts){0};
    if (size_bytes > DBOS_MODULE_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module is over 64 MB");
    }
    enum dbos_err err = read_header(&elf, info);
    if (err != DBOS_OK) {
        return err;
    }
    find_symtab(&elf);
    err = check_segments(&elf, info);
    if (err == DBOS_OK) {
        err = check_dynamic(&elf, info);
    }
    if (err == DBOS_OK) {
        err = verdict(&elf, info);
    }
    *out = elf.facts;
    return err;
}
