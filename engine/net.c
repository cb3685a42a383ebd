#include "engine/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/rounds.h"
#include "engine/session.h"

enum {
    IN_BYTES = 4096,            /* an idle connection's buffer */
    KEPT_BYTES_MAX = 65536,     /* buffers larger than this are given back when empty */
    CONNECTIONS_MAX = 1000,     /* default */
    STARTING_MAX = 64,          /* more connections than sessions: they are told 53300 */
    STARTUP_TIMEOUT_MS = 10000, /* default */
    TICK_US = 100000,           /* how often time-outs are looked at */
    IDLE_US = 1000000,
    STOPPING_US = 1000,
    HELD_US = 500,       /* what follows a reply may be slow after all */
    HELD_SYNC_US = 5000, /* where nearly all replies wait for the disk anyway */
    LONELY_TURNS = 8,    /* in a row in which one client was heard, always the same */
};

struct connection {
    struct dbos_net *net;
    struct connection *next;
    struct connection *previous;
    struct connection *next_dirty;
    struct connection *next_held;
    struct connection *next_busy;
    struct connection *previous_busy;
    bool is_dirty;
    bool is_held;
    bool is_busy;     /* in the list of those that wait for something, perhaps for the disk */
    bool is_admitted; /* counts as a session */
    bool is_closing;  /* nothing is sent or received any more */
    int file;
    uint64_t since_ns; /* it has been waited for: until it is a session, or takes its last reply */
    bool is_ending;    /* its session is over, and something is on its way */
    uint64_t heard_round; /* dbos_rounds_hear() */
    struct dbos_session *session;
    struct dbos_loop_op recv;
    struct dbos_loop_op send;
    struct dbos_buf in;
    struct dbos_buf out;     /* being filled */
    struct dbos_buf sending; /* being sent */
    size_t sent_bytes;
};

struct dbos_net {
    struct dbos_alloc *alloc;
    struct dbos_alloc *session_alloc;
    struct dbos_engine *engine;
    struct dbos_env *env;
    struct dbos_loop *loop;
    struct dbos_session_pool *pool;
    uint32_t connections_max;
    uint64_t startup_timeout_ns;
    int listener;
    uint16_t port;
    int wake_file;
    struct dbos_queue done; /* requests that have ended; others look at what is above, too, and this
                               thread writes only below */
    _Atomic uint32_t is_unheard; /* a reply that may leave has come, and its row has not ended */
    uint8_t apart[64];
    struct dbos_submitter submitter;
    struct dbos_loop_op accept;
    struct dbos_loop_op wake;
    struct connection *connections;
    struct connection *dirty;
    struct connection *held; /* have replies, and more are about to come */
    uint64_t held_ns;        /* since then */
    struct connection *busy;
    uint32_t busy_count;
    struct connection *heard;  /* in this turn: the last one that messages were taken from */
    uint32_t heard_count;      /* connections in this turn, or more */
    struct connection *lonely; /* the only one that was heard in the last turns, or NULL */
    uint32_t lonely_turns;
    struct dbos_rounds rounds;
    _Atomic uint32_t connection_count;
    uint32_t session_count;
    bool accept_paused; /* out of descriptors */
    bool wants_uring;   /* nobody asked for poll() */
    bool is_drained;    /* draining has been noticed */
    uint64_t durable;
    uint64_t looked_ns; /* when the clock was looked at last */
    uint64_t ticked_ns;
    _Atomic uint32_t draining;
    _Atomic uint32_t stopping;
    pthread_t thread;
    bool is_running;
};

static uint64_t now_ns(const struct dbos_net *net) { return net->env->ops->mono_ns(net->env); }

static void mark_dirty(struct connection *connection) {
    if (!connection->is_dirty) {
        connection->is_dirty = true;
        connection->next_dirty = connection->net->dirty;
        connection->net->dirty = connection;
    }
}

/* One of a row of short requests has ended: what ends the row makes one send of their replies. */
static void hold(struct connection *connection) {
    struct dbos_net *net = connection->net;
    if (!connection->is_held) {
        net->held_ns = net->held == NULL ? net->looked_ns : net->held_ns;
        connection->is_held = true;
        connection->next_held = net->held;
        net->held = connection;
    }
}

