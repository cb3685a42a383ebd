/* A client of the PostgreSQL protocol for programs that cut connections: it sends as much of a
 * request as it is told to, reads as much of the reply, and goes.
 *
 * Thread: one for each client. Memory: none. */
#ifndef DBOS_TESTS_SUPPORT_RAW_CLIENT_H
#define DBOS_TESTS_SUPPORT_RAW_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RAW_BYTES_MAX = 4096 };

struct raw_bytes {
    uint8_t data[RAW_BYTES_MAX];
    size_t size_bytes;
};

/* What of a reply came, without what only belongs to the conversation: RowDescription, DataRow and
 * CommandComplete (but that of a SET in front), each as it came; or an ErrorResponse alone. */
struct raw_reply {
    struct raw_bytes bytes; /* the last message may be cut; one with an error never is */
    bool has_outcome;       /* more than a description, which may come ahead of an error */
    bool is_whole;          /* it ended with ReadyForQuery */
    bool is_fatal;          /* the server has ended the connection, in so many words; behind this */
    bool is_stuck;          /* a minute without a byte, or more of them than expected */
    char state[6];          /* SQLSTATE of the last error; "" = none */
};

/* Append messages. `is_extended`: Parse, Bind, Describe, Execute, Sync; else Query. */
void raw_put_request(struct raw_bytes *out, const char *sql, bool is_extended);

/* Connect and start a session. -1: nobody is there, or it did not go well. */
int raw_open(int port, const char *user);
/* `abruptly`: what is on its way is dropped (RST). */
void raw_close(int file, bool abruptly);
/* The first `size_bytes` of them. False: the connection is gone. */
bool raw_send(int file, const struct raw_bytes *bytes, size_t size_bytes);
/* Read until ReadyForQuery, the end of the connection, or until about `bytes_max` have come. A SET
 * that the request begins with is passed over. */
void raw_read(int file, size_t bytes_max, bool begins_with_set, struct raw_reply *out);

#endif /* DBOS_TESTS_SUPPORT_RAW_CLIENT_H */
