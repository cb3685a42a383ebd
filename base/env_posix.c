#include "base/env.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int64_t posix_wall_us(struct dbos_env *env) {
    struct timespec now;
    (void)env;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static uint64_t posix_mono_ns(struct dbos_env *env) {
    struct timespec now;
    (void)env;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void posix_sleep_us(struct dbos_env *env, uint64_t us) {
    (void)env;
    struct timespec left = {.tv_sec = (time_t)(us / 1000000),
                            .tv_nsec = (long)(us % 1000000) * 1000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static uint64_t posix_random_u64(struct dbos_env *env) {
    uint64_t value = 0;
    (void)env;
    ssize_t got = getrandom(&value, sizeof value, 0);
    DBOS_CHECK(got == (ssize_t)sizeof value);
    return value;
}

static enum dbos_err io_error(struct dbos_errinfo *info, const char *what, const char *path) {
    int cause = errno;
    enum dbos_err code = cause == ENOSPC || cause == EDQUOT ? DBOS_ERR_DISK_FULL : DBOS_ERR_IO;
    return dbos_fail(info, code, "cannot %s %s: %s", what, path, strerror(cause));
}

static enum dbos_err fd_error(struct dbos_errinfo *info, const char *what, int file) {
    int cause = errno;
    enum dbos_err code = cause == ENOSPC || cause == EDQUOT ? DBOS_ERR_DISK_FULL : DBOS_ERR_IO;
    return dbos_fail(info, code, "cannot %s file %d: %s", what, file, strerror(cause));
}

static enum dbos_err posix_file_open(struct dbos_env *env, const char *path,
                                     enum dbos_open_mode mode, int *out,
                                     struct dbos_errinfo *info) {
    static const int flags[] = {
        [DBOS_OPEN_READ] = O_RDONLY,
        [DBOS_OPEN_WRITE] = O_RDWR,
        [DBOS_OPEN_CREATE] = O_RDWR | O_CREAT,
        [DBOS_OPEN_CREATE_NEW] = O_RDWR | O_CREAT | O_EXCL,
    };
    (void)env;
    *out = open(path, flags[mode] | O_CLOEXEC, 0600);
    return *out < 0 ? io_error(info, "open", path) : DBOS_OK;
}

static void posix_file_close(struct dbos_env *env, int file) {
    (void)env;
    (void)close(file);
}

static enum dbos_err posix_file_read(struct dbos_env *env, int file, uint64_t offset, void *data,
                                     size_t size_bytes, size_t *out_bytes,
                                     struct dbos_errinfo *info) {
    size_t done = 0;
    (void)env;
    *out_bytes = 0;
    while (done < size_bytes) {
        ssize_t got = pread(file, (char *)data + done, size_bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fd_error(info, "read", file);
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    *out_bytes = done;
    return DBOS_OK;
}

static enum dbos_err posix_file_write(struct dbos_env *env, int file, uint64_t offset,
                                      const void *data, size_t size_bytes,
                                      struct dbos_errinfo *info) {
    size_t done = 0;
    (void)env;
    while (done < size_bytes) {
        ssize_t put =
            pwrite(file, (const char *)data + done, size_bytes - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return fd_error(info, "write", file);
        }
        done += (size_t)put;
    }
    return DBOS_OK;
}

static enum dbos_err posix_file_sync(struct dbos_env *env, int file, struct dbos_errinfo *info) {
    (void)env;
    return fdatasync(file) != 0 ? fd_error(info, "sync", file) : DBOS_OK;
}

static enum dbos_err posix_file_size(struct dbos_env *env, int file, uint64_t *out_bytes,
                                     struct dbos_errinfo *info) {
    struct stat facts;
    (void)env;
    *out_bytes = 0;
    if (fstat(file, &facts) != 0) {
        return fd_error(info, "stat", file);
    }
    *out_bytes = (uint64_t)facts.st_size;
    return DBOS_OK;
}

static enum dbos_err posix_file_truncate(struct dbos_env *env, int file, uint64_t size_bytes,
                                         struct dbos_errinfo *info) {
    (void)env;
    return ftruncate(file, (off_t)size_bytes) != 0 ? fd_error(info, "truncate", file) : DBOS_OK;
}

static enum dbos_err posix_file_lock(struct dbos_env *env, int file, struct dbos_errinfo *info) {
    (void)env;
    if (flock(file, LOCK_EX | LOCK_NB) == 0) {
        return DBOS_OK;
    }
    if (errno == EWOULDBLOCK) {
        return dbos_fail(info, DBOS_ERR_DUPLICATE_OBJECT, "another process holds the lock");
    }
    return fd_error(info, "lock", file);
}

static enum dbos_err posix_path_rename(struct dbos_env *env, const char *from, const char *to,
                                       struct dbos_errinfo *info) {
    (void)env;
    return rename(from, to) != 0 ? io_error(info, "rename", from) : DBOS_OK;
}

static enum dbos_err posix_path_remove(struct dbos_env *env, const char *path,
                                       struct dbos_errinfo *info) {
    (void)env;
    return unlink(path) != 0 ? io_error(info, "remove", path) : DBOS_OK;
}

static enum dbos_err posix_dir_make(struct dbos_env *env, const char *path,
                                    struct dbos_errinfo *info) {
    (void)env;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return io_error(info, "make directory", path);
    }
    return DBOS_OK;
}

static enum dbos_err posix_dir_sync(struct dbos_env *env, const char *path,
                                    struct dbos_errinfo *info) {
    (void)env;
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        bool is_closed = errno == EACCES;
        enum dbos_err err = io_error(info, "open directory", path);
        return is_closed ? dbos_fail(info, DBOS_ERR_PRIVILEGE, "cannot open directory %s", path)
                         : err;
    }
    int failed = fsync(dir);
    enum dbos_err result = failed != 0 ? io_error(info, "sync directory", path) : DBOS_OK;
    (void)close(dir);
    return result;
}

static enum dbos_err posix_dir_list(struct dbos_env *env, const char *path,
                                    void (*each)(void *arg, const char *name), void *arg,
                                    struct dbos_errinfo *info) {
    (void)env;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return io_error(info, "list directory", path);
    }
    errno = 0; /* only this tells the end from an error */
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            each(arg, entry->d_name);
        }
        errno = 0;
    }
    enum dbos_err result = errno != 0 ? io_error(info, "list directory", path) : DBOS_OK;
    (void)closedir(dir);
    return result;
}