static void release_held(struct dbos_net *net) {
    while (net->held != NULL) {
        struct connection *connection = net->held;
        net->held = connection->next_held;
        connection->is_held = false;
        mark_dirty(connection);
    }
}

/* Ten thousand connections that say nothing cost nothing when the watermark moves. */
static void set_busy(struct connection *connection, bool is_busy) {
    struct dbos_net *net = connection->net;
    if (connection->is_busy == is_busy) {
        return;
    }
    connection->is_busy = is_busy;
    net->busy_count += is_busy ? 1 : UINT32_MAX;
    dbos_session_pool_share(net->pool, net->busy_count);
    if (is_busy) {
        connection->previous_busy = NULL;
        connection->next_busy = net->busy;
        net->busy = connection;
    } else if (connection->previous_busy != NULL) {
        connection->previous_busy->next_busy = connection->next_busy;
    } else {
        net->busy = connection->next_busy;
    }
    if (connection->next_busy != NULL) {
        connection->next_busy->previous_busy = is_busy ? connection : connection->previous_busy;
    }
}

/* -- connections: in ----------------------------------------------------------------------------
 */

static void disconnect(struct connection *connection) {
    if (!connection->is_closing) {
        connection->is_closing = true;
        dbos_session_abandon(connection->session);
        dbos_loop_cancel(connection->net->loop, &connection->recv);
        dbos_loop_cancel(connection->net->loop, &connection->send);
    }
    mark_dirty(connection);
}

static void received(struct dbos_loop_op *op, int32_t result) {
    struct connection *connection = op->owner;
    if (result <= 0) {
        disconnect(connection);
        return;
    }
    connection->in.size_bytes += (size_t)result;
    mark_dirty(connection);
}

/* Memory follows what has come, not what a length field promises. */
static void receive(struct connection *connection) {
    struct dbos_buf *in = &connection->in;
    size_t wanted = dbos_session_needs(connection->session);
    if (in->size_bytes == 0 && in->capacity_bytes > KEPT_BYTES_MAX) {
        dbos_buf_fini(in);
        dbos_buf_init(in, connection->net->session_alloc);
    }
    size_t room = in->size_bytes < IN_BYTES / 2 ? IN_BYTES - in->size_bytes : in->size_bytes;
    if (wanted > in->size_bytes && wanted - in->size_bytes < room && wanted > IN_BYTES) {
        room = wanted - in->size_bytes;
    }
    if (in->capacity_bytes - in->size_bytes < room &&
        (in->capacity_bytes == in->size_bytes || wanted > in->capacity_bytes)) {
        if (dbos_buf_reserve(in, room) == NULL) {
            disconnect(connection);
            return;
        }
    }
    dbos_loop_recv(connection->net->loop, &connection->recv, connection->file,
                   in->data + in->size_bytes, in->capacity_bytes - in->size_bytes);
}

static void note_heard(struct connection *connection) {
    struct dbos_net *net = connection->net;
    if (net->heard != connection) {
        net->heard = connection;
        net->heard_count++;
    }
    dbos_rounds_hear(&net->rounds, &connection->heard_round);
}

/* Bytes used. */
static size_t feed(struct connection *connection) {
    struct dbos_buf *in = &connection->in;
    if (in->size_bytes == 0 || connection->recv.is_active) {
        return 0; /* the buffer is the kernel's; what is in it was looked at before */
    }
    size_t used = dbos_session_feed(connection->session, in->data, in->size_bytes);
    DBOS_CHECK(used <= in->size_bytes);
    if (used != 0) {
        memmove(in->data, in->data + used, in->size_bytes - used);
        in->size_bytes -= used;
        note_heard(connection);
    }
    return used;
}

/* -- connections: out ---------------------------------------------------------------------------
 */

