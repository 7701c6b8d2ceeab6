# House functions: every folder's CMakeLists.txt is a list of calls to these.

# Headers that most of our files include, read by the compiler once: a third of the time of a build.
# Files include what they use all the same; the clang presets check that.
set(empty ${CMAKE_BINARY_DIR}/generated/empty.cc)
file(GENERATE OUTPUT ${empty} CONTENT "// nothing of its own\n")
set(headers
  <algorithm> <array> <atomic> <chrono> <cstdint> <deque> <filesystem> <functional> <map> <memory>
  <optional> <set> <span> <stop_token> <string> <string_view> <thread> <unordered_map> <utility>
  <vector> <nlohmann/json.hpp> <spdlog/spdlog.h>)
add_library(imsy_headers OBJECT ${empty})
target_precompile_headers(imsy_headers PRIVATE ${headers})
target_link_libraries(imsy_headers
  PRIVATE nlohmann_json::nlohmann_json spdlog::spdlog Threads::Threads imsy_warnings)

# imsy_library(NAME SOURCES ... [PUBLIC libs that appear in our headers] [PRIVATE libs])
# defines the static library imsy_NAME, known to others as imsy::NAME.
function(imsy_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(imsy_${name} STATIC ${arg_SOURCES})
  add_library(imsy::${name} ALIAS imsy_${name})
  target_include_directories(imsy_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(imsy_${name} PUBLIC ${arg_PUBLIC} PRIVATE ${arg_PRIVATE} imsy_warnings)
  target_precompile_headers(imsy_${name} REUSE_FROM imsy_headers)
endfunction()

add_custom_target(programs)

# imsy_program(NAME SOURCES ... LINK ...) defines a program that `make install` installs.
function(imsy_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LINK} imsy_warnings)
  target_precompile_headers(${name} REUSE_FROM imsy_headers)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  add_dependencies(programs ${name})
  install(TARGETS ${name} RUNTIME DESTINATION bin)
endfunction()

# The same for tests, which are compiled without optimisation.
add_library(imsy_test_headers OBJECT ${empty})
target_precompile_headers(imsy_test_headers PRIVATE <gmock/gmock.h> <gtest/gtest.h> ${headers})
target_compile_options(imsy_test_headers PUBLIC $<$<CONFIG:RelWithDebInfo>:-O0>)
target_link_libraries(imsy_test_headers
  PUBLIC GTest::gtest_main GTest::gmock nlohmann_json::nlohmann_json spdlog::spdlog Threads::Threads
         imsy_warnings)

# imsy_test(NAME SOURCES ... LINK ... [LABEL label] [TIMEOUT seconds]) defines a GoogleTest program.
# Its cases get the label "unit" and 120 seconds each if nothing else is said.
function(imsy_test name)
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT arg_LABEL)
    set(arg_LABEL unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LINK} imsy_test_headers)
  target_precompile_headers(${name} REUSE_FROM imsy_test_headers)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS ${arg_LABEL}
                       TIMEOUT ${arg_TIMEOUT})
endfunction()

add_custom_target(fuzz_targets)

# imsy_fuzz(NAME SOURCES ... LINK ...) defines a libFuzzer target. It is linked by the fuzz preset
# only, and compiled by all, so that it keeps up with what it tests.
function(imsy_fuzz name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  if(IMSY_FUZZ)
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE ${arg_LINK} imsy_warnings)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
    add_dependencies(fuzz_targets ${name})
  else()
    list(GET arg_SOURCES 0 source)
    add_library(${name} OBJECT ${source})
    target_link_libraries(${name} PRIVATE ${arg_LINK} imsy_warnings)
  endif()
endfunction()

add_custom_target(benchmarks)

# imsy_bench(NAME SOURCES ... LINK ...) defines a Google Benchmark program; built by the bench
# preset only.
function(imsy_bench name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LINK} benchmark::benchmark imsy_warnings)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
  add_dependencies(benchmarks ${name})
endfunction()
