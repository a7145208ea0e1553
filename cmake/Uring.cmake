# Find liburing and say in one sentence what was found.
#
# Gives the interface target pybehave_uring with exactly one of two definitions,
# PYBEHAVE_HAVE_URING=1 or PYBEHAVE_NO_URING=1, and the variable PYBEHAVE_HAVE_URING.
# The static archive is preferred: a wheel then carries liburing and needs only libc.

# 2.3 (Debian 12) is the first with SINGLE_ISSUER and DEFER_TASKRUN in its header.
set(uring_version_min 2.3)
set(uring_mend "on Debian and Ubuntu: apt-get install liburing-dev pkg-config")
add_library(pybehave_uring INTERFACE)
set(PYBEHAVE_HAVE_URING OFF)

if(NOT PYBEHAVE_URING STREQUAL "OFF")
  find_package(PkgConfig QUIET)
  if(PKG_CONFIG_FOUND)
    pkg_check_modules(LIBURING QUIET "liburing>=${uring_version_min}")
  endif()
  if(LIBURING_FOUND)
    set(PYBEHAVE_HAVE_URING ON)
  elseif(PYBEHAVE_URING STREQUAL "ON")
    message(FATAL_ERROR " pybehave: liburing >= ${uring_version_min} was not found "
      "and PYBEHAVE_URING=ON asks for it; ${uring_mend}")
  endif()
endif()

if(PYBEHAVE_HAVE_URING)
  # Look only where pkg-config points, so that a staged liburing is never mixed with the system's.
  unset(LIBURING_ARCHIVE CACHE)
  find_library(LIBURING_ARCHIVE NAMES liburing.a HINTS ${LIBURING_LIBRARY_DIRS} ${LIBURING_LIBDIR})
  if(LIBURING_ARCHIVE)
    set(uring_linkage "static")
    target_link_libraries(pybehave_uring INTERFACE "${LIBURING_ARCHIVE}")
  else()
    set(uring_linkage "shared: the result needs liburing.so at run time")
    target_link_libraries(pybehave_uring INTERFACE ${LIBURING_LINK_LIBRARIES})
  endif()
  target_include_directories(pybehave_uring SYSTEM INTERFACE ${LIBURING_INCLUDE_DIRS})
  target_compile_definitions(pybehave_uring INTERFACE PYBEHAVE_HAVE_URING=1
    PYBEHAVE_LIBURING_VERSION="${LIBURING_VERSION}")
  message(STATUS "pybehave: io_uring through liburing ${LIBURING_VERSION} (${uring_linkage})")
else()
  target_compile_definitions(pybehave_uring INTERFACE PYBEHAVE_NO_URING=1)
  if(PYBEHAVE_URING STREQUAL "OFF")
    message(STATUS "pybehave: built without io_uring as asked; epoll and sim only")
  else()
    message(NOTICE "pybehave: liburing >= ${uring_version_min} was not found, "
      "so this build has epoll and sim only; ${uring_mend}, then build again")
  endif()
endif()
