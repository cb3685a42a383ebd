/* The front door of a real engine, under ThreadSanitizer: clients with pipelines, others that
 * vanish in the middle or cancel each other, DDL in between, and a stop while all are at it. What
 * was acknowledged is there, once over io_uring and once over poll(). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/net.h"

enum { CLIENTS = 6, ROUNDS = 40, PIPELINE = 12, ACCOUNTS = 16, PARTITIONS = 2 };

static void fail(const char *what, const struct dbos_errinfo *info) {
    (void)fprintf(stderr, "stress_net: %s: %s\n", what, info == NULL ? "" : info->message);
    exit(1);
}

struct client {
    uint16_t port;
    uint32_t number;
    pthread_t thread;
    int file;
    uint8_t in[65536];
    size_t size_bytes;
    uint8_t key[8];   /* process and key, as BackendKeyData has them */
    uint32_t updates; /* acknowledged */
    uint32_t errors;
    uint32_t last_number; /* of the last row seen */
};

static bool send_all(const struct client *client, const void *data, size_t size_bytes) {
    const char *at = data;
    while (size_bytes != 0) {
        ssize_t sent = send(client->file, at, size_bytes, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        at += sent;
        size_bytes -= (size_t)sent;
    }
    return true;
}

static bool query(const struct client *client, const char *text) {
    uint8_t message[1024] = {'Q'};
    uint32_t size_bytes = (uint32_t)strlen(text) + 1;
    dbos_store_u32(message + 1, __builtin_bswap32(size_bytes + 4));
    memcpy(message + 5, text, size_bytes);
    return send_all(client, message, size_bytes + 5);
}

static void note(struct client *client, const uint8_t *message, uint32_t length) {
    const char *text = (const char *)message + 5;
    if (message[0] == 'C' && strncmp(text, "UPDATE 1", 8) == 0) {
        client->updates++;
    } else if (message[0] == 'E') {
        client->errors++;
    } else if (message[0] == 'K') {
        memcpy(client->key, text, sizeof client->key);
    } else if (message[0] == 'D' && length > 10) {
        client->last_number = (uint32_t)strtoul(text + 6, NULL, 10);
    }
}

/* Until `count` ReadyForQuery have come; false = the connection has ended. */
static bool read_ready(struct client *client, int count) {
    while (count > 0) {
        size_t at = 0;
        while (client->size_bytes - at >= 5 && count > 0) {
            uint32_t length = __builtin_bswap32(dbos_load_u32(client->in + at + 1));
            if (client->size_bytes - at < length + 1) {
                break;
            }
            note(client, client->in + at, length);
            count -= client->in[at] == 'Z';
            at += length + 1;
        }
        memmove(client->in, client->in + at, client->size_bytes - at);
        client->size_bytes -= at;
        if (count == 0) {
            return true;
        }
        ssize_t got = recv(client->file, client->in + client->size_bytes,
                           sizeof client->in - 1 - client->size_bytes, 0);
        if (got <= 0) {
            return false;
        }
        client->size_bytes += (size_t)got;
    }
    return true;
}

static bool begin(struct client *client) {
    static const char startup[] = "\0\0\0\x20\0\x03\0\0user\0ana\0database\0dbos\0";
    struct dbos_env *env = dbos_env_posix();
    struct dbos_errinfo info;
    client->size_bytes = 0;
    client->file = -1;
    return env->ops->tcp_connect(env, "127.0.0.1", client->port, 5000, &client->file, &info) ==
               DBOS_OK &&
           send_all(client, startup, sizeof startup) && read_ready(client, 1);
}

static void end(const struct client *client) {
    if (client->file >= 0) {
        (void)close(client->file);
    }
}

/* Updates of one account or of all, ahead of their replies. */
static bool pipeline(struct client *client, uint32_t round) {
    char text[256];
    for (uint32_t i = 0; i < PIPELINE; i++) {
        uint32_t account = (client->number * 7 + round * 5 + i / 4) % ACCOUNTS;
        (void)snprintf(text, sizeof text, "update account set n = n + 1 where id = %u", account);
        if (i == PIPELINE / 2) {
            (void)snprintf(text, sizeof text, "select sum(n) from account");
        }
        if (i == PIPELINE / 4) { /* while others come and go */
            (void)snprintf(text, sizeof text, "select count(*) from dbos.%s",
                           round % 2 == 0 ? "sessions" : "memory");
        }
        if (!query(client, text)) {
            return false;
        }
    }
    return read_ready(client, PIPELINE);
}

static void cancel(const struct client *client) {
    uint8_t packet[16] = {0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e};
    struct client other = {.port = client->port, .file = -1};
    struct dbos_env *env = dbos_env_posix();
    struct dbos_errinfo info;
    memcpy(packet + 8, client->key, sizeof client->key);
    if (env->ops->tcp_connect(env, "127.0.0.1", client->port, 5000, &other.file, &info) ==
        DBOS_OK) {
        (void)send_all(&other, packet, sizeof packet);
    }
    end(&other);
}

static void *work(void *arg) {
    struct client *client = arg;
    if (!begin(client)) {
        fail("cannot begin", NULL);
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        char text[128];
        if (!pipeline(client, round)) {
            fail("the connection ended", NULL);
        }
        if (client->number == 0 && round % 8 == 0) {
            (void)snprintf(text, sizeof text,
                           "create table x%u (a int primary key); drop table x%u", round, round);
            if (!query(client, text) || !read_ready(client, 1)) {
                fail("cannot define", NULL);
            }
        }
        if (client->number == 1 && round % 4 == 0) {
            cancel(client); /* perhaps in time for the next round's: then it is an error there */
        }
    }
    end(client);
    return NULL;
}

/* Come, ask, go without waiting. */
static void *vanish(void *arg) {
    struct client *client = arg;
    for (int round = 0; round < ROUNDS; round++) {
        if (begin(client)) {
            (void)query(client, "select sum(n) from account");
            (void)query(client, "select n from account where id = 1");
        }
        end(client);
    }
    return NULL;
}

/* Until the node goes. */
static void *stay(void *arg) {
    struct client *client = arg;
    uint32_t round = 0;
    if (begin(client)) {
        while (pipeline(client, round++)) {
        }
    }
    end(client);
    return NULL;
}

static void start(struct client *client, uint32_t number, uint16_t port, void *(*run)(void *)) {
    *client = (struct client){.port = port, .number = number};
    if (pthread_create(&client->thread, NULL, run, client) != 0) {
        fail("no thread", NULL);
    }
}

static void make_accounts(struct client *client) {
    char text[256];
    bool goes = query(client, "create table account (id int primary key, n bigint not null) "
                              "partition by hash (id)") &&
                read_ready(client, 1);
    for (int i = 0; goes && i < ACCOUNTS; i++) {
        (void)snprintf(text, sizeof text, "insert into account values (%d, 0)", i);
        goes = query(client, text) && read_ready(client, 1);
    }
    if (!goes || client->errors != 0) {
        fail("cannot make the accounts", NULL);
    }
}

static void drive(struct dbos_net *net) {
    static struct client clients[CLIENTS + 3]; /* large; main's alone */
    struct client *owner = &clients[CLIENTS + 2];
    uint16_t port = dbos_net_port(net);
    uint32_t updates = 0;
    *owner = (struct client){.port = port};
    if (!begin(owner)) {
        fail("cannot begin", NULL);
    }
    make_accounts(owner);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        start(&clients[i], i, port, i == CLIENTS - 1 ? vanish : work);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        (void)pthread_join(clients[i].thread, NULL);
        updates += clients[i].updates;
        if (clients[i].errors != 0 && i != 1) {
            fail("an error that nobody asked for", NULL);
        }
    }
    if (!query(owner, "select sum(n) from account") || !read_ready(owner, 1) ||
        owner->last_number != updates) {
        (void)fprintf(stderr, "stress_net: %u updates acknowledged, sum %u\n", updates,
                      owner->last_number);
        exit(1);
    }
    end(owner);
    for (uint32_t i = 0; i < 2; i++) {
        start(&clients[CLIENTS + i], i, port, stay);
    }
    (void)usleep(100000);
    if (!dbos_net_drain(net, 20000)) {
        fail("clients did not go", NULL);
    }
    dbos_net_stop(net);
    for (uint32_t i = 0; i < 2; i++) {
        (void)pthread_join(clients[CLIENTS + i].thread, NULL);
    }
}

