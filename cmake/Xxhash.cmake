# Find the header of xxHash: the journal's checksums are compiled from it, nothing is linked.
#
# Gives the interface target pybehave_xxhash.

# 0.8.0 is the first with XXH3 in its final form.
set(xxhash_version_min 0.8.0)
set(xxhash_mend "on Debian and Ubuntu: apt-get install libxxhash-dev pkg-config")
add_library(pybehave_xxhash INTERFACE)

find_package(PkgConfig QUIET)
if(PKG_CONFIG_FOUND)
  pkg_check_modules(XXHASH QUIET "libxxhash>=${xxhash_version_min}")
endif()
find_path(XXHASH_INCLUDE xxhash.h HINTS ${XXHASH_INCLUDE_DIRS})
if(NOT XXHASH_INCLUDE)
  message(FATAL_ERROR " pybehave: xxhash.h (libxxhash >= ${xxhash_version_min}) was not found; "
    "${xxhash_mend}")
endif()
target_include_directories(pybehave_xxhash SYSTEM INTERFACE "${XXHASH_INCLUDE}")
message(STATUS "pybehave: checksums from xxHash ${XXHASH_VERSION}")
