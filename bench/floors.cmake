# The floors of the benchmark: built and optimized as the node is.
dbos_program(bench_raw_sync SOURCES raw_sync.c LIBS dbos_txn)
dbos_program(bench_sync_ways SOURCES sync_ways.c LIBS dbos_base)
dbos_program(bench_null_server SOURCES null_server.c LIBS dbos_engine)
set_target_properties(bench_raw_sync bench_sync_ways bench_null_server PROPERTIES EXCLUDE_FROM_ALL ON)
# Registering a procedure opens its module, which looks for the SDK's functions in this program.
set_target_properties(bench_null_server PROPERTIES ENABLE_EXPORTS ON)
add_dependencies(bench_null_server dbos_examples)