static void run(struct dbos_alloc *alloc, const char *data, enum dbos_loop_kind loop) {
    struct dbos_engine *engine = NULL;
    struct dbos_net *net = NULL;
    struct dbos_errinfo info = {0};
    struct dbos_engine_options options = {
        .env = dbos_env_posix(),
        .data_dir = data,
        .partitions = PARTITIONS,
        .durability = DBOS_DURABILITY_SYNC,
        .program_dir = ".",
        .segment_bytes = 1 << 20,
        .snapshot_log_bytes = 1, /* one after the other */
    };
    struct dbos_net_options net_options = {.loop = loop};
    if (dbos_engine_open(alloc, &options, &engine, &info) != DBOS_OK ||
        dbos_net_open(alloc, engine, &net_options, &net, &info) != DBOS_OK ||
        dbos_engine_start(engine, dbos_net_durable, net, &info) != DBOS_OK ||
        dbos_net_start(net, &info) != DBOS_OK) {
        fail("cannot start", &info);
    }
    drive(net);
    dbos_engine_stop(engine);
    dbos_engine_close(engine);
    dbos_net_close(net);
}

int main(void) {
    static const enum dbos_loop_kind loops[] = {DBOS_LOOP_BEST, DBOS_LOOP_POLL};
    char dir[] = "/tmp/dbosd-stress-XXXXXX";
    char command[96];
    struct dbos_alloc alloc;
    if (mkdtemp(dir) == NULL) {
        fail("no directory", NULL);
    }
    dbos_alloc_init(&alloc, "stress", 0);
    for (int i = 0; i < 2; i++) {
        char data[64];
        (void)snprintf(data, sizeof data, "%s/%d", dir, i);
        run(&alloc, data, loops[i]);
    }
    dbos_alloc_fini(&alloc);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    (void)!system(command);
    (void)printf("stress_net: ok\n");
    return 0;
}
