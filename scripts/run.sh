#!/usr/bin/env bash
# Serve the key-value example; the command itself prints how to talk to it.
source "$(dirname "$0")/common.sh"

exec "$venv/bin/pybehave" run "${@:-examples.kv:app}"
