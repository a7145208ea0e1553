#!/usr/bin/env bash
# Source distribution, and the wheel built from it for Linux with glibc 2.28 or newer, into dist/.
#
# The compiler is zig's, which links against the symbols of an old glibc on any machine: no Docker.
# auditwheel then gives the tag (manylinux_2_28 or better), or says what is in the way.
#
# PYTHON, PYBEHAVE_VENV   the Python that the wheel is for is that of the environment
# PYBEHAVE_DIST           where the two files go (default dist, which is emptied)
source "$(dirname "$0")/common.sh"

glibc=2.28 # RHEL 8, Debian 10: what the io_uring tiers and our dependencies' wheels need anyway
stage=$PWD/build/wheel
dist=${PYBEHAVE_DIST:-dist}

# stage_headers: zig has its own C library and must not see the system's, which /usr/include would
# bring along. So what is ours to use is put in a folder of its own.
stage_headers() {
    local includes=$stage/include archive header name
    rm -rf "$stage"
    mkdir -p "$includes" "$stage/lib/pkgconfig" "$stage/bin"
    archive=$(pkg-config --variable=libdir liburing 2>/dev/null || true)/liburing.a
    [ -e "$archive" ] || fail "a wheel carries liburing, and there is no liburing.a;" \
        "on Debian and Ubuntu: apt-get install liburing-dev"
    cp "$archive" "$stage/lib"
    for name in liburing.h liburing xxhash.h; do
        header=$(pkg-config --variable=includedir liburing)/$name
        [ -e "$header" ] || header=/usr/include/$name
        [ -e "$header" ] || fail "there is no $header; on Debian and Ubuntu:" \
            "apt-get install liburing-dev libxxhash-dev"
        cp -r "$header" "$includes"
    done
    stage_package liburing "$(pkg-config --modversion liburing)"
    stage_package libxxhash "$(xxhash_version)"
    # Debian's pyconfig.h includes another one by its way from /usr/include.
    for header in /usr/include/*-linux-gnu/python3.*; do
        [ ! -e "$header" ] || {
            mkdir -p "$includes/$(basename "$(dirname "$header")")"
            ln -s "$header" "$includes/$(basename "$(dirname "$header")")"
        }
    done
}

stage_package() {
    cat >"$stage/lib/pkgconfig/$1.pc" <<EOF
Name: $1
Description: $1 for the wheel
Version: $2
libdir=$stage/lib
Cflags: -I$stage/include
Libs: -L$stage/lib -l${1#lib}
EOF
}

xxhash_version() {
    sed -n 's/^ *# *define *XXH_VERSION_\(MAJOR\|MINOR\|RELEASE\) *\([0-9]*\).*/\2/p' \
        "$stage/include/xxhash.h" | paste -sd.
}

# The interpreter's own compiler flags may name a linker or a target that zig has not: what comes
# last wins.
stage_compiler() {
    cat >"$stage/bin/cc" <<EOF
#!/bin/sh
exec "$PWD/$venv/bin/python" -m ziglang cc "\$@" -target $(uname -m)-linux-gnu.$glibc
EOF
    chmod +x "$stage/bin/cc"
}

install_group wheel
command -v pkg-config >/dev/null || fail "pkg-config is needed; apt-get install pkg-config"
stage_headers
stage_compiler
rm -rf "$dist"
mkdir -p "$dist"
say "building source distribution and wheel (glibc $glibc)"
run_logged wheel env CC="$stage/bin/cc" CFLAGS="-isystem $stage/include" LDFLAGS= \
    PKG_CONFIG_PATH= PKG_CONFIG_LIBDIR="$stage/lib/pkgconfig" \
    "$venv/bin/python" -m build --outdir "$stage/raw" .
mv "$stage"/raw/*.tar.gz "$dist"
run_logged auditwheel env PATH="$PWD/$venv/bin:$PATH" "$venv/bin/python" -m auditwheel repair \
    --plat "manylinux_${glibc/./_}_$(uname -m)" --wheel-dir "$dist" "$stage"/raw/*.whl
ls -l "$dist"
