#!/usr/bin/env bash
# Style, format, types, stubs, compiler warnings. Runs all of them, then says which failed.
source "$(dirname "$0")/common.sh"

install_group lint
failed=()
check() {
    local name=$1
    shift
    "$@" || failed+=("$name")
}

# A fresh compile each time: warnings of files that did not change would not show again.
c_warnings() {
    local log=$log_dir/c-warnings.log
    mkdir -p "$log_dir"
    { cmake -S . -B build/lint -G Ninja -DCMAKE_BUILD_TYPE=Release -DPYBEHAVE_MODULES=OFF \
        -DPYBEHAVE_TESTS=ON -DPYBEHAVE_WERROR=ON &&
        cmake --build build/lint --clean-first; } >"$log" 2>&1 || {
        grep -E -A6 'warning:|error:' "$log" || tail -n 40 "$log"
        return 1
    }
}

# The hand-written stubs against the modules as they were compiled.
stubs() {
    local allowlist=tests/typing/stubtest_allowlist.txt modules=()
    mapfile -t modules < <(find pybehave/_uring -name '*.pyi' -printf 'pybehave._uring.%f\n' |
        sed 's/\.pyi$//' | sort)
    [ "${#modules[@]}" -gt 0 ] || return 0
    [ ! -f "$allowlist" ] || modules+=(--allowlist "$allowlist" --ignore-unused-allowlist)
    python -m mypy.stubtest "${modules[@]}"
}

PATH=$PWD/$venv/bin:$PATH
check 'ruff check (mend: ruff check --fix)' ruff check
check 'ruff format (mend: ruff format)' ruff format --check
check 'mypy' mypy
check 'stubs (mend: pybehave/_uring/*.pyi)' stubs
check 'warnings in the C library' c_warnings
if [ "${#failed[@]}" -gt 0 ]; then
    printf 'pybehave: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
say "lint found nothing"