/* Empty it, and keep its memory unless that is much. */
static void give_large(struct connection *connection, struct dbos_buf *buf) {
    if (buf->capacity_bytes > KEPT_BYTES_MAX) {
        dbos_buf_fini(buf);
        dbos_buf_init(buf, connection->net->session_alloc);
    }
    dbos_buf_reset(buf);
}

static void send_rest(struct connection *connection) {
    dbos_loop_send(connection->net->loop, &connection->send, connection->file,
                   connection->sending.data + connection->sent_bytes,
                   connection->sending.size_bytes - connection->sent_bytes);
}

static void sent(struct dbos_loop_op *op, int32_t result) {
    struct connection *connection = op->owner;
    if (result <= 0 || connection->is_closing) {
        disconnect(connection);
        return;
    }
    connection->since_ns = connection->is_ending ? now_ns(connection->net) : connection->since_ns;
    connection->sent_bytes += (size_t)result;
    if (connection->sent_bytes < connection->sending.size_bytes) {
        send_rest(connection);
        return;
    }
    give_large(connection, &connection->sending);
    connection->sent_bytes = 0;
    mark_dirty(connection);
}

/* One send of what was collected. True: all of it has gone. */
static bool send_out(struct connection *connection) {
    size_t sent_bytes = 0;
    if (!dbos_loop_send_now(connection->file, connection->out.data, connection->out.size_bytes,
                            &sent_bytes)) {
        disconnect(connection);
        return false;
    }
    if (sent_bytes == connection->out.size_bytes) {
        give_large(connection, &connection->out);
        return true;
    }
    struct dbos_buf empty = connection->sending;
    connection->sending = connection->out;
    connection->out = empty;
    connection->sent_bytes = sent_bytes;
    send_rest(connection);
    return false;
}

/* Everything that may leave, in one send, unless it is much. */
static void flush(struct connection *connection) {
    bool is_more = true;
    while (is_more) {
        is_more =
            dbos_session_collect(connection->session, connection->net->durable, &connection->out);
        if (connection->out.failed) {
            disconnect(connection); /* out of memory: the conversation has a hole */
            return;
        }
        if (connection->send.is_active || connection->out.size_bytes == 0 ||
            !send_out(connection)) {
            return;
        }
    }
}

/* -- connections: life --------------------------------------------------------------------------
 */

static bool admit(void *owner) {
    struct connection *connection = owner;
    struct dbos_net *net = connection->net;
    if (net->session_count >= net->connections_max) {
        return false;
    }
    net->session_count++;
    connection->is_admitted = true;
    return true;
}

static void cancel(void *owner, uint32_t process, uint32_t key) {
    struct connection *connection = owner;
    for (struct connection *at = connection->net->connections; at != NULL; at = at->next) {
        if (dbos_session_cancel(at->session, process, key)) {
            return;
        }
    }
}

/* By any thread. A reply that must wait for the disk is no reason to wake the net thread: the
 * watermark will. It is looked at behind the push, because it may have moved before. Of several
 * that end one after the other, the last one wakes it. */
static void request_done(struct dbos_request *request) {
    struct dbos_net *net = request->on_done_arg;
    uint64_t gate = request->gate_position;
    bool is_awaited = atomic_load_explicit(&request->is_awaited, memory_order_relaxed) != 0;
    bool is_followed = request->is_followed && !is_awaited;
    dbos_queue_push_quietly(&net->done, &request->node); /* it may be gone now */
    bool may_leave = gate == 0 || gate <= dbos_engine_durable(net->engine);
    if (is_followed && may_leave) {
        atomic_store_explicit(&net->is_unheard, 1, memory_order_release);
    }
    if (is_followed) {
        return;
    }
    /* The row that ends with one for the disk may have begun with one that need not wait. */
    bool is_unheard = atomic_load_explicit(&net->is_unheard, memory_order_relaxed) != 0 &&
                      atomic_exchange(&net->is_unheard, 0) != 0;
    if (is_awaited || may_leave || is_unheard) {
        dbos_queue_kick(&net->done);
    }
}

