"""What is in the wheel and in the source distribution."""

import os
import re
import sys
import sysconfig
import tarfile
import zipfile

import pytest

from tests.packaging.conftest import ROOT, run

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(1200)]  # builds, on a busy machine

MODULES = [path.stem for path in (ROOT / "src/_uring").glob("*.pyx")]
EXTENSIONS = {f"pybehave/_uring/{name}{sysconfig.get_config_var('EXT_SUFFIX')}" for name in MODULES}


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_has_the_compiled_modules(names):
    assert {name for name in names if name.endswith(".so")} == EXTENSIONS


def test_wheel_has_every_python_file_and_stub(names):
    package = ROOT / "pybehave"
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.suffix in (".py", ".pyi", ".typed") or path.name == "py.typed"
    }
    assert wanted - names == set()


def test_wheel_has_nothing_else(names):
    strange = [n for n in names if not re.search(r"\.(py|pyi|so|typed)$|\.dist-info/", n)]
    assert strange == []
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pybehave"}


def test_wheel_tag_is_this_python_and_not_abi3(wheel):
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    machine = os.uname().machine
    assert re.fullmatch(rf"pybehave-[\d.]+-{python}-{python}t?-linux_{machine}\.whl", wheel.name)


def test_wheel_carries_its_licences(unpacked):
    (folder,) = unpacked.glob("*.dist-info/licenses")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"LICENSE", "licenses/liburing.txt", "licenses/xxhash.txt"}


def test_metadata_names_version_python_and_command(unpacked):
    (info,) = unpacked.glob("*.dist-info")
    metadata = (info / "METADATA").read_text()
    version = re.search(r'__version__ = "(.+)"', (ROOT / "pybehave/_version.py").read_text())[1]
    assert f"\nVersion: {version}\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "Provides-Extra: testing" in metadata
    entry_points = (info / "entry_points.txt").read_text()
    assert "pybehave = pybehave.cli:main" in entry_points
    assert "[pytest11]\npybehave = pybehave.testing.plugin" in entry_points


def test_liburing_is_inside_and_only_libc_is_needed(unpacked):
    for path in unpacked.glob("pybehave/_uring/*.so"):
        undefined = run("nm", "--dynamic", "--undefined-only", path)
        assert "io_uring_" not in undefined, path.name
        needed = re.findall(r"NEEDED.*\[(.+?)\]", run("readelf", "--dynamic", path))
        assert set(needed) <= {"libc.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2"}, path.name


def test_modules_leave_nothing_undefined_but_python_and_libc(unpacked):
    for path in unpacked.glob("pybehave/_uring/*.so"):
        table = run("nm", "--dynamic", "--undefined-only", "--with-symbol-versions", path)
        symbols = re.findall(r"^ +U (\S+)$", table, flags=re.MULTILINE)
        assert [s for s in symbols if "@" not in s and not re.match("_?Py", s)] == [], path.name


def test_modules_export_only_their_init_function(unpacked):
    for path in unpacked.glob("pybehave/_uring/*.so"):
        exported = re.findall(r" [A-Z] (\w+)", run("nm", "--dynamic", "--defined-only", path))
        assert exported == [f"PyInit_{path.name.split('.')[0]}"]


def test_sdist_has_what_a_build_and_its_tests_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {"CMakeLists.txt", "cmake/Uring.cmake", "cmake/exports.map"}
    wanted |= {"LICENSE", "licenses/liburing.txt", "licenses/xxhash.txt"}
    wanted |= {"src/_uring/loop.pyx", "src/_uring/frame.c", "tests/test_tidy.py", "PKG-INFO"}
    assert wanted - names == set()
    strange = [n for n in names if re.search(r"\.so$|\.venv|^build/|__pycache__|\.pyc$", n)]
    assert strange == []