static enum dbos_err socket_address(const char *address, uint16_t port, struct sockaddr_in *out,
                                    struct dbos_errinfo *info) {
    memset(out, 0, sizeof *out);
    out->sin_family = AF_INET;
    out->sin_port = htons(port);
    if (inet_pton(AF_INET, address, &out->sin_addr) != 1) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "\"%s\" is not an IPv4 address",
                         address);
    }
    return DBOS_OK;
}

static enum dbos_err posix_tcp_listen(struct dbos_env *env, const char *address, uint16_t port,
                                      int *out, uint16_t *out_port, struct dbos_errinfo *info) {
    struct sockaddr_in where;
    (void)env;
    *out = -1;
    enum dbos_err err = socket_address(address, port, &where, info);
    if (err != DBOS_OK) {
        return err;
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return io_error(info, "make a socket for", address);
    }
    int one = 1;
    socklen_t size = sizeof where;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&where, sizeof where) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&where, &size) != 0) {
        err = dbos_fail(info, DBOS_ERR_IO, "cannot listen on %s port %u: %s", address, port,
                        strerror(errno));
        (void)close(fd);
        return err;
    }
    *out_port = ntohs(where.sin_port);
    *out = fd;
    return DBOS_OK;
}

static bool connect_within(int fd, const struct sockaddr_in *where, uint32_t timeout_ms) {
    if (connect(fd, (const struct sockaddr *)where, sizeof *where) == 0) {
        return true;
    }
    if (errno != EINPROGRESS) {
        return false;
    }
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    uint64_t end_ns = posix_mono_ns(NULL) + (uint64_t)timeout_ms * 1000000;
    int ready = 0;
    do {
        uint64_t now_ns = posix_mono_ns(NULL);
        uint64_t left_ms = now_ns < end_ns ? (end_ns - now_ns + 999999) / 1000000 : 0;
        ready = poll(&poll_fd, 1, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
    } while (ready < 0 && errno == EINTR);
    int cause = 0;
    socklen_t size = sizeof cause;
    if (ready == 0) {
        errno = ETIMEDOUT;
    }
    if (ready <= 0) {
        return false;
    }
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &cause, &size);
    errno = cause;
    return cause == 0;
}

static enum dbos_err posix_tcp_connect(struct dbos_env *env, const char *address, uint16_t port,
                                       uint32_t timeout_ms, int *out, struct dbos_errinfo *info) {
    struct sockaddr_in where;
    (void)env;
    *out = -1;
    enum dbos_err err = socket_address(address, port, &where, info);
    if (err != DBOS_OK) {
        return err;
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return io_error(info, "make a socket for", address);
    }
    if (!connect_within(fd, &where, timeout_ms)) {
        err = dbos_fail(info, DBOS_ERR_CONNECTION_LOST, "cannot connect to %s port %u: %s", address,
                        port, strerror(errno));
        (void)close(fd);
        return err;
    }
    int one = 1;
    int flags = fcntl(fd, F_GETFL);
    (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *out = fd;
    return DBOS_OK;
}

static const struct dbos_env_ops posix_ops = {
    .wall_us = posix_wall_us,
    .mono_ns = posix_mono_ns,
    .sleep_us = posix_sleep_us,
    .random_u64 = posix_random_u64,
    .file_open = posix_file_open,
    .file_close = posix_file_close,
    .file_read = posix_file_read,
    .file_write = posix_file_write,
    .file_sync = posix_file_sync,
    .file_size = posix_file_size,
    .file_truncate = posix_file_truncate,
    .file_lock = posix_file_lock,
    .path_rename = posix_path_rename,
    .path_remove = posix_path_remove,
    .dir_make = posix_dir_make,
    .dir_sync = posix_dir_sync,
    .dir_list = posix_dir_list,
    .tcp_listen = posix_tcp_listen,
    .tcp_connect = posix_tcp_connect,
};

struct dbos_env *dbos_env_posix(void) {
    /* Not mutable state: the pointer is to a constant, and `state` is unused here. */
    static struct dbos_env env = {.ops = &posix_ops, .state = NULL};
    return &env;
}
