# Warnings are errors, with gcc and clang.
add_compile_options(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wswitch-enum -Wundef
                    -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
                    -fno-strict-aliasing -fno-omit-frame-pointer -fstack-protector-strong)
if(CMAKE_C_COMPILER_ID STREQUAL "Clang")
  # DBOS_CHECK(!"why") is a way to say that a place is never reached.
  add_compile_options(-Wno-gnu-zero-variadic-macro-arguments -Wno-string-conversion)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  add_compile_definitions(DBOS_DEBUG)
endif()
