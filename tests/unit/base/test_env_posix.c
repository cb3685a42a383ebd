#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/env.h"

TestSuite(base_env_posix, .timeout = 20);

struct place {
    struct dbos_env *env;
    const struct dbos_env_ops *ops;
    char directory[64];
    struct dbos_errinfo info;
};

static void enter(struct place *place) {
    memset(place, 0, sizeof *place);
    place->env = dbos_env_posix();
    place->ops = place->env->ops;
    (void)snprintf(place->directory, sizeof place->directory, "/tmp/dbos-env-XXXXXX");
    cr_assert_not_null(mkdtemp(place->directory));
}

static const char *in(const struct place *place, const char *name, char path[128]) {
    (void)snprintf(path, 128, "%s/%s", place->directory, name);
    return path;
}

static void leave(struct place *place) { cr_expect_eq(rmdir(place->directory), 0, "empty again"); }

Test(base_env_posix, a_file_gives_back_what_was_written_and_says_where_it_ends) {
    struct place at;
    char path[128];
    char back[16];
    size_t got = 0;
    uint64_t size_bytes = 0;
    int file = -1;
    enter(&at);
    in(&at, "data", path);
    cr_assert_eq(at.ops->file_open(at.env, path, DBOS_OPEN_CREATE, &file, &at.info), DBOS_OK);
    cr_expect_eq(at.ops->file_write(at.env, file, 3, "0123456789", 10, &at.info), DBOS_OK);
    cr_expect_eq(at.ops->file_sync(at.env, file, &at.info), DBOS_OK);
    cr_expect_eq(at.ops->file_size(at.env, file, &size_bytes, &at.info), DBOS_OK);
    cr_expect_eq(size_bytes, 13u);
    cr_expect_eq(at.ops->file_read(at.env, file, 2, back, 4, &got, &at.info), DBOS_OK);
    cr_expect(got == 4 && memcmp(back, "\000012", 4) == 0);
    cr_expect_eq(at.ops->file_read(at.env, file, 10, back, 16, &got, &at.info), DBOS_OK);
    cr_expect(got == 3 && memcmp(back, "789", 3) == 0, "a short read at the end");
    cr_expect_eq(at.ops->file_read(at.env, file, 99, back, 16, &got, &at.info), DBOS_OK);
    cr_expect_eq(got, 0);
    cr_expect_eq(at.ops->file_truncate(at.env, file, 5, &at.info), DBOS_OK);
    cr_expect_eq(at.ops->file_read(at.env, file, 0, back, 16, &got, &at.info), DBOS_OK);
    cr_expect_eq(got, 5);
    at.ops->file_close(at.env, file);
    cr_expect_eq(at.ops->path_remove(at.env, path, &at.info), DBOS_OK);
    leave(&at);
}

Test(base_env_posix, what_is_missing_or_there_is_named_in_the_error) {
    struct place at;
    char path[128];
    int file = 7;
    enter(&at);
    in(&at, "missing", path);
    cr_expect_eq(at.ops->file_open(at.env, path, DBOS_OPEN_READ, &file, &at.info), DBOS_ERR_IO);
    cr_expect_eq(file, -1);
    cr_expect_not_null(strstr(at.info.message, path));
    cr_expect_not_null(strstr(at.info.message, "No such file"));
    cr_expect_eq(at.ops->file_open(at.env, path, DBOS_OPEN_WRITE, &file, &at.info), DBOS_ERR_IO);
    cr_expect_eq(at.ops->path_remove(at.env, path, &at.info), DBOS_ERR_IO);
    cr_expect_eq(at.ops->path_rename(at.env, path, path, &at.info), DBOS_ERR_IO);
    cr_expect_eq(at.ops->dir_sync(at.env, path, &at.info), DBOS_ERR_IO);
    cr_expect_eq(at.ops->dir_list(at.env, path, NULL, NULL, &at.info), DBOS_ERR_IO);
    cr_assert_eq(at.ops->file_open(at.env, path, DBOS_OPEN_CREATE_NEW, &file, &at.info), DBOS_OK);
    at.ops->file_close(at.env, file);
    cr_expect_eq(at.ops->file_open(at.env, path, DBOS_OPEN_CREATE_NEW, &file, &at.info),
                 DBOS_ERR_IO);
    cr_expect_not_null(strstr(at.info.message, "exists"));
    cr_expect_eq(at.ops->path_remove(at.env, path, &at.info), DBOS_OK);
    leave(&at);
}

Test(base_env_posix, a_file_is_locked_by_one_descriptor_at_a_time) {
    struct place at;
    char path[128];
    int first = -1;
    int second = -1;
    enter(&at);
    in(&at, "lock", path);
    cr_assert_eq(at.ops->file_open(at.env, path, DBOS_OPEN_CREATE, &first, &at.info), DBOS_OK);
    cr_assert_eq(at.ops->file_open(at.env, path, DBOS_OPEN_WRITE, &second, &at.info), DBOS_OK);
    cr_expect_eq(at.ops->file_lock(at.env, first, &at.info), DBOS_OK);
    cr_expect_eq(at.ops->file_lock(at.env, second, &at.info), DBOS_ERR_DUPLICATE_OBJECT);
    at.ops->file_close(at.env, first);
    cr_expect_eq(at.ops->file_lock(at.env, second, &at.info), DBOS_OK, "the lock died with it");
    at.ops->file_close(at.env, second);
    cr_expect_eq(at.ops->path_remove(at.env, path, &at.info), DBOS_OK);
    leave(&at);
}

