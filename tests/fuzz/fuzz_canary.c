/* A target with planted bugs, so that the harness itself is tested: each must be found.
 * DBOS_CANARY names the bug; without it there is none, and the replay must pass. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

static const char song[] = "a canary in the mine"; /* the one corpus file, without a line end */

static int is(const char *bug) {
    const char *wanted = getenv("DBOS_CANARY");
    return wanted != NULL && strcmp(wanted, bug) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    size_t length = sizeof song - 1;
    size_t same = size_bytes < length ? size_bytes : length;
    int starts_the_same = size_bytes == 0 || memcmp(data, song, same) == 0;
    if (is("corpus") && size_bytes == length && starts_the_same) {
        abort();
    }
    if (is("truncation") && size_bytes == length - 7 && starts_the_same) {
        abort();
    }
    if (is("mutation") && size_bytes == length && !starts_the_same && data[4] == 'n') {
        abort();
    }
    if (is("overread") && size_bytes != 0) {
        const volatile uint8_t *behind = data + size_bytes;
        return *behind == 0 ? 0 : -1;
    }
    if (is("leak") && size_bytes == length) {
        char *volatile lost = strdup(song);
        lost = NULL;
        return lost == NULL ? 0 : -1;
    }
    return 0;
}
