"""Compiles the C programs of the benchmarks when they are first needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent / "build" / "bench"


class CannotBuildError(Exception):
    """A program cannot be had here; says what is missing."""


def compiled(source: str, *libraries: str) -> Path:
    """Return the program made from `bench/SOURCE`, compiling it if it is older than its source.

    Raises:
        CannotBuildError: No compiler, or a library is missing.
    """
    path = HERE / source
    program = OUT / path.stem
    if program.exists() and program.stat().st_mtime > path.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotBuildError("no C compiler; on Debian and Ubuntu: apt-get install gcc")
    OUT.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", str(path), "-o", str(program), *(f"-l{lib}" for lib in libraries)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise CannotBuildError(f"{source} does not compile: {result.stderr.strip()[-500:]}")
    return program


def erlang() -> Path:
    """Return the folder with the compiled Erlang modules.

    Raises:
        CannotBuildError: Erlang is not installed.
    """
    if shutil.which("erlc") is None or shutil.which("erl") is None:
        raise CannotBuildError("no Erlang; on Debian and Ubuntu: apt-get install erlang-base")
    OUT.mkdir(parents=True, exist_ok=True)
    sources = sorted((HERE / "contenders").glob("*.erl"))
    subprocess.run(["erlc", "-o", str(OUT), *map(str, sources)], check=True)
    return OUT


def erlang_rate(name: str, expression: str) -> float | None:
    """Return the figure that an expression prints in one Erlang node; None without Erlang.

    Args:
        name: The contender's, to say that it is left out.
    """
    try:
        modules = str(erlang())
    except CannotBuildError as error:
        print(f"left out: {name}: {error}", file=sys.stderr)
        return None
    command = ["erl", "-noshell", "+S", "1", "-pa", modules, "-eval", expression]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
