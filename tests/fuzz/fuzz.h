/* What each fuzz_<decoder>.c defines; called by libFuzzer, and by fuzz_replay.c in every test run.
 *
 * Thread: one. Memory: data is borrowed for the call, its last byte is followed by no readable one.
 */
#ifndef DBOS_TESTS_FUZZ_FUZZ_H
#define DBOS_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Decode `data`; whatever it holds, only a bug may abort. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

#endif /* DBOS_TESTS_FUZZ_FUZZ_H */
