# Build settings shared by every target, and the few functions with which components declare targets.

find_program(FARWARP_CCACHE ccache)
if(FARWARP_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${FARWARP_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${FARWARP_CCACHE})
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  find_program(FARWARP_LLD NAMES ld.lld-19 ld.lld)
  if(FARWARP_LLD)
    add_link_options(-fuse-ld=${FARWARP_LLD})
  endif()
endif()
find_package(Threads REQUIRED)

# Warnings and sanitizers of hand-written code. Generated protobuf code links neither.
add_library(farwarp_flags INTERFACE)
target_compile_options(farwarp_flags INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wnon-virtual-dtor -Werror -fno-math-errno -ffp-contract=off
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
target_include_directories(farwarp_flags INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR})
target_link_libraries(farwarp_flags INTERFACE Threads::Threads)

if(FARWARP_SANITIZE)
  list(JOIN FARWARP_SANITIZE "," sanitizers)
  # The runtime is shared, so that our libraries also work in programs built without it (preloaded there; see
  # FARWARP_SANITIZER_RUNTIME). "function" is off: a driver is called through types of our own (CUresult as int), which is
  # the same call in the C ABI but another type to the checker.
  add_compile_options(-fsanitize=${sanitizers} -fno-sanitize=function -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${sanitizers})
  if(FARWARP_SANITIZE MATCHES "fuzzer")
    # libFuzzer is a static library with a runtime of its own.
  else()
    if(FARWARP_SANITIZE MATCHES "thread")
      set(runtime libclang_rt.tsan-x86_64.so)
    else()
      set(runtime libclang_rt.asan-x86_64.so)
    endif()
    execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${runtime} OUTPUT_VARIABLE FARWARP_SANITIZER_RUNTIME
                    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    get_filename_component(runtime_directory ${FARWARP_SANITIZER_RUNTIME} DIRECTORY)
    add_compile_options(-shared-libsan)
    add_link_options(-shared-libsan -Wl,-rpath,${runtime_directory})
  endif()
endif()
if(FARWARP_COVERAGE)
  add_compile_options(-fprofile-instr-generate -fcoverage-mapping)
  add_link_options(-fprofile-instr-generate)
endif()

# The client's threads live as long as its process: nobody joins them at exit.
string(CONCAT FARWARP_TSAN_OPTIONS "ignore_noninstrumented_modules=1 report_thread_leaks=0 atexit_sleep_ms=0 "
              "suppressions=${CMAKE_SOURCE_DIR}/cmake/tsan.supp")
# Our programs under the thread sanitizer know what is no race of theirs.
function(farwarp_sanitizer_defaults name)
  if(FARWARP_SANITIZE MATCHES "thread")
    target_sources(${name} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/tsan_defaults.cc)
    target_compile_definitions(${name} PRIVATE FARWARP_TSAN_OPTIONS="${FARWARP_TSAN_OPTIONS}")
  endif()
endfunction()

# farwarp_library(NAME SOURCES...): a static library of hand-written code with the shared flags.
function(farwarp_library name)
  add_library(${name} STATIC ${ARGN})
  target_link_libraries(${name} PUBLIC farwarp_flags)
endfunction()

# farwarp_executable(NAME SOURCES...): a program in build/bin.
function(farwarp_executable name)
  add_executable(${name} ${ARGN})
  farwarp_sanitizer_defaults(${name})
  target_link_libraries(${name} PRIVATE farwarp_flags)
endfunction()

# farwarp_injected_library(TARGET FILE SONAME VERSION_SCRIPT SOURCES...): a shared library that is loaded into somebody
# else's process: it carries its own C++ runtime and exports only what the version script names.
function(farwarp_injected_library name file soname version_script)
  add_library(${name} SHARED ${ARGN})
  set_target_properties(${name} PROPERTIES PREFIX "" OUTPUT_NAME ${file} SUFFIX "" NO_SONAME ON
                        LINK_DEPENDS ${version_script})
  target_link_libraries(${name} PRIVATE farwarp_flags)
  target_link_options(${name} PRIVATE -Wl,-soname,${soname} -Wl,--version-script=${version_script} -Wl,-z,defs
                      -Wl,-z,nodelete)
  if(NOT FARWARP_SANITIZE)
    target_link_options(${name} PRIVATE -static-libstdc++ -static-libgcc)
  else()
    set_property(TARGET ${name} PROPERTY LINK_OPTIONS "")
    target_link_options(${name} PRIVATE -Wl,-soname,${soname} -Wl,--version-script=${version_script} -Wl,-z,nodelete)
  endif()
endfunction()

# farwarp_test(NAME SOURCES...): a GoogleTest program, registered with CTest as one test with a two-minute limit.
function(farwarp_test name)
  if(NOT FARWARP_BUILD_TESTS)
    return()
  endif()
  find_package(GTest REQUIRED)
  add_executable(${name} ${ARGN})
  farwarp_sanitizer_defaults(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE farwarp_flags GTest::gtest GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 120)
endfunction()

# farwarp_fuzz(NAME CORPUS SOURCES...): a libFuzzer target that CTest runs for FARWARP_FUZZ_SECONDS over its seed corpus.
set(FARWARP_FUZZ_SECONDS 60 CACHE STRING "Seconds each fuzz target runs under CTest")
add_custom_target(fuzzers)
function(farwarp_fuzz name corpus)
  if(NOT FARWARP_BUILD_FUZZ)
    return()
  endif()
  add_executable(${name} ${ARGN})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  add_dependencies(fuzzers ${name})
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(${name} PRIVATE farwarp_flags)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz/${name}.corpus)
  add_test(NAME ${name} COMMAND ${name} -max_total_time=${FARWARP_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=2048
           -max_len=65536 ${CMAKE_BINARY_DIR}/fuzz/${name}.corpus ${corpus})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300 LABELS fuzz)
endfunction()
