"""How a build behaves when something is missing, and what the C library may not contain."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.packaging.conftest import ROOT, run

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(1200)]  # builds, on a busy machine

# Sections that a module may change at run time. .data.rel.ro is only relocated, then read-only.
WRITABLE = re.compile(r" O (\.data|\.bss|\.tdata|\.tbss|\*COM\*)(?!\.rel\.ro)\S*\s+\S+\s+(\S+)")


def configure(target, *options, **environment):
    """Run CMake for the C part only; return the exit status and what it printed."""
    command = ["cmake", "-S", ROOT, "-B", target, "-DPYBEHAVE_MODULES=OFF", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    return done.returncode, done.stdout + done.stderr


def sentences(said):
    return [line.strip() for line in said.splitlines() if line.strip().startswith("pybehave:")]


@pytest.fixture
def no_liburing(tmp_path):
    """An environment in which pkg-config finds nothing."""
    empty = tmp_path / "empty"
    empty.mkdir()
    return {"PKG_CONFIG_LIBDIR": str(empty), "PKG_CONFIG_PATH": ""}


def test_c_library_has_no_static_state(tmp_path):
    status, said = configure(tmp_path)
    assert status == 0, said
    run("cmake", "--build", tmp_path, "--target", "core_c")
    table = run("objdump", "--syms", tmp_path / "libcore_c.a")
    assert len(re.findall(r" F \.text", table)) > 0, "objdump's table is not what we think it is"
    assert [found[2] for found in WRITABLE.finditer(table)] == []


def test_build_without_liburing_says_one_sentence(tmp_path, no_liburing):
    status, said = configure(tmp_path / "build", **no_liburing)
    assert status == 0, said
    (sentence,) = sentences(said)
    assert "epoll and sim only" in sentence
    assert "apt-get install liburing-dev" in sentence


def test_wheel_without_liburing_has_no_trace_of_it(wheel_without_uring, tmp_path):
    wheel, said = wheel_without_uring
    assert [s for s in sentences(said) if "epoll and sim only" in s], said
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "files")
    for path in (tmp_path / "files").glob("pybehave/_uring/*.so"):
        assert not re.search(r"\bU (io_uring|source)_", run("nm", "--dynamic", path)), path.name


def test_build_that_demands_liburing_fails_with_one_sentence(tmp_path, no_liburing):
    status, said = configure(tmp_path / "build", "-DPYBEHAVE_URING=ON", **no_liburing)
    assert status != 0
    (sentence,) = sentences(said)
    assert "apt-get install liburing-dev" in sentence


@pytest.mark.parametrize("wanted", ["", "compiler-that-python-was-built-with"])
def test_build_without_a_compiler_fails_with_one_sentence(tmp_path, wanted):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("cmake", "make"):
        (tools / tool).symlink_to(shutil.which(tool))
    options = ["-G", "Unix Makefiles"]
    status, said = configure(tmp_path / "build", *options, PATH=str(tools), CC=wanted)
    assert status != 0
    (sentence,) = sentences(said)
    assert "apt-get install gcc" in sentence


def test_build_without_python_headers_fails_with_one_sentence(tmp_path):
    missing = tmp_path / "nowhere"
    # The cmake of the build requirements, as scikit-build-core would run it.
    cython = run(sys.executable, "-c", "import cython_cmake as c; print(c.__path__[0])").strip()
    options = ["-DPYBEHAVE_MODULES=ON", f"-DCMAKE_MODULE_PATH={cython}/cmake"]
    options += [f"-DPython_EXECUTABLE={sys.executable}", f"-DPython_INCLUDE_DIR={missing}"]
    status, said = configure(tmp_path / "build", *options)
    assert status != 0
    found = [s for s in sentences(said) if "apt-get install python3-dev" in s]
    assert len(found) == 1, said


def test_warnings_of_the_c_library_are_errors_when_asked(tmp_path):
    status, said = configure(tmp_path, "-DPYBEHAVE_WERROR=ON", "-DPYBEHAVE_TESTS=ON")
    assert status == 0, said
    run("cmake", "--build", tmp_path)
