# The archiver opens DuckDB at run time: the last place it looks is the source tree's.
dbos_program(dbos-archiver SOURCES ${CMAKE_CURRENT_LIST_DIR}/main_dbos_archiver.c ${CMAKE_CURRENT_LIST_DIR}/archiver_pace.c LIBS dbos_provenance)
target_compile_definitions(dbos-archiver PRIVATE DBOS_DUCKDB_DIR="${DBOS_DUCKDB_DIR}")
target_include_directories(dbos-archiver SYSTEM PRIVATE ${DBOS_DUCKDB_DIR})
