# Turn PYBEHAVE_SANITIZE (for example "address,undefined") into flags of target pybehave_sanitize.
#
# A finding ends the process: a test cannot pass over it. Optimised lightly and with assertions, so
# that stacks are readable and every assert of the core is alive.
add_library(pybehave_sanitize INTERFACE)
if(PYBEHAVE_SANITIZE)
  target_compile_options(pybehave_sanitize INTERFACE -fsanitize=${PYBEHAVE_SANITIZE}
    -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1 -UNDEBUG)
  target_link_options(pybehave_sanitize INTERFACE -fsanitize=${PYBEHAVE_SANITIZE})
  message(STATUS "pybehave: sanitizers ${PYBEHAVE_SANITIZE}")
endif()
