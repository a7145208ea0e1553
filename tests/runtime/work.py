"""Functions that tests give to worker pools: a worker process finds them by their names."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

GATES: dict[str, threading.Event] = {}
"""For threads of the test's own process: what a job waits for."""


WAIT_S = 30.0
AGAIN_S = 0.005


def until(condition: Callable[[], Any]) -> None:
    """Ask until it is so; fails after half a minute."""
    pause = threading.Event()
    for _ in range(int(WAIT_S / AGAIN_S)):
        if condition():
            return
        pause.wait(AGAIN_S)
    raise AssertionError(f"it never became true: {condition}")


class Odd(Exception):
    """An exception that cannot be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


def own_pid() -> int:
    """Which process this is."""
    return os.getpid()


def add(one: Any, two: Any) -> Any:
    """A result, or a TypeError."""
    return one + two


def wait_at(gate: str, value: Any = None) -> Any:
    """Wait until the test opens a gate of its own process."""
    GATES[gate].wait(60)
    return value


def wait_for_file(path: str, started: str = "") -> None:
    """Say that it has begun, and wait for a file."""
    if started:
        Path(started).write_text(str(os.getpid()))
    while not Path(path).exists():
        signal.sigtimedwait([], 0.01)


def note_when(path: str, started: str, trace: str) -> None:
    """Wait for a file, then leave a trace."""
    wait_for_file(path, started)
    note(trace, "finished")


def note(path: str, text: str) -> str:
    """Leave a trace of having run."""
    with open(path, "a") as file:
        file.write(text + "\n")
    return text


def crash(how: str) -> None:
    """End the process."""
    if how == "segfault":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # a sanitizer would make it an exit
        os.kill(os.getpid(), signal.SIGSEGV)
    os._exit(int(how))


def odd(which: str) -> Any:
    """What cannot be sent, in one way or another."""
    if which == "error":
        raise Odd(1, 2)
    if which == "exit":
        raise SystemExit(3)
    return lambda: None


RUNS: Counter[Any] = Counter()
"""How often `count` was called, by its argument; simulated jobs run in the test's own process."""


def count(what: Any) -> Any:
    """Count the call; returns the argument."""
    RUNS[what] += 1
    return what
