# dbosctl: the operator's tool. It runs recorded calls again, so it has the procedures' runtime in it,
# and modules find the SDK's functions in it by name.
find_library(PQ_LIBRARY pq REQUIRED)
find_path(PQ_INCLUDE libpq-fe.h PATH_SUFFIXES postgresql REQUIRED)
dbos_program(dbosctl SOURCES main_dbosctl.c dbosctl_top.c dbosctl_verify.c dbosctl_replay.c
             dbosctl_backup.c
             LIBS dbos_engine ${PQ_LIBRARY})
set_target_properties(dbosctl PROPERTIES ENABLE_EXPORTS ON)
target_include_directories(dbosctl SYSTEM PRIVATE ${PQ_INCLUDE})
