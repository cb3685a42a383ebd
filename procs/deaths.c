#include "procs/deaths.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

enum { LINE_BYTES = 160, FILE_BYTES_MAX = 1048576 };

/* -- in the handler: neither snprintf nor memory ---------------------------------------------- */

static size_t put_text(char *line, size_t at, const char *text) {
    for (size_t i = 0; text[i] != '\0' && at < LINE_BYTES - 1; i++) {
        line[at++] = text[i];
    }
    return at;
}

static size_t put_number(char *line, size_t at, uint32_t number) {
    char digits[11];
    size_t first = sizeof digits - 1;
    digits[first] = '\0';
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return put_text(line, at, digits + first);
}

void dbos_death_note(const char *path, const struct dbos_procedure_info *info,
                     const char *signal_name) {
    char line[LINE_BYTES];
    size_t size_bytes = put_number(line, 0, info->id);
    size_bytes = put_text(line, size_bytes, " ");
    size_bytes = put_number(line, size_bytes, info->version);
    size_bytes = put_text(line, size_bytes, " ");
    size_bytes = put_text(line, size_bytes, signal_name);
    size_bytes = put_text(line, size_bytes, " ");
    size_bytes = put_text(line, size_bytes, info->name);
    line[size_bytes++] = '\n';
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file >= 0 && write(file, line, size_bytes) == (ssize_t)size_bytes) {
        (void)fsync(file);
    }
    if (file >= 0) {
        (void)close(file);
    }
}

/* -- at start --------------------------------------------------------------------------------- */

static void count_line(struct dbos_procs *procs, const char *line) {
    unsigned id = 0;
    unsigned version = 0;
    char how[16] = "";
    char name[DBOS_NAME_BYTES] = "";
    if (sscanf(line, "%u %u %15s %63s", &id, &version, how, name) != 4) {
        dbos_log(DBOS_LOG_WARN, "a line of the file of crashed procedures can not be read: %.80s",
                 line);
        return;
    }
    struct dbos_procedure_handle *handle = dbos_procs_find(procs, id, version);
    if (handle == NULL) {
        return; /* replaced or dropped since */
    }
    handle->deaths++;
    if (handle->deaths == DBOS_DEATHS_MAX) {
        dbos_log(DBOS_LOG_ERROR,
                 "procedure \"%s\" version %u has ended the node %u times (%s): it is not run any "
                 "more until it is replaced",
                 handle->info->name, version, DBOS_DEATHS_MAX, how);
    }
}

/* The last line may not have come to its end: it counts for nothing. */
static void count_lines(struct dbos_procs *procs, char *text) {
    char *end;
    for (char *line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        count_line(procs, line);
    }
}

static enum dbos_err read_text(struct dbos_procs *procs, int file, char **out,
                               struct dbos_errinfo *info) {
    struct dbos_env *env = procs->env;
    uint64_t size_bytes = 0;
    size_t got_bytes = 0;
    *out = NULL;
    enum dbos_err err = env->ops->file_size(env, file, &size_bytes, info);
    if (err != DBOS_OK) {
        return err;
    }
    size_bytes = size_bytes > FILE_BYTES_MAX ? FILE_BYTES_MAX : size_bytes;
    char *text = dbos_take_zero(procs->alloc, (size_t)size_bytes + 1);
    if (text == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the file of crashed procedures");
    }
    err = env->ops->file_read(env, file, 0, text, (size_t)size_bytes, &got_bytes, info);
    if (err != DBOS_OK) {
        dbos_give(procs->alloc, text);
        return err;
    }
    *out = text;
    return DBOS_OK;
}

static void find_name(void *arg, const char *name) {
    bool *is_there = arg;
    *is_there |= strcmp(name, DBOS_DEATHS_FILE) == 0;
}

enum dbos_err dbos_deaths_read(struct dbos_procs *procs, struct dbos_errinfo *info) {
    int file = -1;
    char *text = NULL;
    bool is_there = false;
    if (procs->data_dir[0] == '\0') {
        return DBOS_OK;
    }
    struct dbos_env *env = procs->env;
    enum dbos_err err = env->ops->dir_list(env, procs->data_dir, find_name, &is_there, info);
    if (err != DBOS_OK || !is_there) {
        return err;
    }
    err = env->ops->file_open(env, procs->crash_path, DBOS_OPEN_READ, &file, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = read_text(procs, file, &text, info);
    env->ops->file_close(env, file);
    if (err == DBOS_OK) {
        count_lines(procs, text);
        dbos_give(procs->alloc, text);
    }
    return err;
}
