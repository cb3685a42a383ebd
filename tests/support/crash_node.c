#include "tests/support/crash_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

bool crash_node_init(struct crash_node *node) {
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(node->dir, sizeof node->dir, "%.200s/dbosd-crash-XXXXXX",
                   tmp == NULL ? "/tmp" : tmp);
    if (mkdtemp(node->dir) == NULL) {
        return false;
    }
    (void)snprintf(node->data, sizeof node->data, "%s/data", node->dir);
    (void)snprintf(node->journal, sizeof node->journal, "%s/journal", node->dir);
    (void)snprintf(node->log, sizeof node->log, "%s/dbosd.log", node->dir);
    return mkdir(node->journal, 0700) == 0;
}

bool crash_node_start(struct crash_node *node, bool loses) {
    const char *const environment[] = {"LD_PRELOAD",
                                       node->shim,
                                       "LOSE_UNSYNCED_ROOT",
                                       node->data,
                                       "LOSE_UNSYNCED_JOURNAL",
                                       node->journal,
                                       node->ignores_sync ? "LOSE_UNSYNCED_IGNORE_SYNC" : NULL,
                                       "1",
                                       NULL};
    node->loses = loses && node->shim != NULL;
    struct node_options options = {.bin = node->bin,
                                   .data = node->data,
                                   .log = node->log,
                                   .partitions = "2",
                                   .environment = node->loses ? environment : NULL};
    pid_t pid = node_start(&options, &node->port);
    node->pid = pid < 0 ? 0 : pid;
    return pid >= 0;
}

static bool drop_unsynced(const struct crash_node *node) {
    char command[1024];
    (void)snprintf(command, sizeof command, "%s %s/*.journal >> %s/dropped.txt; rm -f %s/*.journal",
                   node->apply, node->journal, node->dir, node->journal);
    return system(command) == 0;
}

bool crash_node_kill(struct crash_node *node) {
    node_kill(node->pid);
    node->pid = 0;
    return !node->loses || drop_unsynced(node);
}

int crash_node_stop(struct crash_node *node) {
    int status = node_stop(node->pid);
    node->pid = 0;
    return status;
}

void crash_node_remove(const struct crash_node *node) {
    char command[320];
    (void)snprintf(command, sizeof command, "rm -rf %s", node->dir);
    (void)!system(command);
}