static void describe_peer(int file, char *out, size_t out_bytes) {
    struct sockaddr_in peer = {0};
    socklen_t size = sizeof peer;
    char text[INET_ADDRSTRLEN] = "?";
    if (getpeername(file, (struct sockaddr *)&peer, &size) == 0 && peer.sin_family == AF_INET) {
        (void)inet_ntop(AF_INET, &peer.sin_addr, text, sizeof text);
    }
    (void)snprintf(out, out_bytes, "%s:%u", text, ntohs(peer.sin_port));
}

static struct connection *open_connection(struct dbos_net *net, int file) {
    char peer[64];
    struct connection *connection = dbos_take_zero(net->session_alloc, sizeof *connection);
    if (connection == NULL) {
        return NULL;
    }
    describe_peer(file, peer, sizeof peer);
    connection->net = net;
    connection->file = file;
    connection->since_ns = now_ns(net);
    connection->recv = (struct dbos_loop_op){.done = received, .owner = connection};
    connection->send = (struct dbos_loop_op){.done = sent, .owner = connection};
    dbos_buf_init(&connection->in, net->session_alloc);
    dbos_buf_init(&connection->out, net->session_alloc);
    dbos_buf_init(&connection->sending, net->session_alloc);
    struct dbos_session_options options = {
        .engine = net->engine,
        .submitter = &net->submitter,
        .pool = net->pool,
        .address = peer,
        .owner = connection,
        .now_ns = &net->looked_ns,
        .on_done = request_done,
        .on_done_arg = net,
        .admit = admit,
        .cancel = cancel,
    };
    if (dbos_session_open(&options, &connection->session) != DBOS_OK) {
        dbos_give(net->session_alloc, connection);
        return NULL;
    }
    return connection;
}

/* More wait in the listener's queue: nobody is turned away without a word. */
static bool is_full(const struct dbos_net *net) {
    return atomic_load_explicit(&net->connection_count, memory_order_relaxed) >=
           net->connections_max + STARTING_MAX;
}

static void pause_accept(struct dbos_net *net) {
    net->accept_paused = true;
    dbos_loop_cancel(net->loop, &net->accept);
}

static void resume_accept(struct dbos_net *net) {
    if (net->accept_paused && !net->is_drained && !net->accept.is_active && !is_full(net)) {
        net->accept_paused = false;
        dbos_loop_accept(net->loop, &net->accept, net->listener);
    }
}

