/* The sessions that there are, for dbos.sessions.
 *
 * Thread: the list is under a lock, held to put in, take out, rename, and to copy what is there; a
 * session's own numbers are atomic and written by its thread alone.
 * Memory: entries are the sessions'. */
#ifndef DBOS_ENGINE_SESSION_LIST_H
#define DBOS_ENGINE_SESSION_LIST_H

#include <pthread.h>

#include "storage/value.h"
#include "txn/txn.h"

struct dbos_session_entry {
    struct dbos_session_entry *next;
    struct dbos_session_entry *previous;
    bool is_listed;
    uint64_t id;
    int64_t connected_us;
    char user[DBOS_NAME_BYTES]; /* these three are cut to what fits */
    char application[DBOS_NAME_BYTES];
    char address[64];
    _Atomic uint64_t statements; /* requests submitted */
    _Atomic uint32_t in_flight;
    _Atomic uint64_t buffered_bytes; /* taken for the connection's input and output */
    _Atomic uint64_t large_bytes;    /* of them: of large replies */
};

struct dbos_session_list {
    pthread_mutex_t lock;
    struct dbos_session_entry *first;
};

void dbos_session_list_init(struct dbos_session_list *list);
void dbos_session_list_fini(struct dbos_session_list *list); /* it must be empty */
/* Put in, or change who it is. */
void dbos_session_list_set(struct dbos_session_list *list, struct dbos_session_entry *entry,
                           const struct dbos_session_info *info, int64_t now_us);
/* One that is not in the list is fine. */
void dbos_session_list_remove(struct dbos_session_list *list, struct dbos_session_entry *entry);
/* Calls `each` with every entry, the newest first, under the lock: it must not wait for anything.
 */
void dbos_session_list_each(struct dbos_session_list *list,
                            void (*each)(void *arg, const struct dbos_session_entry *entry),
                            void *arg);

#endif /* DBOS_ENGINE_SESSION_LIST_H */
