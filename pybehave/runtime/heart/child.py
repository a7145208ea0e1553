"""The looked-after process's part: it does not outlive its parent, and says who takes its place.

What it has to say otherwise (ready, the loop's beat, stopping) it says to systemd, in whose place
the parent listens. Here is the rest: the stack of a process that is ended by a fault goes to the
log, the parent's death is a TERM, and a process that takes over from another one (`pybehave release
replace`, release/handover.py) tells how it was started, so that the parent can do so again. So does
one that runs other code than it was started with (`pybehave release upgrade`).

Does not know: what the parent makes of it (heart/parent.py).
Source: prctl(2), PR_SET_PDEATHSIG; OTP kernel, heart: the emulator ends when heart does.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from pybehave.errors import show
from pybehave.runtime import systemd
from pybehave.runtime.release import handover

if TYPE_CHECKING:
    from pybehave.runtime.node import Node

VARIABLE: Final = "PYBEHAVE_HEART"
"""In the environment: the number of the process that looks after this one."""

CODE: Final = "PYBEHAVE_CODE"
"""In the environment: where code is looked for first; "" = nowhere else."""

SUCCESSOR: Final = "X_PYBEHAVE_SUCCESSOR"
"""The notice of a process that is to take another one's place: its command line and CODE."""

COMMAND: Final = "X_PYBEHAVE_COMMAND"
"""The notice of a process that has changed its code: the same two, as they are to be now."""

LOOK_S: Final = 1.0
"""How often a process that took over looks whose child it is by now."""

PR_SET_PDEATHSIG: Final = 1


def is_looked_after() -> bool:
    """Say whether a parent looks after this process, or after the one whose place it takes."""
    parent = os.environ.get(VARIABLE)
    return parent is not None and (handover.VARIABLE in os.environ or parent == str(os.getppid()))


def code_folder() -> str | None:
    """Where code is looked for first; None = nowhere else."""
    return os.environ.get(CODE) or None


def begin(command: handover.Command | None) -> None:
    """Write the stack of a fatal fault to the log; and end with the parent, if there is one.

    Args:
        command: How this process was started to take another one's place; None = it was not.
    """
    if not faulthandler.is_enabled() and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    if VARIABLE not in os.environ:
        return
    if command is not None:
        systemd.notify(f"{SUCCESSOR}={_said(command)}")
    elif _parent() == os.getppid():
        _end_with_parent()


def say_command(command: handover.Command) -> None:
    """Let the parent, if there is one, start the next process so: this one has changed its code."""
    if VARIABLE in os.environ:
        systemd.notify(f"{COMMAND}={_said(command)}")


def _said(command: handover.Command) -> str:
    return json.dumps([command.words, command.folder])


def announcement(how: str) -> tuple[tuple[str, ...], str]:
    """Read how a process is to be started, as `begin` and `say_command` say it.

    Args:
        how: As it came, from whatever process of this user.

    Returns:
        Its command line, and where its code is looked for first.

    Raises:
        ValueError: It is something else; says what came.
    """
    try:
        found = json.loads(how)
    except (ValueError, RecursionError):
        found = None
    match found:
        case [[str(), *_] as words, str() as folder] if words[0] and all(
            isinstance(word, str) and _can_be_passed(word) for word in (*words, folder)
        ):
            return tuple(words), folder
    raise ValueError(f"{show(how)} is no command line and folder")


def _can_be_passed(word: str) -> bool:
    """Whether a process can be started with it."""
    try:
        return b"\0" not in os.fsencode(word)
    except UnicodeEncodeError:
        return False


def follow(node: Node) -> None:
    """A process that takes another one's place becomes its grandparent's child when that ends: from
    then on it ends with its grandparent.
    """
    if VARIABLE not in os.environ:
        return
    before = os.getppid()

    def look() -> None:
        if os.getppid() == before:
            node.loop.dispatcher.start_alarm(LOOK_S, look)
        else:
            _end_with_parent()

    look()


def _end_with_parent() -> None:
    """TERM when the parent ends; at once, if it has already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != _parent():
        signal.raise_signal(signal.SIGTERM)


def _parent() -> int:
    number = os.environ.get(VARIABLE, "")
    return int(number) if number.isascii() and number.isdigit() else 0
