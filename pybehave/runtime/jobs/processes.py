"""One worker process as the node sees it: started, given jobs, killed, buried.

A process is made by fork and exec at once (`subprocess`, which uses vfork), never by fork alone. A
copy of the node would have its io_uring, whose memory the kernel shares with the node and keeps out
of children, its connections, its journal's descriptors, and locks that threads held which do not
exist in the child. Between fork and exec no Python runs; exec closes all descriptors but one end of
a socket pair. `multiprocessing` would do the same ("spawn"), with a second process of its own that
outlives a killed node, and with the program's main module imported again.

Does not know: pools, the loop. Everything here blocks: it is for the thread of a hand.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final, final

from pybehave.actions import function_name
from pybehave.runtime.jobs import process_main

END_S: Final = 5.0
"""A process whose end of the connection is closed has ended, or does so within this time."""


@final
class Died(Exception):  # noqa: N818 -- a fact
    """The process is gone.

    Attributes:
        how: `"signal SIGSEGV"`, `"exit status 3"`.
    """

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


@final
class JobRaised(Exception):  # noqa: N818 -- a fact
    """A job raised an exception in its process that has no form in this one; this is its text."""


def start() -> Child:
    """Start a process; `wait_ready` says when it can work.

    Raises:
        OSError: No process, no descriptor, no interpreter.
    """
    ours, theirs = socket.socketpair()
    try:
        command = [sys.executable, process_main.__file__, str(os.getpid()), str(theirs.fileno())]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), close_fds=True
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(process, ours)


@final
class Child:
    """A process that runs process_main.py.

    Args:
        process: It.
        peer: Our end of the socket pair.
    """

    def __init__(self, process: subprocess.Popen[bytes], peer: socket.socket) -> None:
        self._process = process
        self._peer = peer

    def wait_ready(self) -> None:
        """Tell it where modules are found, and wait until it listens.

        Raises:
            Died: It has ended instead.
        """
        self._ask(pickle.dumps([path or os.getcwd() for path in sys.path]))

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> tuple[Any, BaseException | None]:
        """Let it call a function; returns the value or the error.

        Raises:
            Died: It has ended instead of answering.
        """
        try:
            function_name(function)
            task = pickle.dumps((function, args), pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is the job's outcome
            return None, error
        return _unpacked(self._ask(task))

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill it; from any thread."""
        self._process.kill()  # not one that was buried already: subprocess sees to that

    def end(self) -> None:
        """Kill it if it is still there, and bury it."""
        self._peer.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, message: bytes) -> bytes:
        try:
            process_main.send(self._peer, message)
            answer = process_main.receive(self._peer)
        except OSError:
            answer = None
        if answer is None:
            raise Died(self._how())
        return answer

    def _how(self) -> str:
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:  # a job has closed a descriptor that was not its own
            return "it closed its connection to the node"
        if status >= 0:
            return f"exit status {status}"
        try:
            return f"signal {signal.Signals(-status).name}"
        except ValueError:  # a real-time signal
            return f"signal {-status}"


def _unpacked(answer: bytes) -> tuple[Any, BaseException | None]:
    try:
        value, failure = pickle.loads(answer)
    except Exception as error:  # noqa: BLE001 -- a class that is not what it is there
        return None, error
    if failure is None:
        return value, None
    sentence, exact, text = failure
    raised = _raised(exact) or JobRaised(sentence)
    raised.add_note(f"In a worker process:\n{text.rstrip()}")
    return None, raised


def _raised(exact: bytes) -> BaseException | None:
    """The exception itself, if it can be made again here."""
    try:
        found = pickle.loads(exact)
    except Exception:  # noqa: BLE001 -- then its text has to do
        return None
    return found if isinstance(found, BaseException) else None
