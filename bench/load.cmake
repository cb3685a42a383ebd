# The load generator, through libpq. Where that is missing, so is the target.
find_library(DBOS_BENCH_PQ_LIBRARY pq)
find_path(DBOS_BENCH_PQ_INCLUDE libpq-fe.h PATH_SUFFIXES postgresql)
if(DBOS_BENCH_PQ_LIBRARY AND DBOS_BENCH_PQ_INCLUDE)
  dbos_program(bench_load SOURCES load.c load_options.c load_report.c LIBS dbos_base ${DBOS_BENCH_PQ_LIBRARY} m)
  target_include_directories(bench_load SYSTEM PRIVATE ${DBOS_BENCH_PQ_INCLUDE})
  set_target_properties(bench_load PROPERTIES EXCLUDE_FROM_ALL ON)
endif()
