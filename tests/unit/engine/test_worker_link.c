#include "engine/worker_link.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(engine_worker_link, .timeout = 30);

static int listen_anywhere(uint16_t *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int file = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_geq(file, 0);
    cr_assert_eq(bind(file, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(file, 4), 0);
    cr_assert_eq(getsockname(file, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return file;
}

static void read_hello(int connection, struct dbos_frame_hello *out) {
    uint8_t bytes[DBOS_FRAME_BYTES + sizeof *out];
    struct dbos_frame frame;
    size_t have = 0;
    while (have < sizeof bytes) {
        ssize_t got = read(connection, bytes + have, sizeof bytes - have);
        cr_assert_gt(got, 0);
        have += (size_t)got;
    }
    cr_assert_eq(dbos_frame_decode(bytes, &frame, NULL), DBOS_OK);
    cr_assert_eq(frame.kind, DBOS_FRAME_HELLO);
    cr_assert_eq(dbos_frame_get_hello(bytes + DBOS_FRAME_BYTES, frame.payload_bytes, out, NULL),
                 DBOS_OK);
}

/* Goal: a worker knows the database again: over connections, and over its restarts. */
Test(engine_worker_link, each_connection_begins_with_the_source_of_the_database) {
    struct dbos_env *env = dbos_env_posix();
    struct dbos_alloc alloc;
    struct dbos_worker_link *link = NULL;
    struct dbos_frame_hello hello;
    char address[32];
    uint16_t port = 0;
    int listener = listen_anywhere(&port);
    dbos_alloc_init(&alloc, "link", 0);
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", port);
    struct dbos_worker_link_options options = {
        .env = env, .program_dir = "", .address = address, .source = 0x1122334455667788u};
    cr_assert_eq(dbos_worker_link_open(&alloc, &options, &link, NULL), DBOS_OK);
    for (uint64_t round = 1; round <= 3; round++) {
        while (dbos_worker_link_epoch(link) < round) {
            dbos_worker_link_step(link, env->ops->mono_ns(env));
            usleep(1000);
        }
        int connection = accept(listener, NULL, NULL);
        cr_assert_geq(connection, 0);
        read_hello(connection, &hello);
        cr_expect_eq(hello.source, options.source);
        cr_expect_str_eq(hello.name, "dbosd");
        (void)close(connection);
        while (dbos_worker_link_connected(link)) {
            struct dbos_frame frame;
            void *payload = NULL;
            cr_assert_not(dbos_worker_link_receive(link, &frame, &payload));
            usleep(1000);
        }
    }
    dbos_worker_link_close(link);
    dbos_alloc_fini(&alloc);
    (void)close(listener);
}
