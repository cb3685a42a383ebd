/* What the load generator counts and prints; see load.c for the meaning of the fields. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load.h"

/* Histogram: exact below 64 ns, then 64 steps for each power of two. */

static size_t bucket_of(uint64_t ns) {
    if (ns < SUB_COUNT) {
        return (size_t)ns;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    return (size_t)(shift + 1) * SUB_COUNT + (size_t)((ns >> shift) - SUB_COUNT);
}

static double bucket_us(size_t bucket) {
    if (bucket < SUB_COUNT) {
        return (double)bucket / NS_PER_US;
    }
    unsigned shift = (unsigned)(bucket / SUB_COUNT) - 1;
    double low = ldexp((double)(SUB_COUNT + bucket % SUB_COUNT), (int)shift);
    return (low + ldexp(0.5, (int)shift)) / NS_PER_US;
}

void load_histogram_add(struct histogram *histogram, uint64_t ns) {
    histogram->counts[bucket_of(ns)]++;
    histogram->total++;
    if (ns > histogram->max_ns) {
        histogram->max_ns = ns;
    }
}

static void histogram_merge(struct histogram *into, const struct histogram *from) {
    for (size_t i = 0; i < BUCKETS; i++) {
        into->counts[i] += from->counts[i];
    }
    into->total += from->total;
    if (from->max_ns > into->max_ns) {
        into->max_ns = from->max_ns;
    }
}

/* 0 where nothing was measured. */
static double histogram_us(const struct histogram *histogram, double part) {
    uint64_t rank = (uint64_t)ceil((double)histogram->total * part);
    uint64_t seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= rank && seen > 0) {
            double max_us = (double)histogram->max_ns / NS_PER_US;
            return bucket_us(i) < max_us ? bucket_us(i) : max_us;
        }
    }
    return 0;
}

void load_count_state(struct state_counts *counts, const char *state, const char *message) {
    size_t i = 0;
    while (i < counts->used && strcmp(counts->state[i], state) != 0) {
        i++;
    }
    if (i == STATES_MAX) {
        counts->counts[STATES_MAX - 1]++;
        return;
    }
    if (i == counts->used) {
        (void)snprintf(counts->state[i], STATE_BYTES, "%s", state);
        counts->used++;
        (void)fprintf(stderr, "bench_load: %s: %s\n", state, message);
    }
    counts->counts[i]++;
}

void load_state_of_message(const char *message, char out[static STATE_BYTES]) {
    const char *at = strstr(message, ":  ");
    bool is_state = at != NULL && strlen(at) > 8 && at[8] == ':';
    for (int i = 0; is_state && i < STATE_BYTES - 1; i++) {
        char letter = at[3 + i];
        is_state = (letter >= '0' && letter <= '9') || (letter >= 'A' && letter <= 'Z');
    }
    (void)snprintf(out, STATE_BYTES, "%.5s", is_state ? at + 3 : "08006");
}

static void print_states(const char *name, const struct state_counts *counts) {
    (void)printf(",\"%s\":{", name);
    for (size_t i = 0; i < counts->used; i++) {
        (void)printf("%s\"%s\":%" PRIu64, i == 0 ? "" : ",", counts->state[i], counts->counts[i]);
    }
    (void)printf("}");
}

static void print_latency(const struct histogram *latency) {
    (void)printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f",
                 histogram_us(latency, 0.5), histogram_us(latency, 0.99),
                 histogram_us(latency, 0.999), (double)latency->max_ns / NS_PER_US);
}

static void print_string(const char *text) {
    (void)putchar('"');
    for (; *text != 0; text++) {
        if (*text == '"' || *text == '\\') {
            (void)putchar('\\');
        }
        (void)putchar((unsigned char)*text < ' ' ? ' ' : *text);
    }
    (void)putchar('"');
}

/* NAME=VALUE; a number stays one. */
static void print_tag(const char *tag) {
    const char *value = strchr(tag, '=') + 1;
    char *end = NULL;
    double number = strtod(value, &end);
    (void)printf("\"%.*s\":", (int)(value - 1 - tag), tag);
    if (end != value && *end == 0 && isfinite(number)) {
        (void)printf("%s,", value);
    } else {
        print_string(value);
        (void)printf(",");
    }
}

static void print_calls(const struct load *load) {
    (void)printf(",\"calls\":[");
    for (size_t i = 0; i < load->call_count; i++) {
        const struct call *call = &load->calls[i];
        (void)printf("%s{\"sql\":", i == 0 ? "" : ",");
        print_string(call->sql);
        (void)printf(",\"ok\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"rows\":%" PRIu64
                     ",\"replies\":{",
                     call->ok, call->failed, call->rows);
        const char *separator = "";
        for (int value = 0; value < VALUES_COUNTED; value++) {
            if (call->replies[value] != 0) {
                (void)printf("%s\"%d\":%" PRIu64, separator, value, call->replies[value]);
                separator = ",";
            }
        }
        (void)printf("},");
        print_latency(&call->latency);
        (void)printf("}");
    }
    (void)printf("]");
}

static void print_series(const struct load *load) {
    uint64_t seconds = load->options.warmup_s + load->options.seconds;
    (void)printf(",\"per_second\":[");
    for (uint64_t i = 0; i < seconds && i < SERIES_MAX; i++) {
        (void)printf("%s%" PRIu64, i == 0 ? "" : ",", load->series[i]);
    }
    (void)printf("]");
}

void load_print(const struct load *load, struct histogram *all) {
    const struct options *options = &load->options;
    uint64_t ok = 0;
    for (size_t i = 0; i < load->call_count; i++) {
        histogram_merge(all, &load->calls[i].latency);
        ok += load->calls[i].ok;
    }
    (void)printf("{");
    for (size_t i = 0; i < options->tag_count; i++) {
        print_tag(options->tags[i]);
    }
    (void)printf("\"connections\":%" PRIu64 ",\"%s\":%" PRIu64 ",\"seconds\":%" PRIu64
                 ",\"tps\":%.1f,",
                 options->connections, load_is_open_loop(load) ? "rate" : "depth",
                 load_is_open_loop(load) ? options->rate : options->depth, options->seconds,
                 (double)load->measured / (double)options->seconds);
    print_latency(all);
    (void)printf(",\"arrivals\":%" PRIu64 ",\"ok\":%" PRIu64 ",\"late\":%" PRIu64
                 ",\"unanswered\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"connect_s\":%.2f",
                 load->arrivals, ok, load->late, load->unanswered, load->lost,
                 (double)(load->connected_ns - load->connect_ns) / NS_PER_S);
    print_states("errors", &load->errors);
    print_states("refused", &load->refused);
    if (options->has_series) {
        print_series(load);
    }
    print_calls(load);
    (void)printf("}\n");
}
