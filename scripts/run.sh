#!/usr/bin/env bash
# Serve the key-value example; the command itself prints how to talk to it.
source "$(dirname "$0")/common.sh"

case ${1:-} in
'' | -*) set -- examples.kv:app "$@" ;; # options alone are for the example
esac
exec "$venv/bin/pybehave" run "$@"
