/* The load generator's command line. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load.h"

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out) {
    char *end = NULL;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && *out >= min &&
           *out <= max;
}

static bool parse_integer(const char *text, const char *end_wanted, int64_t *out) {
    char *end = NULL;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return end != text && errno == 0 && end == end_wanted;
}

/* 1..6, 10, seq:1, or a text, which stays where it is. */
static bool parse_arg(const char *text, struct arg *out) {
    const char *end = text + strlen(text);
    const char *dots = strstr(text, "..");
    *out = (struct arg){.kind = ARG_UNIFORM};
    if (strncmp(text, "seq:", 4) == 0) {
        out->kind = ARG_SEQUENCE;
        return parse_integer(text + 4, end, &out->low);
    }
    if (dots != NULL && parse_integer(text, dots, &out->low)) {
        return parse_integer(dots + 2, end, &out->high) && out->low <= out->high &&
               out->low > INT64_MIN / 2 && out->high < INT64_MAX / 2;
    }
    if (parse_integer(text, end, &out->low)) {
        out->high = out->low;
        return true;
    }
    out->kind = ARG_TEXT;
    out->text = text;
    return true;
}

/* Cuts the text at its spaces. */
static bool parse_args(char *text, struct call *call) {
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        if (call->arg_count == ARGS_MAX || !parse_arg(word, &call->args[call->arg_count])) {
            return false;
        }
        call->arg_count++;
    }
    return true;
}

static bool parse_call(struct load *load, const char *name, char *value) {
    if (strcmp(name, "--call") == 0) {
        if (load->call_count == CALLS_MAX) {
            return false;
        }
        struct call *call = &load->calls[load->call_count];
        call->sql = value;
        call->weight = 1;
        (void)snprintf(call->name, sizeof call->name, "c%zu", load->call_count++);
        return true;
    }
    if (load->call_count == 0) {
        return false;
    }
    struct call *call = &load->calls[load->call_count - 1];
    return strcmp(name, "--args") == 0 ? parse_args(value, call)
                                       : parse_number(value, 0, 1000000000, &call->weight);
}

static bool parse_tag(struct options *options, const char *value) {
    if (options->tag_count == TAGS_MAX || strchr(value, '=') == NULL) {
        return false;
    }
    options->tags[options->tag_count++] = value;
    return true;
}

/* An option with a number. */
static bool parse_count(struct options *options, const char *name, const char *value) {
    const struct {
        const char *name;
        uint64_t min;
        uint64_t max;
        uint64_t *out;
    } counts[] = {
        {"--port", 1, 65535, &options->port},
        {"--connections", 1, CONNECTIONS_MAX, &options->connections},
        {"--depth", 1, DEPTH_MAX, &options->depth},
        {"--rate", 1, 100000000, &options->rate},
        {"--seconds", 1, SECONDS_MAX, &options->seconds},
        {"--warmup", 0, SECONDS_MAX, &options->warmup_s},
        {"--drain", 0, SECONDS_MAX, &options->drain_s},
        {"--connect-rate", 1, 1000000, &options->connect_rate},
        {"--in-flight-max", 1, DEPTH_MAX, &options->in_flight_max},
        {"--backlog-max", 0, DEPTH_MAX, &options->backlog_max},
        {"--seed", 0, UINT64_MAX, &options->seed},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (strcmp(name, counts[i].name) == 0) {
            return parse_number(value, counts[i].min, counts[i].max, counts[i].out);
        }
    }
    return false;
}

static bool parse_option(struct load *load, const char *name, char *value) {
    struct options *options = &load->options;
    if (strcmp(name, "--call") == 0 || strcmp(name, "--args") == 0 ||
        strcmp(name, "--weight") == 0) {
        return parse_call(load, name, value);
    }
    if (strcmp(name, "--tag") == 0) {
        return parse_tag(options, value);
    }
    const char **text = strcmp(name, "--host") == 0       ? &options->host
                        : strcmp(name, "--user") == 0     ? &options->user
                        : strcmp(name, "--database") == 0 ? &options->database
                                                          : NULL;
    if (text != NULL) {
        *text = value;
        return true;
    }
    return parse_count(options, name, value);
}

bool load_parse(struct load *load, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--text") == 0) {
            load->options.is_text = true;
        } else if (strcmp(argv[i], "--series") == 0) {
            load->options.has_series = true;
        } else if (i + 1 == argc || !parse_option(load, argv[i], argv[i + 1])) {
            (void)fprintf(stderr, "bench_load: what is %s %s?\n", argv[i],
                          i + 1 < argc ? argv[i + 1] : "(without a value)");
            return false;
        } else {
            i++;
        }
    }
    for (size_t i = 0; i < load->call_count; i++) {
        load->weight_sum += load->calls[i].weight;
    }
    return load->options.port != 0 && load->weight_sum != 0;
}

int load_usage(void) {
    (void)fprintf(
        stderr,
        "usage: bench_load --port N --call SQL [--args \"1..6 10 seq:1 text\"] [--weight N] ...\n"
        "  --connections N (1)   --connect-rate N/s (2000)   --host, --user, --database\n"
        "  --depth N (1): closed loop; or --rate N/s: open loop, with\n"
        "    --in-flight-max N (64) and --backlog-max N (64) requests for each connection\n"
        "  --seconds N (5)   --warmup N (1)   --drain N (10): how long answers are waited for\n"
        "  --text: numbers as text   --series: answers of each second   --seed N\n"
        "  --tag NAME=VALUE: a field of the line of JSON\n");
    return EXIT_USAGE;
}