static void accepted(struct dbos_loop_op *op, int32_t result) {
    struct dbos_net *net = op->owner;
    if (result == -ECANCELED && net->is_drained) {
        (void)close(net->listener);
        net->listener = -1;
    } else if (result < 0 && result != -ECANCELED && result != -ECONNABORTED) {
        pause_accept(net); /* no descriptors or no memory: try again in a while */
    }
    if (result < 0) {
        return;
    }
    struct connection *connection = open_connection(net, result);
    if (connection == NULL) {
        (void)close(result);
        return;
    }
    int one = 1;
    (void)setsockopt(result, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connection->next = net->connections;
    if (connection->next != NULL) {
        connection->next->previous = connection;
    }
    net->connections = connection;
    atomic_fetch_add_explicit(&net->connection_count, 1, memory_order_relaxed);
    if (is_full(net)) {
        pause_accept(net);
    }
    mark_dirty(connection);
}

static void destroy(struct connection *connection) {
    struct dbos_net *net = connection->net;
    set_busy(connection, false);
    net->heard = net->heard == connection ? NULL : net->heard;
    net->lonely = net->lonely == connection ? NULL : net->lonely;
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    if (connection->previous != NULL) {
        connection->previous->next = connection->next;
    } else {
        net->connections = connection->next;
    }
    net->session_count -= connection->is_admitted;
    dbos_session_close(connection->session);
    dbos_buf_fini(&connection->in);
    dbos_buf_fini(&connection->out);
    dbos_buf_fini(&connection->sending);
    (void)close(connection->file);
    dbos_give(net->session_alloc, connection);
    atomic_fetch_sub_explicit(&net->connection_count, 1, memory_order_release);
    resume_accept(net);
}

static void end_session(struct connection *connection, enum dbos_err code, const char *text) {
    struct dbos_errinfo info;
    (void)dbos_fail(&info, code, "%s", text);
    dbos_session_end(connection->session, &info);
}

static void note_buffered(struct connection *connection) {
    const struct dbos_alloc *large_alloc = dbos_engine_reply_alloc(connection->net->engine);
    const struct dbos_buf *buffers[] = {&connection->in, &connection->out, &connection->sending};
    size_t bytes = 0;
    size_t large_bytes = 0;
    for (int i = 0; i < 3; i++) {
        bytes += buffers[i]->capacity_bytes;
        large_bytes += buffers[i]->alloc == large_alloc ? buffers[i]->capacity_bytes : 0;
    }
    dbos_session_note_buffered(connection->session, bytes, large_bytes);
}

/* Messages in and replies out, until neither leads to the other. */
static void exchange(struct connection *connection) {
    for (;;) {
        bool was_wanted = dbos_session_wants_input(connection->session);
        size_t used = feed(connection);
        flush(connection);
        note_buffered(connection);
        if (connection->is_closing || !dbos_session_wants_input(connection->session) ||
            (was_wanted && used == 0)) {
            return;
        }
    }
}

/* Do for one connection whatever can be done now. */
static void serve(struct connection *connection) {
    struct dbos_session *session = connection->session;
    if (!connection->is_closing) {
        exchange(connection);
        if (connection->net->is_drained && dbos_session_is_idle(session) &&
            !dbos_session_is_over(session)) {
            end_session(connection, DBOS_ERR_SHUTDOWN,
                        "terminating connection due to administrator command");
            flush(connection);
        }
    }
    set_busy(connection, !dbos_session_is_idle(session));
    if (!connection->is_closing && dbos_session_is_over(session) && dbos_session_is_idle(session) &&
        !connection->send.is_active && connection->out.size_bytes == 0) {
        disconnect(connection);
    }
    if (connection->is_closing) {
        if (!connection->recv.is_active && !connection->send.is_active && !connection->is_dirty &&
            !connection->is_held && dbos_session_in_flight(session) == 0) {
            destroy(connection);
        }
        return;
    }
    if (!connection->recv.is_active && dbos_session_wants_input(session) &&
        connection->out.size_bytes == 0) {
        receive(connection);
    }
}

static void serve_dirty(struct dbos_net *net) {
    while (net->dirty != NULL) {
        struct connection *connection = net->dirty;
        net->dirty = connection->next_dirty;
        connection->is_dirty = false;
        serve(connection);
    }
}

/* -- the thread ---------------------------------------------------------------------------------
 */

/* False: none has ended that is not followed by more. */
static bool take_done(struct dbos_net *net) {
    struct dbos_queue_node *node;
    bool any = false;
    while ((node = dbos_queue_pop(&net->done)) != NULL) {
        struct dbos_request *request = (struct dbos_request *)(void *)node;
        struct connection *connection = dbos_session_owner(request->owner);
        __builtin_prefetch(dbos_queue_ahead(&net->done)); /* another processor wrote it */
        __builtin_prefetch(request->reply.data);
        bool is_followed = request->is_followed;
        dbos_session_done(request->owner, request);
        hold(connection);
        if (!is_followed) {
            release_held(net);
            any = true;
        }
    }
    return any;
}

/* When the watermark has moved, replies that wait for it may leave. */
static bool take_durable(struct dbos_net *net) {
    uint64_t durable = dbos_engine_durable(net->engine);
    if (durable == net->durable) {
        return false;
    }
    net->durable = durable;
    for (struct connection *at = net->busy; at != NULL; at = at->next_busy) {
        mark_dirty(at);
    }
    return true;
}

static void notice_drain(struct dbos_net *net) {
    if (net->is_drained || atomic_load_explicit(&net->draining, memory_order_acquire) == 0) {
        return;
    }
    net->is_drained = true;
    dbos_loop_cancel(net->loop, &net->accept);
    for (struct connection *at = net->connections; at != NULL; at = at->next) {
        mark_dirty(at);
    }
}

/* Who has said goodbye takes what is on its way, as long as it takes something. */
static bool is_overdue(struct connection *connection, uint64_t now) {
    if (dbos_session_is_over(connection->session)) {
        connection->since_ns = connection->is_ending ? connection->since_ns : now;
        connection->is_ending = true;
    } else if (dbos_session_is_ready(connection->session)) {
        return false;
    }
    return now - connection->since_ns > connection->net->startup_timeout_ns;
}

static void tick(struct dbos_net *net) {
    uint64_t now = now_ns(net);
    net->looked_ns = now;
    if (net->held != NULL && now - net->held_ns >= (uint64_t)HELD_US * 1000) {
        release_held(net);
    }
    if (now - net->ticked_ns < (uint64_t)TICK_US * 1000) {
        return;
    }
    net->ticked_ns = now;
    resume_accept(net);
    for (struct connection *at = net->connections; at != NULL; at = at->next) {
        if (is_overdue(at, now)) {
            disconnect(at);
        }
    }
}

/* Nothing to do? Then a push or a durable batch writes the eventfd. Looking at the watermark after
 * the announcement closes the gap in which it moved unheard. */
static uint64_t sleep_us(struct dbos_net *net) {
    if (net->dirty != NULL || !dbos_queue_prepare_sleep(&net->done)) {
        return 0;
    }
    if (take_durable(net) || (!net->is_drained && atomic_load(&net->draining) != 0)) {
        return 0;
    }
    if (atomic_load(&net->stopping) != 0) {
        return STOPPING_US;
    }
    if (net->busy_count != 0 || net->held != NULL) { /* or something came that wakes nobody */
        return dbos_engine_is_async(net->engine) ? HELD_US : HELD_SYNC_US;
    }
    bool needs_ticks =
        net->accept_paused ||
        atomic_load_explicit(&net->connection_count, memory_order_relaxed) > net->session_count;
    return needs_ticks ? TICK_US : IDLE_US;
}

/* One client was heard, as in the turns before, and nobody else waits for anything: what it waits
 * for may be done here. */
static bool is_alone(struct dbos_net *net) {
    struct connection *only = net->heard_count == 1 ? net->heard : NULL;
    if (net->heard_count != 0) {
        net->lonely_turns = only != NULL && only == net->lonely ? net->lonely_turns + 1 : 0;
        net->lonely = only;
    }
    net->heard_count = 0;
    net->heard = NULL;
    return only != NULL && net->lonely_turns >= LONELY_TURNS && net->busy == only &&
           only->next_busy == NULL;
}

/* A request that was run here has ended when it was submitted. */
static void serve_all(struct dbos_net *net) {
    serve_dirty(net);
    while (take_done(net)) {
        net->looked_ns = now_ns(net); /* it has taken its time */
        serve_dirty(net);
    }
}

/* What was run here is written: now and here, if the log's thread is not at it. */
static void write_here(struct dbos_net *net) {
    uint64_t begun_ns = now_ns(net);
    (void)dbos_submitter_settle(&net->submitter, true);
    dbos_queue_end_sleep(&net->done); /* it may have told this thread, which looks now */
    if (take_durable(net)) {
        net->looked_ns = now_ns(net);
        dbos_rounds_end(&net->rounds, begun_ns, net->looked_ns);
        serve_all(net); /* what this submits is the next turn's */
    }
}

/* All that is under way was run here and waits for the disk: then it can be written here, too, when
 * enough is there. */
static bool is_quiet(const struct dbos_net *net) {
    return !net->is_drained && !dbos_engine_is_async(net->engine) &&
           dbos_rounds_may_write(&net->rounds, net->busy_count);
}

/* How long at most this thread may sleep now, because of what it still has to write; UINT64_MAX =
 * as long as it likes. */
static uint64_t settle(struct dbos_net *net) {
    bool alone = is_alone(net);
    if (!net->submitter.holds_log) {
        return UINT64_MAX;
    }
    if (!alone && !is_quiet(net)) {
        (void)dbos_submitter_settle(&net->submitter, false);
        dbos_rounds_end_elsewhere(&net->rounds, net->looked_ns);
        return UINT64_MAX;
    }
    uint64_t patience_us = alone ? 0 : dbos_rounds_patience_us(&net->rounds, now_ns(net));
    if (patience_us == 0) {
        write_here(net);
    }
    return net->submitter.holds_log ? patience_us : UINT64_MAX;
}

static void turn(struct dbos_net *net) {
    struct dbos_errinfo info;
    (void)take_done(net);
    (void)take_durable(net);
    notice_drain(net);
    tick(net);
    serve_all(net);
    uint64_t most_us = settle(net);
    uint64_t timeout_us = sleep_us(net);
    timeout_us = timeout_us < most_us ? timeout_us : most_us;
    dbos_submitter_rests(&net->submitter);
    enum dbos_err err = dbos_loop_turn(net->loop, timeout_us, &info);
    dbos_submitter_works(&net->submitter);
    dbos_queue_end_sleep(&net->done);
    if (err != DBOS_OK) { /* no client can be served any more */
        dbos_log(DBOS_LOG_ERROR, "network: %s", info.message);
        DBOS_CHECK(err == DBOS_OK);
    }
}

/* It had the time of the drain. What it has submitted is canceled, or waits for the disk: it may
 * have an effect or none, and who is told of neither tries again under the same key. */
static void part_with(struct connection *connection) {
    struct dbos_session *session = connection->session;
    struct dbos_errinfo info;
    bool may_say = !connection->is_closing && !connection->send.is_active &&
                   connection->out.size_bytes == 0 && !dbos_session_is_idle(session);
    dbos_session_cancel_all(session);
    if (may_say) {
        (void)dbos_fail(&info, DBOS_ERR_OUTCOME_UNKNOWN,
                        "terminating connection due to administrator command: the outcome of what "
                        "was not answered is not known");
        dbos_err_hint(&info, "Try again under the same idempotency key.");
        dbos_session_forsake(session, &info);
        flush(connection);
    }
    disconnect(connection);
}

static void *net_main(void *arg) {
    struct dbos_net *net = arg;
    dbos_submitter_works(&net->submitter);
    dbos_loop_accept(net->loop, &net->accept, net->listener);
    dbos_loop_watch(net->loop, &net->wake, net->wake_file);
    while (atomic_load_explicit(&net->stopping, memory_order_acquire) == 0) {
        turn(net);
    }
    atomic_store(&net->draining, 1);
    for (struct connection *at = net->connections; at != NULL; at = at->next) {
        part_with(at);
    }
    while (net->connections != NULL) {
        turn(net);
    }
    dbos_loop_cancel(net->loop, &net->accept);
    dbos_loop_cancel(net->loop, &net->wake);
    while (net->accept.is_active || net->wake.is_active) {
        turn(net);
    }
    (void)dbos_submitter_settle(&net->submitter, false);
    dbos_submitter_rests(&net->submitter);
    return NULL;
}

static void woken(struct dbos_loop_op *op, int32_t result) {
    (void)op; /* the turn looks at everything */
    (void)result;
}

void dbos_net_durable(void *net) { dbos_queue_wake(&((struct dbos_net *)net)->done); }

/* -- open and close -----------------------------------------------------------------------------
 */

static enum dbos_err check_address(const char *address, struct dbos_errinfo *info) {
    struct in_addr parsed;
    if (inet_pton(AF_INET, address, &parsed) == 1 && (ntohl(parsed.s_addr) >> 24) == 127) {
        return DBOS_OK;
    }
    enum dbos_err err = dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                                  "cannot listen on %s: only loopback addresses (127.0.0.1) are "
                                  "allowed, because passwords do not exist yet",
                                  address);
    dbos_err_hint(info, "Reach the node from elsewhere through an SSH tunnel.");
    return err;
}

