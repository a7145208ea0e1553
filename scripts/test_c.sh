#!/usr/bin/env bash
# C unit tests and a bounded run of the fuzz targets, without Python.
#
# PYBEHAVE_SANITIZE   e.g. address,undefined
source "$(dirname "$0")/common.sh"

sanitize=${PYBEHAVE_SANITIZE:-}
build_c=build/c${sanitize:+-${sanitize//,/-}}
PATH=$PWD/$venv/bin:$PATH
run_logged c-configure cmake -S . -B "$build_c" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DPYBEHAVE_MODULES=OFF -DPYBEHAVE_TESTS=ON -DPYBEHAVE_WERROR="${PYBEHAVE_WERROR:-OFF}" \
    -DPYBEHAVE_SANITIZE="$sanitize" -DPYBEHAVE_FUZZ_RUNS="${PYBEHAVE_FUZZ_RUNS:-20000}"
run_logged c-build cmake --build "$build_c"
ctest --test-dir "$build_c" --output-on-failure --no-tests=error
