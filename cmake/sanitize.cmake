# Sanitizers abort on the first report: a UBSan report that only prints would let a test pass.
if(DBOS_SANITIZE)
  list(JOIN DBOS_SANITIZE "," sanitizers)
  add_compile_options(-fsanitize=${sanitizers} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${sanitizers})
endif()
if(DBOS_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
