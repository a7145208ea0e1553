#!/usr/bin/env bash
# Compile what changed in src/ and put the modules where the editable install looks for them.
source "$(dirname "$0")/common.sh"

[ -f "$build_dir/CMakeCache.txt" ] || fail "nothing has been built yet; run: make build"
PATH=$PWD/$venv/bin:$PATH
run_logged rebuild cmake --build "$build_dir"
# Nothing compiled, nothing to copy: the usual case, and it should cost a blink.
if ! grep -q 'no work to do' "$log_dir/rebuild.log"; then
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')
    run_logged rebuild-install cmake --install "$build_dir" --prefix "$site"
    say "compiled what changed in src/"
fi
