# dbos-worker: the process that computes; stands on gpu and knows nothing of databases.
dbos_program(dbos-worker SOURCES main_dbos_worker.c LIBS dbos_gpu)
