/* Uses every kind of thing that a module may have: constant tables with pointers, libm, qsort. */
#include <dbos/procedure.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const words[] = {"zero", "one", "two"};

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static int largest_root(struct dbos_call *call) {
    int64_t values[3] = {dbos_arg_int(call, 0), dbos_arg_int(call, 1), 9};
    qsort(values, 3, sizeof values[0], by_value);
    return dbos_return_float(call, pow((double)values[2], 0.5));
}
DBOS_PROCEDURE(largest_root, .run = largest_root);

static int word(struct dbos_call *call) {
    int64_t n = dbos_arg_int(call, 0);
    if (n < 0 || n > 2) {
        return dbos_abort(call, "no word for %lld", (long long)n);
    }
    return dbos_return_bytes(call, words[n], strlen(words[n]));
}
DBOS_PROCEDURE(word, .run = word);
