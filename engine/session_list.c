#include "engine/session_list.h"

#include <stdio.h>

void dbos_session_list_init(struct dbos_session_list *list) {
    list->first = NULL;
    DBOS_CHECK(pthread_mutex_init(&list->lock, NULL) == 0);
}

void dbos_session_list_fini(struct dbos_session_list *list) {
    DBOS_CHECK(list->first == NULL);
    DBOS_CHECK(pthread_mutex_destroy(&list->lock) == 0);
}

static void put_in(struct dbos_session_list *list, struct dbos_session_entry *entry,
                   int64_t now_us) {
    entry->is_listed = true;
    entry->connected_us = now_us;
    entry->previous = NULL;
    entry->next = list->first;
    if (entry->next != NULL) {
        entry->next->previous = entry;
    }
    list->first = entry;
}

void dbos_session_list_set(struct dbos_session_list *list, struct dbos_session_entry *entry,
                           const struct dbos_session_info *info, int64_t now_us) {
    DBOS_CHECK(pthread_mutex_lock(&list->lock) == 0);
    entry->id = info->id;
    (void)snprintf(entry->user, sizeof entry->user, "%s", info->user);
    (void)snprintf(entry->application, sizeof entry->application, "%.*s",
                   (int)sizeof entry->application - 1, info->application);
    (void)snprintf(entry->address, sizeof entry->address, "%s", info->address);
    if (!entry->is_listed) {
        put_in(list, entry, now_us);
    }
    DBOS_CHECK(pthread_mutex_unlock(&list->lock) == 0);
}

void dbos_session_list_remove(struct dbos_session_list *list, struct dbos_session_entry *entry) {
    if (!entry->is_listed) {
        return;
    }
    DBOS_CHECK(pthread_mutex_lock(&list->lock) == 0);
    *(entry->previous == NULL ? &list->first : &entry->previous->next) = entry->next;
    if (entry->next != NULL) {
        entry->next->previous = entry->previous;
    }
    entry->is_listed = false;
    DBOS_CHECK(pthread_mutex_unlock(&list->lock) == 0);
}

void dbos_session_list_each(struct dbos_session_list *list,
                            void (*each)(void *arg, const struct dbos_session_entry *entry),
                            void *arg) {
    DBOS_CHECK(pthread_mutex_lock(&list->lock) == 0);
    for (const struct dbos_session_entry *at = list->first; at != NULL; at = at->next) {
        each(arg, at);
    }
    DBOS_CHECK(pthread_mutex_unlock(&list->lock) == 0);
}
