#!/usr/bin/env bash
# From a clean clone to .venv/bin/pybehave. Does nothing, fast, when there is nothing to do.
#
# Needs git, make and a python3 >= 3.11. What else is missing is named and installed: system
# packages by apt-get (through sudo when not root), Python packages into .venv only.
#
# PYBEHAVE_CMAKE_ARGS   further CMake options, e.g. -DPYBEHAVE_SANITIZE=address,undefined
source "$(dirname "$0")/common.sh"

python_is_usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The environment that is there is kept, unless PYTHON asks for another interpreter.
find_python() {
    local candidate
    if [ -z "${PYTHON:-}" ] && stamp_is_fresh place "$PWD" &&
        python_is_usable "$venv/bin/python"; then
        echo "$venv/bin/python"
        return
    fi
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if python_is_usable "$candidate"; then
            # The real path: a shim (pyenv) may answer differently in another folder.
            "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
            return
        fi
    done
    if command -v "${PYTHON:-python3}" >/dev/null; then
        fail "Python 3.11 or newer is needed, ${PYTHON:-python3} is" \
            "$("${PYTHON:-python3}" --version 2>&1); set PYTHON=/path/to/python3.11"
    fi
    fail "there is no ${PYTHON:-python3} here; on Debian and Ubuntu: apt-get install python3"
}

# Debian splits Python: a system interpreter lacks headers and ensurepip until asked; one built
# from source (pyenv) has both.
required_packages() {
    local version compiler=${CC:-cc}
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! command -v "$compiler" >/dev/null; then
        echo gcc libc6-dev
    elif ! echo '#include <stdio.h>' | "$compiler" -E - >/dev/null 2>&1; then
        echo libc6-dev
    fi
    # The journal's checksums: header only, so nothing of it is needed at run time.
    [ -e /usr/include/xxhash.h ] || pkg-config --exists libxxhash 2>/dev/null || echo libxxhash-dev
    "$python" - <<'PY' || echo "python$version-dev"
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))
PY
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        "$python" -c 'import pip, venv' 2>/dev/null || echo "python$version-venv"
}

# Without these the build has no io_uring and says so. Any liburing will do here: an old one
# (Ubuntu 22.04) is not mended by installing it again, and CMake explains.
optional_packages() {
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists liburing 2>/dev/null || echo liburing-dev
}

install_missing_packages() {
    local required optional
    # Package names hold no spaces: splitting at them is what is wanted.
    required=($(required_packages))
    optional=($(optional_packages))
    if can_install_system; then
        [ "$((${#required[@]} + ${#optional[@]}))" -eq 0 ] ||
            install_system "${required[@]}" "${optional[@]}"
    elif [ "${#required[@]}" -gt 0 ]; then
        install_system "${required[@]}" "${optional[@]}" # explains why it cannot
    elif [ "${#optional[@]}" -gt 0 ]; then
        say "building without io_uring, because nobody here may install: ${optional[*]}"
    fi
}

make_venv() {
    [ "$python" != "$venv/bin/python" ] || return 0
    if python_is_usable "$venv/bin/python" && stamp_is_fresh venv "$python" &&
        stamp_is_fresh place "$PWD"; then
        return 0
    fi
    say "creating $venv with $("$python" --version)"
    rm -rf "$venv" "$build_dir"
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        run_logged venv "$python" -m venv "$venv"
    else
        # No ensurepip and no package that brings it: borrow the pip of the interpreter.
        run_logged venv "$python" -m venv --without-pip "$venv"
        run_logged venv-pip "$python" -m pip --python "$venv/bin/python" install --quiet pip
    fi
    # Dependency groups need pip 25.1; Debian 12 brings 23.0.
    run_logged pip-upgrade "$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
    stamp_write venv "$python"
    stamp_write place "$PWD" # a folder that was moved has scripts that point to nowhere
}

cmake_is_usable() {
    cmake --version 2>/dev/null |
        awk 'NR == 1 { split($3, v, "."); ok = v[1] > 3 || v[2] >= 21 } END { exit !ok }'
}

# The build requirements are read from pyproject.toml: one list, there.
build_requirements() {
    "$venv/bin/python" - <<'PY'
import tomllib
with open("pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["build-system"]["requires"]))
PY
    # Kept in .venv, not fetched per build, because `make rebuild` and the C tests use them too.
    cmake_is_usable || echo 'cmake>=3.21'
    command -v ninja >/dev/null || echo ninja
}

# What decides how the package is configured and installed; a changed source only needs a rebuild.
install_hash() {
    {
        cat pyproject.toml CMakeLists.txt cmake/*.cmake scripts/setup.sh scripts/common.sh
        find src/_uring -name '*.pyx' -o -name '*.c' | sort
        # An editable install knows each module by the path that it had then.
        find pybehave -name '*.py' | sort
        pkg-config --modversion liburing 2>/dev/null || true
        echo "${PYBEHAVE_CMAKE_ARGS:-} ${CC:-}"
    } | sha256sum | cut -c1-16
}

package_is_fresh() { stamp_is_fresh package "$1" && [ -f "$build_dir/CMakeCache.txt" ]; }

install_package() {
    local requirements arguments="${PYBEHAVE_CMAKE_ARGS:-} ${CC:-}"
    # CMake's cache would keep an option that is no longer given.
    stamp_is_fresh cmake-args "$arguments" || rm -rf "$build_dir"
    say "installing build requirements"
    mapfile -t requirements < <(build_requirements)
    run_logged build-requirements "$venv/bin/python" -m pip install --quiet "${requirements[@]}"
    say "compiling and installing pybehave (editable, build folder $build_dir)"
    # Symbols stay in: this is the build that gets profiled.
    CMAKE_ARGS="${PYBEHAVE_CMAKE_ARGS:-}" run_logged build \
        "$venv/bin/python" -m pip install --verbose --no-build-isolation \
        --config-settings "build-dir=$build_dir" --config-settings install.strip=false --editable .
    stamp_write cmake-args "$arguments"
    stamp_write package "$1"
}

python=$(find_python)
install_missing_packages

# Two make runs at once would compile into each other's files.
mkdir -p build
exec 9>build/.lock
flock 9 2>/dev/null || true

make_venv
PATH=$PWD/$venv/bin:$PATH
hash=$(install_hash)
if package_is_fresh "$hash"; then
    scripts/rebuild.sh
else
    install_package "$hash"
    say "done: $venv/bin/pybehave"
fi
# Containers often tell Python to write no bytecode; then each process would compile all modules,
# for longer than the rest of its start takes. Only a saving: what cannot be written is no failure.
"$venv/bin/python" -m compileall -q pybehave >/dev/null 2>&1 || true