static enum dbos_err open_parts(struct dbos_net *net, const struct dbos_net_options *options,
                                struct dbos_errinfo *info) {
    const char *address = options->address == NULL || strcmp(options->address, "localhost") == 0
                              ? "127.0.0.1"
                              : options->address;
    enum dbos_err err = check_address(address, info);
    if (err == DBOS_OK) {
        err = dbos_loop_open(net->alloc, options->loop, &net->loop, info);
    }
    if (err == DBOS_OK && dbos_session_pool_open(net->session_alloc, &net->pool) != DBOS_OK) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    if (err == DBOS_OK) {
        net->wake_file = eventfd(0, EFD_CLOEXEC);
        err = net->wake_file < 0 ? dbos_fail(info, DBOS_ERR_IO, "eventfd failed") : DBOS_OK;
    }
    if (err == DBOS_OK) {
        err = net->env->ops->tcp_listen(net->env, address, options->port, &net->listener,
                                        &net->port, info);
    }
    return err;
}

enum dbos_err dbos_net_open(struct dbos_alloc *alloc, struct dbos_engine *engine,
                            const struct dbos_net_options *options, struct dbos_net **out,
                            struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_net *net = dbos_take_zero(alloc, sizeof *net);
    if (net == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    uint32_t timeout_ms =
        options->startup_timeout_ms == 0 ? STARTUP_TIMEOUT_MS : options->startup_timeout_ms;
    net->alloc = alloc;
    net->engine = engine;
    net->submitter.engine = engine;
    dbos_rounds_init(&net->rounds);
    net->session_alloc = dbos_engine_session_alloc(engine);
    net->env = dbos_engine_env(engine);
    net->connections_max =
        options->connections_max == 0 ? CONNECTIONS_MAX : options->connections_max;
    net->startup_timeout_ns = (uint64_t)timeout_ms * 1000000;
    net->wants_uring = options->loop != DBOS_LOOP_POLL;
    net->listener = -1;
    net->wake_file = -1;
    net->accept = (struct dbos_loop_op){.done = accepted, .owner = net};
    net->wake = (struct dbos_loop_op){.done = woken, .owner = net};
    enum dbos_err err = open_parts(net, options, info);
    if (err != DBOS_OK) {
        dbos_net_close(net);
        return err;
    }
    dbos_queue_init(&net->done, net->wake_file);
    *out = net;
    return DBOS_OK;
}

enum dbos_err dbos_net_start(struct dbos_net *net, struct dbos_errinfo *info) {
    if (!dbos_loop_is_uring(net->loop)) {
        dbos_log(DBOS_LOG_INFO, "the network uses poll()%s",
                 net->wants_uring ? ": io_uring is not allowed here" : "");
    }
    if (pthread_create(&net->thread, NULL, net_main, net) != 0) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "cannot start the network thread");
    }
    (void)pthread_setname_np(net->thread, "net");
    net->is_running = true;
    return DBOS_OK;
}

