#!/usr/bin/env bash
# List the benchmarks, or run the one that is named.
source "$(dirname "$0")/common.sh"

install_group bench
exec "$venv/bin/python" -m bench "${@:-list}"
