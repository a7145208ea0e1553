#!/usr/bin/env bash
# pytest on modules built with ASan and UBSan, in an environment of their own.
# Arguments go to pytest (default: the folders that exercise the compiled core).
#
# PYBEHAVE_PROGRAM_SEEDS   random programs (default 30, whatever the effort: each takes ten times as
#                          long here as in `make test`, which plays the same ones)
export PYBEHAVE_VENV=.venv-sanitize
export PYBEHAVE_PROGRAM_SEEDS=${PYBEHAVE_PROGRAM_SEEDS:-30}
export PYBEHAVE_CMAKE_ARGS=-DPYBEHAVE_SANITIZE=address,undefined
"$(dirname "$0")/setup.sh" || exit 1
source "$(dirname "$0")/common.sh"

install_group test
# What is the basic tier's alone is met in the first two folders.
[ $# -gt 0 ] ||
    set -- $(workers) -k 'not (basic and runtime)' tests/core tests/protocols tests/runtime
# The runtime must be loaded first, since the interpreter itself is not sanitized. Its own
# allocator hides overruns (PYTHONMALLOC) and never frees everything (leaks off).
exec env LD_PRELOAD="$("${CC:-gcc}" -print-file-name=libasan.so)" PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:strict_string_checks=1 \
    UBSAN_OPTIONS=print_stacktrace=1 \
    "$venv/bin/python" -m pytest -p no:cacheprovider --timeout=600 "$@"
