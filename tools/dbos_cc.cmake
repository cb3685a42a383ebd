# dbos-cc beside the programs, the SDK where it finds it, and the modules that are compiled with it.
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/bin ${CMAKE_BINARY_DIR}/include/sdk)
configure_file(${CMAKE_CURRENT_SOURCE_DIR}/dbos-cc ${CMAKE_BINARY_DIR}/bin/dbos-cc
               FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
               WORLD_READ WORLD_EXECUTE COPYONLY)
file(CREATE_LINK ${CMAKE_SOURCE_DIR}/procs/include/dbos ${CMAKE_BINARY_DIR}/include/sdk/dbos SYMBOLIC)

# dbos_modules(target folder sources... [OPTIONS ...]): one module from each source, in lib/<folder>,
# where dbosd looks for relative names.
function(dbos_modules target folder)
  cmake_parse_arguments(M "" "" "SOURCES;OPTIONS" ${ARGN})
  set(directory ${CMAKE_BINARY_DIR}/lib/${folder})
  file(MAKE_DIRECTORY ${directory})
  set(modules)
  foreach(source ${M_SOURCES})
    get_filename_component(name ${source} NAME_WE)
    get_filename_component(folder_of_source ${source} DIRECTORY)
    file(GLOB headers CONFIGURE_DEPENDS ${folder_of_source}/*.h)
    set(module ${directory}/${name}.so)
    add_custom_command(OUTPUT ${module}
      COMMAND ${CMAKE_COMMAND} -E env CC=${CMAKE_C_COMPILER}
              ${CMAKE_BINARY_DIR}/bin/dbos-cc ${M_OPTIONS} -o ${module} ${source}
      DEPENDS ${source} ${headers} ${CMAKE_BINARY_DIR}/bin/dbos-cc dbosctl
              ${CMAKE_SOURCE_DIR}/procs/include/dbos/procedure.h
      VERBATIM)
    list(APPEND modules ${module})
  endforeach()
  add_custom_target(${target} ALL DEPENDS ${modules})
endfunction()

file(GLOB examples CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/procs/examples/*.c)
dbos_modules(dbos_examples dbos SOURCES ${examples})

# Those that the tests load, and those that must be refused (bad_*: compiled, not checked).
if(DBOS_TESTS)
  file(GLOB good CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/support/modules/*.c)
  set(bad ${good})
  list(FILTER good EXCLUDE REGEX "/bad_[^/]*\\.c$")
  list(FILTER bad INCLUDE REGEX "/bad_[^/]*\\.c$")
  dbos_modules(dbos_test_modules dbos/test SOURCES ${good} OPTIONS -I${CMAKE_SOURCE_DIR})
  dbos_modules(dbos_bad_modules dbos/test SOURCES ${bad} OPTIONS --no-check)
endif()
