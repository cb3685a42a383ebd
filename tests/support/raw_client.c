#include "tests/support/raw_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SILENCE_MS = 60000, HEAD_BYTES = 5 };

/* -- messages out -------------------------------------------------------------------------------
 */

static void put(struct raw_bytes *out, const void *data, size_t size_bytes) {
    if (size_bytes > sizeof out->data - out->size_bytes) {
        abort();
    }
    memcpy(out->data + out->size_bytes, data, size_bytes);
    out->size_bytes += size_bytes;
}

static void put_text(struct raw_bytes *out, const char *text) { put(out, text, strlen(text) + 1); }

/* Type and room for the length (no type: 0); returns where the length is. */
static size_t begin(struct raw_bytes *out, char type) {
    if (type != 0) {
        put(out, &type, 1);
    }
    size_t at = out->size_bytes;
    put(out, "\0\0\0\0", 4);
    return at;
}

static void end(struct raw_bytes *out, size_t at) {
    uint32_t size = htonl((uint32_t)(out->size_bytes - at));
    memcpy(out->data + at, &size, sizeof size);
}

static void put_message(struct raw_bytes *out, char type, const void *body, size_t size_bytes) {
    size_t at = begin(out, type);
    put(out, body, size_bytes);
    end(out, at);
}

void raw_put_request(struct raw_bytes *out, const char *sql, bool is_extended) {
    if (!is_extended) {
        put_message(out, 'Q', sql, strlen(sql) + 1);
        return;
    }
    size_t at = begin(out, 'P');
    put_text(out, "");
    put_text(out, sql);
    put(out, "\0\0", 2);
    end(out, at);
    put_message(out, 'B', "\0\0\0\0\0\0\0\0", 8); /* no names, formats or parameters */
    put_message(out, 'D', "P", 2);
    put_message(out, 'E', "\0\0\0\0\0", 5);
    put_message(out, 'S', "", 0);
}

static void put_startup(struct raw_bytes *out, const char *user) {
    size_t at = begin(out, 0);
    put(out, "\0\3\0\0", 4);
    put_text(out, "user");
    put_text(out, user);
    put_text(out, "database");
    put_text(out, "dbos");
    put(out, "", 1);
    end(out, at);
}

/* -- the connection -----------------------------------------------------------------------------
 */

int raw_open(int port, const char *user) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct raw_bytes hello = {.size_bytes = 0};
    struct raw_reply reply;
    int one = 1;
    int file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    put_startup(&hello, user);
    (void)setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(file, (struct sockaddr *)&address, sizeof address) == 0 &&
        raw_send(file, &hello, hello.size_bytes)) {
        raw_read(file, SIZE_MAX, false, &reply);
        if (reply.is_whole && reply.state[0] == 0) {
            return file;
        }
    }
    (void)close(file);
    return -1;
}

void raw_close(int file, bool abruptly) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    if (abruptly) {
        (void)setsockopt(file, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    (void)close(file);
}

bool raw_send(int file, const struct raw_bytes *bytes, size_t size_bytes) {
    size_t sent = 0;
    while (sent < size_bytes) {
        ssize_t size = send(file, bytes->data + sent, size_bytes - sent, MSG_NOSIGNAL);
        if (size <= 0) {
            return false;
        }
        sent += (size_t)size;
    }
    return true;
}

/* -- the reply ----------------------------------------------------------------------------------
 */

static size_t message_size(const uint8_t *at, size_t left) {
    uint32_t size = 0;
    if (left < HEAD_BYTES) {
        return SIZE_MAX;
    }
    memcpy(&size, at + 1, sizeof size);
    return (size_t)ntohl(size) + 1;
}

static void take_error(const uint8_t *at, size_t size_bytes, struct raw_reply *out) {
    const char *field = (const char *)at + HEAD_BYTES;
    const char *over = (const char *)at + size_bytes;
    while (field < over && *field != 0) {
        if (*field == 'C') {
            (void)snprintf(out->state, sizeof out->state, "%s", field + 1);
        }
        out->is_fatal = out->is_fatal || strcmp(field, "SFATAL") == 0;
        field += strlen(field) + 1;
    }
}

static void take_message(const uint8_t *at, size_t size_bytes, bool is_whole,
                         struct raw_reply *out) {
    uint8_t type = at[0];
    if (type == 'E' && is_whole) {
        take_error(at, size_bytes, out);
        out->bytes.size_bytes = out->is_fatal ? out->bytes.size_bytes : 0;
    }
    if (type == 'T' || type == 'D' || type == 'C' || (type == 'E' && is_whole && !out->is_fatal)) {
        put(&out->bytes, at, size_bytes);
        out->has_outcome = out->has_outcome || type != 'T';
    }
    out->is_whole = type == 'Z' && is_whole;
}

static void take_reply(const struct raw_bytes *in, bool begins_with_set, struct raw_reply *out) {
    *out = (struct raw_reply){.is_whole = false};
    for (size_t at = 0; at < in->size_bytes;) {
        size_t left = in->size_bytes - at;
        size_t size = message_size(in->data + at, left);
        bool is_whole = size <= left;
        bool is_set = in->data[at] == 'C' && begins_with_set;
        size = is_whole ? size : left;
        begins_with_set = begins_with_set && !is_set;
        if (!is_set) {
            take_message(in->data + at, size, is_whole, out);
        }
        at += size;
    }
}

void raw_read(int file, size_t bytes_max, bool begins_with_set, struct raw_reply *out) {
    struct raw_bytes in = {.size_bytes = 0};
    *out = (struct raw_reply){.is_whole = false};
    while (!out->is_whole && in.size_bytes < bytes_max) {
        struct pollfd poll_file = {.fd = file, .events = POLLIN};
        size_t room = sizeof in.data - in.size_bytes;
        size_t wanted = bytes_max - in.size_bytes;
        if (room == 0 || poll(&poll_file, 1, SILENCE_MS) == 0) {
            out->is_stuck = true;
            break;
        }
        ssize_t size = recv(file, in.data + in.size_bytes, wanted < room ? wanted : room, 0);
        if (size <= 0) {
            break;
        }
        in.size_bytes += (size_t)size;
        take_reply(&in, begins_with_set, out);
    }
}
