# Warnings are errors in our code, never in what we include.
add_library(imsy_warnings INTERFACE)
target_compile_options(imsy_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual
  -Wconversion -Wno-sign-conversion -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(imsy_warnings INTERFACE -Wthread-safety)
elseif(CMAKE_UNITY_BUILD)
  # It takes the source files that are compiled together for headers.
  target_compile_options(imsy_warnings INTERFACE -Wno-subobject-linkage)
endif()
