# Where each external library comes from; docs/dependencies.md says why it is taken.
find_package(Threads REQUIRED)
find_library(PG_QUERY_LIBRARY pg_query REQUIRED)
find_library(PROTOBUF_C_LIBRARY protobuf-c REQUIRED)
find_library(URING_LIBRARY uring REQUIRED)
find_library(XXHASH_LIBRARY xxhash REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
find_library(CRYPTO_LIBRARY crypto REQUIRED)
find_path(PG_QUERY_INCLUDE pg_query.h REQUIRED)

function(dbos_external name library)
  add_library(${name} INTERFACE)
  target_link_libraries(${name} INTERFACE ${library})
endfunction()
dbos_external(ext_pg_query ${PG_QUERY_LIBRARY})
dbos_external(ext_protobuf_c ${PROTOBUF_C_LIBRARY})
dbos_external(ext_uring ${URING_LIBRARY})
dbos_external(ext_xxhash ${XXHASH_LIBRARY})
dbos_external(ext_dnnl ${DNNL_LIBRARY})
# oneDNN's threads are OpenMP's; gcc's library serves clang too.
dbos_external(ext_gomp gomp)
dbos_external(ext_dl ${CMAKE_DL_LIBS})
dbos_external(ext_crypto ${CRYPTO_LIBRARY})
dbos_external(ext_m m)

# DuckDB's header, fetched by scripts/setup.sh with a pinned checksum; the library is loaded at run time.
set(DBOS_DUCKDB_DIR ${CMAKE_SOURCE_DIR}/third_party/duckdb CACHE PATH "duckdb.h and libduckdb.so")
