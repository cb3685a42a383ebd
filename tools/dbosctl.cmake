# dbosctl: the operator's tool. The module check is compiled in, so that it does not wait for the rest.
find_library(PQ_LIBRARY pq REQUIRED)
find_path(PQ_INCLUDE libpq-fe.h PATH_SUFFIXES postgresql REQUIRED)
dbos_program(dbosctl SOURCES main_dbosctl.c dbosctl_top.c dbosctl_verify.c ${CMAKE_SOURCE_DIR}/procs/module.c
             LIBS dbos_txn ${PQ_LIBRARY})
target_include_directories(dbosctl SYSTEM PRIVATE ${PQ_INCLUDE})
