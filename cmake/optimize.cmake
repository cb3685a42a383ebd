# Release builds with gcc are optimized across the folders, at the link of each program. The objects
# hold machine code as well, so that the many test programs link without that (and are quick to link).
# They follow the profile of a run, where scripts/profile.sh has made one (docs/adr/0009-profile.md):
#   DBOS_PROFILE_FROM=dir   what ran often there is laid out and inlined for it; the rest as ever
#   DBOS_PROFILE_TO=dir     programs that write such a profile when they end
set(DBOS_PROFILE_FROM "" CACHE PATH "profile to optimize by; empty for none")
set(DBOS_PROFILE_TO "" CACHE PATH "where the programs leave their profile; empty for none")
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT DBOS_SANITIZE)
  add_compile_options(-flto=auto -ffat-lto-objects -fno-semantic-interposition)
  set(DBOS_LINK_OPTIMIZED -flto=auto -O2)
  add_link_options(-fno-lto)
  if(DBOS_PROFILE_TO)
    add_compile_options(-fprofile-generate=${DBOS_PROFILE_TO} -fprofile-update=prefer-atomic
                        -fprofile-prefix-path=${CMAKE_BINARY_DIR})
    add_link_options(-fprofile-generate)
  elseif(DBOS_PROFILE_FROM AND EXISTS ${DBOS_PROFILE_FROM})
    # A function that has changed since is optimized without.
    add_compile_options(-fprofile-use=${DBOS_PROFILE_FROM} -fprofile-prefix-path=${CMAKE_BINARY_DIR}
                        -fprofile-correction -fprofile-partial-training
                        -Wno-missing-profile -Wno-coverage-mismatch)
  endif()
endif()
