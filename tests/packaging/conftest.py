"""One source distribution and the wheel built from it, shared by the tests of a run."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(*command, **options):
    """Run a command; a failure shows everything that it printed."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def build_wheel(source, target, *settings, **environment):
    """Build a wheel of the folder `source` into `target`; return its path and what was printed."""
    config = [f"--config-settings={setting}" for setting in settings]
    said = run(
        sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "--no-build-isolation",
        *config, "--wheel-dir", target, source,
        env=os.environ | environment,
    )  # fmt: skip
    (wheel,) = Path(target).glob("*.whl")
    return wheel, said


@pytest.fixture(scope="session")
def sdist(tmp_path_factory):
    target = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", target, ROOT)
    (path,) = target.glob("*.tar.gz")
    return path


@pytest.fixture(scope="session")
def source(sdist, tmp_path_factory):
    """The unpacked source distribution: what a packager starts from."""
    target = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        # Debian 12's Python is 3.11.2, and filters came with 3.11.4.
        options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(target, **options)
    (folder,) = target.iterdir()
    return folder


@pytest.fixture(scope="session")
def wheel(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))[0]


@pytest.fixture(scope="session")
def wheel_without_uring(source, tmp_path_factory):
    """A wheel that was built where pkg-config finds nothing, and what its build said."""
    folder = tmp_path_factory.mktemp("without_uring")
    (folder / "empty").mkdir()
    # Of its own: the other wheel's build folder remembers that liburing was found.
    copy = shutil.copytree(source, folder / "source", ignore=shutil.ignore_patterns("build"))
    environment = {"PKG_CONFIG_LIBDIR": str(folder / "empty"), "PKG_CONFIG_PATH": ""}
    return build_wheel(copy, folder / "wheel", **environment)


@pytest.fixture(scope="session")
def unpacked(wheel, tmp_path_factory):
    """The files of the wheel, in a folder."""
    target = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target
