#include "tests/support/node.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 32 };

/* Small segments of the log and many snapshots, unless the test says otherwise. */
static void list_arguments(const struct node_options *options,
                           const char *arguments[ARGUMENTS_MAX]) {
    const char *const first[] = {"dbosd",
                                 "--data-dir",
                                 options->data,
                                 "--port",
                                 "0",
                                 "--partitions",
                                 options->partitions,
                                 "--provenance-reads",
                                 "strict",
                                 "--log-segment-bytes",
                                 "131072",
                                 "--snapshot-log-bytes",
                                 "300000"};
    size_t count = sizeof first / sizeof first[0];
    memcpy(arguments, first, sizeof first);
    for (const char *const *a = options->arguments; a != NULL && *a != NULL; a++) {
        if (count < ARGUMENTS_MAX - 1) {
            arguments[count++] = *a;
        }
    }
    arguments[count] = NULL;
}

static void run_node(const struct node_options *options, int out) {
    char program[512];
    const char *arguments[ARGUMENTS_MAX];
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is killed leaves no node behind */
    (void)dup2(out, STDOUT_FILENO);
    int file = open(options->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    (void)dup2(file, STDERR_FILENO);
    for (const char *const *e = options->environment; e != NULL && *e != NULL; e += 2) {
        (void)setenv(e[0], e[1], 1);
    }
    (void)snprintf(program, sizeof program, "%s/dbosd", options->bin);
    list_arguments(options, arguments);
    (void)execv(program, (char *const *)(uintptr_t)arguments);
    _exit(127);
}

static int read_port(int in) {
    char line[256] = "";
    size_t used = 0;
    while (strchr(line, '\n') == NULL && used < sizeof line - 1) {
        ssize_t got = read(in, line + used, sizeof line - 1 - used);
        if (got <= 0) {
            return 0;
        }
        used += (size_t)got;
        line[used] = '\0';
    }
    const char *port = strstr(line, "port=");
    return port == NULL ? 0 : atoi(port + 5);
}

pid_t node_start(const struct node_options *options, int *out_port) {
    int out[2];
    *out_port = 0;
    /* What the node started becomes ours when it dies, to be waited for: init may take its time. */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (pipe2(out, O_CLOEXEC) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        run_node(options, out[1]);
    }
    (void)close(out[1]);
    if (pid > 0) {
        (void)setpgid(pid, pid);
        *out_port = read_port(out[0]);
        if (*out_port == 0) {
            node_kill(pid);
            pid = -1;
        }
    }
    (void)close(out[0]);
    return pid;
}

void node_kill(pid_t pid) {
    (void)kill(-pid, SIGKILL);
    while (waitpid(-pid, NULL, 0) > 0) {
    }
    while (kill(-pid, 0) == 0) {
        (void)usleep(1000);
    }
}

int node_stop(pid_t pid) {
    int status = 0;
    (void)kill(pid, SIGTERM);
    (void)waitpid(pid, &status, 0);
    return status;
}
