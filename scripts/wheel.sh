#!/usr/bin/env bash
# Source distribution, and the wheel built from it, into dist/.
source "$(dirname "$0")/common.sh"

install_group test
rm -rf dist
say "building source distribution and wheel"
run_logged wheel "$venv/bin/python" -m build --outdir dist .
ls -l dist
