# Release builds with gcc are optimized across the folders, at the link of each program. The objects
# hold machine code as well, so that the many test programs link without that (and are quick to link).
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT DBOS_SANITIZE)
  add_compile_options(-flto=auto -ffat-lto-objects -fno-semantic-interposition)
  set(DBOS_LINK_OPTIMIZED -flto=auto -O2)
  add_link_options(-fno-lto)
endif()