uint16_t dbos_net_port(const struct dbos_net *net) { return net->port; }

uint32_t dbos_net_connections(const struct dbos_net *net) {
    return atomic_load_explicit(&net->connection_count, memory_order_acquire);
}

bool dbos_net_drain(struct dbos_net *net, uint32_t timeout_ms) {
    uint64_t end_ns = now_ns(net) + (uint64_t)timeout_ms * 1000000;
    atomic_store(&net->draining, 1);
    dbos_queue_wake(&net->done);
    while (dbos_net_connections(net) != 0 && now_ns(net) < end_ns) {
        net->env->ops->sleep_us(net->env, 1000);
    }
    return dbos_net_connections(net) == 0;
}

void dbos_net_stop(struct dbos_net *net) {
    if (net->is_running) {
        atomic_store(&net->stopping, 1);
        dbos_queue_wake(&net->done);
        (void)pthread_join(net->thread, NULL);
        net->is_running = false;
    }
    dbos_session_pool_close(net->pool);
    net->pool = NULL;
}

void dbos_net_close(struct dbos_net *net) {
    if (net == NULL) {
        return;
    }
    DBOS_CHECK(!net->is_running && net->connections == NULL);
    dbos_loop_close(net->loop);
    dbos_session_pool_close(net->pool);
    if (net->listener >= 0) {
        (void)close(net->listener);
    }
    if (net->wake_file >= 0) {
        (void)close(net->wake_file);
    }
    dbos_give(net->alloc, net);
}
