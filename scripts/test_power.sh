#!/usr/bin/env bash
# Cut the power of real servers on real disks (tests/power). Arguments replace pytest's selection.
#
# PYBEHAVE_POWER        how many rounds, as a factor of the usual number (default 1: 9 minutes)
# PYBEHAVE_POWER_SEED   repeats the choices of a run that failed; it printed its seed
source "$(dirname "$0")/common.sh"

# Debian's packages of the programs that suites need; each suite skips aloud without its own.
missing_packages() {
    command -v mkfs.ext4 >/dev/null || echo e2fsprogs
    command -v mkfs.xfs >/dev/null || echo xfsprogs
    command -v losetup >/dev/null || echo mount
    command -v fusermount3 >/dev/null || echo fuse3
    command -v nbdkit >/dev/null || echo nbdkit
    command -v nbdfuse >/dev/null || echo libnbd-bin
    command -v qemu-storage-daemon >/dev/null || echo qemu-system-common qemu-block-extra
}

PATH=$PATH:/usr/sbin:/sbin # where Debian keeps them, and ordinary users do not look
missing=($(missing_packages))
if [ "${#missing[@]}" -gt 0 ] && ! (install_system "${missing[@]}"); then
    say "the suites that need ${missing[*]} are skipped"
fi
install_group test
install_group power
[ $# -gt 0 ] || set -- -m power tests/power
exec "$venv/bin/python" -m pytest -rsP "$@"
