find_library(PQ_LIBRARY pq REQUIRED)
find_path(PQ_INCLUDE libpq-fe.h PATH_SUFFIXES postgresql REQUIRED)
dbos_program(dbos-demo SOURCES main_dbos_demo.c demo/digits.c LIBS dbos_base ${PQ_LIBRARY} m)
target_include_directories(dbos-demo SYSTEM PRIVATE ${PQ_INCLUDE})