Test(base_env_posix, a_full_disk_is_told_from_other_errors) {
    struct place at;
    int full = -1;
    size_t got = 0;
    enter(&at);
    cr_assert_eq(at.ops->file_open(at.env, "/dev/full", DBOS_OPEN_WRITE, &full, &at.info), DBOS_OK);
    cr_expect_eq(at.ops->file_write(at.env, full, 0, "x", 1, &at.info), DBOS_ERR_DISK_FULL);
    cr_expect_str_eq(at.info.sqlstate, "53100");
    at.ops->file_close(at.env, full);
    cr_expect_eq(at.ops->file_write(at.env, -1, 0, "x", 1, &at.info), DBOS_ERR_IO);
    cr_expect_eq(at.ops->file_read(at.env, -1, 0, &got, 1, &got, &at.info), DBOS_ERR_IO);
    cr_expect_eq(at.ops->file_sync(at.env, -1, &at.info), DBOS_ERR_IO);
    uint64_t size_bytes = 1;
    cr_expect_eq(at.ops->file_size(at.env, -1, &size_bytes, &at.info), DBOS_ERR_IO);
    cr_expect_eq(at.ops->file_truncate(at.env, -1, 0, &at.info), DBOS_ERR_IO);
    cr_expect_eq(at.ops->file_lock(at.env, -1, &at.info), DBOS_ERR_IO);
    leave(&at);
}

struct names {
    int count;
    bool dots;
};

static void count_name(void *arg, const char *name) {
    struct names *names = arg;
    names->count++;
    names->dots = names->dots || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

Test(base_env_posix, directories_are_made_once_listed_renamed_and_synced) {
    struct place at;
    struct names names = {0};
    char path[128];
    char other[128];
    enter(&at);
    in(&at, "folder", path);
    in(&at, "renamed", other);
    cr_expect_eq(at.ops->dir_make(at.env, path, &at.info), DBOS_OK);
    cr_expect_eq(at.ops->dir_make(at.env, path, &at.info), DBOS_OK, "an existing one is fine");
    cr_expect_eq(at.ops->path_rename(at.env, path, other, &at.info), DBOS_OK);
    cr_expect_eq(at.ops->dir_sync(at.env, at.directory, &at.info), DBOS_OK);
    cr_expect_eq(at.ops->dir_list(at.env, at.directory, count_name, &names, &at.info), DBOS_OK);
    cr_expect(names.count == 1 && !names.dots);
    cr_expect_eq(rmdir(other), 0);
    cr_expect_eq(at.ops->dir_make(at.env, "/proc/1/nothing/here", &at.info), DBOS_ERR_IO);
    leave(&at);
}

Test(base_env_posix, a_connection_carries_bytes_and_a_closed_port_refuses) {
    struct dbos_env *env = dbos_env_posix();
    struct dbos_errinfo info = {0};
    int listener = -1;
    int client = -1;
    uint16_t port = 0;
    uint16_t again = 0;
    cr_assert_eq(env->ops->tcp_listen(env, "127.0.0.1", 0, &listener, &port, &info), DBOS_OK);
    cr_assert_neq(port, 0);
    int second = -1;
    cr_expect_eq(env->ops->tcp_listen(env, "127.0.0.1", port, &second, &again, &info), DBOS_ERR_IO);
    cr_assert_eq(env->ops->tcp_connect(env, "127.0.0.1", port, 1000, &client, &info), DBOS_OK);
    int server = accept(listener, NULL, NULL);
    char back[4] = "";
    cr_assert_geq(server, 0);
    cr_expect_eq(write(client, "abc", 3), 3);
    cr_expect_eq(read(server, back, 3), 3);
    cr_expect_str_eq(back, "abc");
    (void)close(server);
    (void)close(client);
    (void)close(listener);
    enum dbos_err err = env->ops->tcp_connect(env, "127.0.0.1", port, 1000, &client, &info);
    cr_expect_eq(err, DBOS_ERR_CONNECTION_LOST);
    cr_expect_eq(client, -1);
    err = env->ops->tcp_connect(env, "no address", 1, 1000, &client, &info);
    cr_expect_eq(err, DBOS_ERR_INVALID_PARAMETER);
}

Test(base_env_posix, clocks_go_on_and_random_numbers_differ) {
    struct dbos_env *env = dbos_env_posix();
    uint64_t before_ns = env->ops->mono_ns(env);
    env->ops->sleep_us(env, 2000);
    cr_expect_geq(env->ops->mono_ns(env) - before_ns, 2000000u);
    cr_expect_gt(env->ops->wall_us(env), 1700000000ll * 1000000);
    cr_expect_neq(env->ops->random_u64(env), env->ops->random_u64(env));
}
