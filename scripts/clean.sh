#!/usr/bin/env bash
# Remove what the scripts made, but the environment: the next `make build` compiles afresh.
source "$(dirname "$0")/common.sh"

rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis "$venv/stamps/package"
find . -path './.venv*' -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
