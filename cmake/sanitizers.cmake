# IMSY_SANITIZE: "", "address,undefined" or "thread"; IMSY_FUZZ: build the fuzz targets (clang).
set(IMSY_SANITIZE "" CACHE STRING "sanitizers to build with, as for -fsanitize=")
option(IMSY_FUZZ "build the libFuzzer targets (needs clang)" OFF)
if(IMSY_SANITIZE)
  add_compile_options(-fsanitize=${IMSY_SANITIZE} -fno-omit-frame-pointer -O1)
  add_link_options(-fsanitize=${IMSY_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # What the sanitizers add misleads it.
    add_compile_options(-Wno-maybe-uninitialized)
  endif()
endif()
if(IMSY_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
