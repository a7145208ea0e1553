"""What `make wheel` gives: a wheel for machines with an older C library than this one's."""

import os
import re
import sys
import zipfile

import pytest

from tests.packaging.conftest import ROOT, run
from tests.packaging.test_distributions import EXTENSIONS
from tests.packaging.test_installed import install, serve_and_say_hello

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(1200)]  # builds, on a busy machine

GLIBC_MAX = (2, 28)


@pytest.fixture(scope="module")
def manylinux(tmp_path_factory):
    target = tmp_path_factory.mktemp("dist") / "files"
    run(ROOT / "scripts/wheel.sh", env=os.environ | {"PYBEHAVE_DIST": str(target)})
    assert len(list(target.glob("*.tar.gz"))) == 1
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def modules(manylinux, tmp_path_factory):
    target = tmp_path_factory.mktemp("modules")
    with zipfile.ZipFile(manylinux) as archive:
        archive.extractall(target)
    found = list(target.rglob("*.so"))
    assert {path.relative_to(target).as_posix() for path in found} == EXTENSIONS
    return found


def test_tag_says_how_old_the_system_may_be(manylinux):
    platforms = manylinux.stem.rpartition("-")[2].split(".")
    assert f"manylinux_2_28_{os.uname().machine}" in platforms


def test_every_symbol_is_pythons_or_of_an_old_libc(modules):
    """A symbol that the old libc lacks is linked without a version, and nobody complains."""
    versions = set()
    for path in modules:
        table = run("nm", "--dynamic", "--undefined-only", "--with-symbol-versions", path)
        for symbol in re.findall(r"^ +U (\S+)$", table, flags=re.MULTILINE):
            name, _, version = symbol.partition("@")
            assert version or re.match("_?Py", name), f"{path.name}: {symbol}"
            versions.update(re.findall(r"GLIBC_(\d+)\.(\d+)", version))
    assert versions, "nm's table is not what we think it is"
    assert max((int(major), int(minor)) for major, minor in versions) <= GLIBC_MAX


def test_it_carries_liburing_and_shows_nothing_of_it(modules):
    names = run("nm", "--dynamic", *modules)
    assert "io_uring_" not in names
    assert sorted(set(re.findall(r" T (\w+)", names))) == sorted(
        f"PyInit_{path.name.split('.')[0]}" for path in modules
    )


def test_first_program_serves_from_it(manylinux, tmp_path):
    tools = install(manylinux, tmp_path / "environment")
    source = run(
        sys.executable, "-c", "from pybehave._uring.loop import Loop\nprint(Loop().source)"
    )
    printed, status = serve_and_say_hello(tools, tmp_path)
    assert status == 0, printed
    assert f"using {source.strip()}" in printed  # the same as the build of this machine
