"""`pybehave run examples.kv:app` as a process that is meant to die."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.processes import COMMAND

SEGMENT_BYTES = 256 << 10
"""Small, so that every round rolls to new segments."""

TARGET = "examples.kv:app"

END_S = 40.0


class NotStarted(AssertionError):
    """A server did not begin to serve, and said why."""


class Served:
    """A server that may have begun or not.

    Attributes:
        process: Its process.
        lines: What it said until it was ready; nothing when it never was.
    """

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self.lines: list[str] = []
        self._errors = errors

    @property
    def port(self) -> int:
        """Where it listens."""
        url = next(line.split()[0] for line in self.lines if "->" in line)
        return int(url.rpartition(":")[2])

    @property
    def is_ready(self) -> bool:
        """Whether it got as far as serving."""
        return bool(self.lines) and self.lines[-1].startswith("ready")

    @property
    def errors(self) -> str:
        """What it said on stderr so far."""
        return self._errors.read_text("utf-8", "replace")

    def wait_ready(self) -> Served:
        """Read what it says; an end before it is ready is the caller's to judge."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if self.is_ready:
                break
        return self

    def kill(self) -> None:
        """SIGKILL, and wait until its descriptors are closed."""
        self.process.kill()
        self.process.wait(END_S)

    def wait(self) -> int:
        """Its exit status, when it ends by itself."""
        return self.process.wait(END_S)

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


def unguarded(without: str) -> list[str]:
    """The command without one safeguard."""
    return [sys.executable, "-m", "tests.power.unguarded", without]


@contextlib.contextmanager
def starting(
    data: Path | str, source: str, *words: str, target: str = TARGET, without: str = ""
) -> Iterator[Served]:
    """Start a server; at the end it is killed if it still lives.

    Args:
        without: The safeguard that it lacks, by its name in unguarded.py.
    """
    command = [*(unguarded(without) if without else COMMAND), "run", target]
    command += ["--listen", "tcp://127.0.0.1:0"]
    command += ["--backend", source, "--log-level", "warning", "--data", str(data)]
    if "--segment-bytes" not in words:
        command += ["--segment-bytes", str(SEGMENT_BYTES)]
    number, errors = tempfile.mkstemp(prefix="pybehave-power-")
    with os.fdopen(number, "w") as stderr:
        process = subprocess.Popen(
            [*command, *words], stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    served = Served(process, Path(errors))
    try:
        yield served.wait_ready()
    finally:
        served.kill()
        assert process.stdout is not None
        process.stdout.close()
        os.unlink(errors)


@contextlib.contextmanager
def serving(
    data: Path | str, source: str, *words: str, target: str = TARGET, without: str = ""
) -> Iterator[Served]:
    """Start a server that must begin to serve, or raise NotStarted."""
    with starting(data, source, *words, target=target, without=without) as served:
        if not served.is_ready:
            raise NotStarted(f"it did not start, status {served.wait()}:\n{served.errors}")
        yield served
