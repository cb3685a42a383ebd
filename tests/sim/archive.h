/* The archive of the simulated node: an archiver that follows the log as dbos-archiver does (by the
 * same reader, up to the same watermark, exporting what is sealed or synced, going on where its
 * last export ended), and keeps the records as they are instead of making Parquet files of them.
 *
 * The program is linked with --wrap for dbos_archive_client_…(): the engine starts, tells and asks
 * it as it does a process. What it has exported survives every crash; what it has only taken does
 * not.
 *
 * Thread: a coroutine of its own (tests/sim/sched.h). Memory: malloc. */
#ifndef DBOS_TESTS_SIM_ARCHIVE_H
#define DBOS_TESTS_SIM_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Before a life: a bit of its disk may be another one, and an archiver that meets it stops. */
void sim_archive_begin(const char *data_dir, bool is_damaged);
/* The newest position that is exported; the newest that is taken over in this life. */
uint64_t sim_archive_exported(void);
uint64_t sim_archive_taken(void);
/* It met damage, or there is none in this life. */
bool sim_archive_is_down(void);
/* An exported record; NULL: there is none. Valid until it is exported again, which it is not. */
const uint8_t *sim_archive_record(uint64_t position, size_t *out_bytes);

#endif /* DBOS_TESTS_SIM_ARCHIVE_H */
