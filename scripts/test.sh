#!/usr/bin/env bash
# C unit tests, then pytest, in one process more than there are processors.
# Arguments go to pytest and replace its selection; then there is one process.
#
# PYBEHAVE_EFFORT    usual, or full: how many rounds are played (tests/effort.py)
# PYBEHAVE_TEST_WORKERS  processes of pytest (default: one more than processors, four at most)
# CI=true            a missing client program is an error, and so is a skipped test (tests/skips.py)
# PYBEHAVE_MAY_SKIP  reasons, as a regular expression, that this machine has for skipping tests
# PYBEHAVE_FUZZ_RUNS inputs per C fuzz target (default 20000)
source "$(dirname "$0")/common.sh"

# redis-cli, redis-benchmark and curl are the strangest clients a server can have: real ones.
# Only the tools: the package redis-server would start a daemon on this machine.
for need in redis-cli:redis-tools redis-benchmark:redis-tools curl:curl; do
    if ! command -v "${need%:*}" >/dev/null && ! (install_system "${need#*:}"); then
        [ "${CI:-}" != true ] || exit 1
        say "the tests that need ${need%:*} are skipped"
    fi
done
install_group test
if [ $# -eq 0 ]; then
    scripts/test_c.sh
    # Split at spaces on purpose: arguments of pytest.
    set -- $(workers) -m 'not packaging and not power'
fi
exec "$venv/bin/python" -m pytest "$@"
