# Shared by the other scripts: sourced, never run. Leaves the shell in the repository's root.
#
# PYBEHAVE_VENV   the environment to use (default .venv)
# PYTHON          the interpreter to make it from (default: python3, or the newest one >= 3.11)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${PYBEHAVE_VENV:-.venv}
# One build folder per environment, so that a sanitizer build never mixes with the usual one.
build_dir=build/$(basename "$venv" | sed 's/^\.//')
log_dir=build/log
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf 'pybehave: %s\n' "$*"; }

fail() {
    printf 'pybehave: %s\n' "$*" >&2
    exit 1
}

# run_logged NAME COMMAND...: quiet when it works; the sentence and the tail of the log when not.
run_logged() {
    local name=$1 log=$log_dir/$1.log
    shift
    mkdir -p "$log_dir"
    if "$@" >"$log" 2>&1 </dev/null; then
        sed -n 's/^ *\(pybehave: .*\)/\1/p' "$log" | grep -v '^pybehave: io_uring through' || true
        return 0
    fi
    if grep -q '^ *pybehave: ' "$log"; then
        sed -n 's/^ *\(pybehave: .*\)/\1/p' "$log" | sort -u >&2
    else
        tail -n 40 "$log" >&2
    fi
    fail "$name failed; the whole output is in $log"
}

# Stamps: a step is skipped while the hash of what it depends on is the one written after it worked.
stamp_is_fresh() { [ -f "$venv/stamps/$1" ] && [ "$(cat "$venv/stamps/$1")" = "$2" ]; }
stamp_write() {
    mkdir -p "$venv/stamps"
    printf '%s\n' "$2" >"$venv/stamps/$1"
}

# install_group GROUP: a dependency group of pyproject.toml, once per change of that file.
install_group() {
    local hash
    hash=$(sha256sum pyproject.toml | cut -c1-16)
    stamp_is_fresh "group-$1" "$hash" && return 0
    say "installing what '$1' needs"
    # One pip at a time in one environment: .ci/run has two phases beside each other.
    (
        flock 9 2>/dev/null || true
        run_logged "install-$1" "$venv/bin/python" -m pip install --quiet --group "$1"
    ) 9>"$venv/.lock"
    stamp_write "group-$1" "$hash"
}

# workers: how many processes pytest may take (pytest-xdist), as its arguments; none for one.
# PYBEHAVE_TEST_WORKERS, or one more than there are processors, for tests wait for disks and
# clients: on two, three took 9.1 minutes and two took 11.1. Four at most: more was not tried.
workers() {
    local count=${PYBEHAVE_TEST_WORKERS:-$(($(nproc) < 4 ? $(nproc) + 1 : 4))}
    [ "$count" -le 1 ] || echo "-n $count --dist worksteal"
}

can_install_system() {
    command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }
}

# install_system PACKAGE...: Debian packages, listed before they are installed.
install_system() {
    local as_root=()
    command -v apt-get >/dev/null ||
        fail "please install these packages or what this distribution calls them: $*" \
            "(Fedora: gcc python3-devel pkgconf-pkg-config liburing-devel redis)"
    can_install_system ||
        fail "this user may not install packages; please run as root: apt-get install $*"
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    say "installing system packages: $*"
    # Updating the lists first costs seconds, and without it a fresh container finds nothing.
    run_logged apt-update "${as_root[@]}" apt-get update
    run_logged apt-install "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends "$@"
}
