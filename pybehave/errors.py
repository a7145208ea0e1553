# ruff: noqa: N818 -- OTP's own words (noproc, timeout, running): facts, not "...Error"
"""Every exception of the package: its fields, and the sentence it says.

An exception has fields for programs and one sentence for people: what happened to which named
thing, why, and what to do about it. Everything derives from `PybehaveError`, so one clause
catches the package's own failures and nothing else. Exceptions can be pickled, so that they
survive the way to another process.

Does not know: the loop, sockets, supervisors; it only names them.
"""

from __future__ import annotations

import errno
import os
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Final

from pybehave.error_base import VALUE_CHARS_MAX as VALUE_CHARS_MAX
from pybehave.error_base import PybehaveError as PybehaveError
from pybehave.error_base import show as show
from pybehave.error_base import show_reason as show_reason
from pybehave.input_errors import EphemeralTrace as EphemeralTrace
from pybehave.input_errors import InputTypeMismatch as InputTypeMismatch
from pybehave.input_errors import Rejected as Rejected
from pybehave.job_errors import JobCancelled as JobCancelled
from pybehave.job_errors import JobError as JobError
from pybehave.job_errors import JobLost as JobLost
from pybehave.job_errors import JobTimedOut as JobTimedOut
from pybehave.job_errors import WorkerDied as WorkerDied
from pybehave.journal_errors import CodecRefused as CodecRefused
from pybehave.journal_errors import CodeRefused as CodeRefused
from pybehave.journal_errors import DurabilityLost as DurabilityLost
from pybehave.journal_errors import JournalBusy as JournalBusy
from pybehave.journal_errors import JournalFull as JournalFull
from pybehave.journal_errors import JournalLocked as JournalLocked
from pybehave.journal_errors import JournalRefused as JournalRefused
from pybehave.journal_errors import NonDeterminism as NonDeterminism
from pybehave.journal_errors import NothingKept as NothingKept
from pybehave.journal_errors import NotJournalable as NotJournalable
from pybehave.journal_errors import RecordTooLarge as RecordTooLarge
from pybehave.journal_errors import StateNotKept as StateNotKept
from pybehave.journal_errors import StillRuns as StillRuns
from pybehave.release_errors import UpgradeFailed as UpgradeFailed
from pybehave.release_errors import UpgradeRefused as UpgradeRefused
from pybehave.store_errors import Fenced as Fenced
from pybehave.store_errors import InboxFull as InboxFull
from pybehave.store_errors import LeaseHeld as LeaseHeld
from pybehave.store_errors import NotQueued as NotQueued
from pybehave.store_errors import SequenceMismatch as SequenceMismatch
from pybehave.store_errors import StoreRefused as StoreRefused
from pybehave.store_errors import Trimmed as Trimmed
from pybehave.supervision_errors import AlreadyPresent as AlreadyPresent
from pybehave.supervision_errors import AlreadyStarted as AlreadyStarted
from pybehave.supervision_errors import ApplicationEnded as ApplicationEnded
from pybehave.supervision_errors import ChildError as ChildError
from pybehave.supervision_errors import DoNotRestart as DoNotRestart
from pybehave.supervision_errors import NotFound as NotFound
from pybehave.supervision_errors import NotStarted as NotStarted
from pybehave.supervision_errors import Restarting as Restarting
from pybehave.supervision_errors import Running as Running
from pybehave.supervision_errors import SimpleOneForOne as SimpleOneForOne
from pybehave.supervision_errors import TerminateTree as TerminateTree
from pybehave.types import is_clean

for _kind in [*vars().values()]:  # here they are looked for, by people and by pickle
    if isinstance(_kind, type) and issubclass(_kind, PybehaveError):
        _kind.__module__ = __name__


# --- calls -------------------------------------------------------------------


class NoProc(PybehaveError):
    """No server has this name. Source: OTP, `noproc`.

    Attributes:
        server: The name that was asked for, which may be a pool's.
    """

    def __init__(self, server: str, why: str = "") -> None:
        super().__init__(
            why
            or f"No server is named {server!r}: it was never started, has ended, or is just being "
            f"restarted; names() lists those that run"
        )
        self.server = server


class Timeout(PybehaveError, TimeoutError):
    """No reply came in time; the request may still be applied. Source: OTP, gen_server:call/3.

    Attributes:
        server: Who was called; "" if that was the loop, or a supervisor.
        seconds: How long the caller waited.
    """

    def __init__(self, server: str, seconds: float, who: str = "") -> None:
        super().__init__(
            f"{who or f'Server {server!r}'} did not reply within {seconds:g} s; the request may "
            f"still be applied and its late reply is dropped; ask again or give the call a longer "
            f"timeout"
        )
        self.server = server
        self.seconds = seconds


class Crashed(PybehaveError):
    """The server ended with a crash while the caller waited.

    Attributes:
        server: Who was called.
        crash_id: Leads to the crash in the log.
        reason: The exception, or any other abnormal reason.
        lsn: Of the input that it failed on, in the journal; 0 = it is in none.
    """

    def __init__(self, server: str, crash_id: str, reason: object, lsn: int = 0) -> None:
        super().__init__(server, crash_id, reason)
        self.lsn = lsn
        self.server = server
        self.crash_id = crash_id
        self.reason = reason
        if isinstance(reason, BaseException):
            self.__cause__ = reason

    def __str__(self) -> str:  # made when it is read: most who get it look at its type
        if len(self.args) == 1:  # out of a journal, which keeps the text
            return str(self.args[0])
        return (
            f"Server {self.server!r} crashed with {show_reason(self.reason)}; "
            f"the log has the traceback under crash id {self.crash_id}"
        )


class Suspended(PybehaveError):
    """The server is suspended, and whoever called cannot wait: it is on the loop's own thread.

    Source: OTP sys:suspend/1, where the caller would wait until its time is over.

    Attributes:
        server: Who was called.
    """

    def __init__(self, server: str) -> None:
        super().__init__(
            f"Server {server!r} is suspended and takes no inputs; resume it with "
            f"sys.resume, or call from another thread, which can wait for that"
        )
        self.server = server


class Stopped(PybehaveError):
    """The server ended without a crash while the caller waited.

    Attributes:
        server: Who was called.
        reason: What it ended with: `"normal"`, `"shutdown"`, `"killed"`, ...
    """

    def __init__(self, server: str, reason: object) -> None:
        super().__init__(server, reason)
        self.server = server
        self.reason = reason
        if isinstance(reason, BaseException):
            self.__cause__ = reason

    def __str__(self) -> str:  # made when it is read: each server that stops makes one for nobody
        if len(self.args) == 1:  # out of a journal, which keeps the text
            return str(self.args[0])
        return (
            f"Server {self.server!r} ended with reason {show_reason(self.reason)} before it "
            f"replied; start it again, or do not call it while it stops"
        )


def ended_error(server: str, incarnation: int, inputs: int, reason: object) -> Crashed | Stopped:
    """Return what those hear who wait for a server that ends with a reason.

    Args:
        server: Its name.
        incarnation: Which start of it.
        inputs: How many it has taken; with the others that is the id of its crash report.
        reason: What it ends with.

    Returns:
        Stopped for a clean reason; else Crashed, for that end is reported as a crash.

    Source: OTP gen_server:call/3: the caller exits with the reason that the server ended with.
    """
    if is_clean(reason):
        return Stopped(server, reason)
    return Crashed(server, f"{server}-{incarnation}-{inputs}", reason)


class InitStopped(Stopped):
    """A server did not start because its init returned `Stop(reason)`, or a machine's first turn.

    Attributes:
        what: `"init"` or `"first turn"`.
    """

    def __init__(self, server: str, reason: object, what: str = "init") -> None:
        super().__init__(server, reason)
        self.what = what
        self.args = (f"The {what} of {server!r} returned Stop({show_reason(reason)})",)


FIRST_TURN: Final = "in the machine's first turn, which is part of its start"
"""The note of what a state callback raised before its machine had started."""


class Interrupted(PybehaveError):
    """A journaled server started again before it heard of what it had asked for.

    Whether that was carried out is not known: it was once or never. Ask again, if twice does no
    harm (`idempotent=True` does so by itself), or use a name for the request (`Once`).

    Attributes:
        what: What was asked for.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"A restart came before the answer to {what}: it was carried out once or never; "
            f"ask again, or look"
        )
        self.what = what


class CallingSelf(PybehaveError):
    """A server called itself and would have waited for ever. Source: OTP, `calling_self`.

    Attributes:
        server: The server's name.
    """

    def __init__(self, server: str) -> None:
        super().__init__(
            f"Server {server!r} called itself, which could never be answered; "
            f"call the method directly, or return Continue(...) or Cast(...)"
        )
        self.server = server


class CallbackFailed(PybehaveError):
    """A function that a system request was given has raised; the server is as it was before.

    Source: OTP sys:replace_state/2, `callback_failed`.

    Attributes:
        server: Whose state the function was to see.
        request: `"replace_state"`, ...
        reason: What it raised.
    """

    def __init__(self, server: str, request: str, reason: BaseException) -> None:
        super().__init__(
            f"The function of {request} for server {server!r} failed with "
            f"{show_reason(reason)}; the server goes on with the state it had"
        )
        self.server = server
        self.request = request
        self.reason = reason
        self.__cause__ = reason


class CalledInCallback(PybehaveError):
    """A callback asked for something that it would have to wait for, and nothing else can run.

    Attributes:
        server: The server whose callback it was; "" outside of callbacks, on the loop's thread.
        called: The server it called, or what it asked for.
    """

    def __init__(self, server: str, called: str, mend: str = "") -> None:
        who = f"A callback of server {server!r}" if server else "The loop's own thread"
        super().__init__(
            f"{who} called {called!r}, but only one callback runs at a time; "
            + (
                mend
                or f"return the action Call({called!r}, ...) and take the answer in handle_info"
            )
        )
        self.server = server
        self.called = called


class RequestKnown(PybehaveError):
    """A request with a name (`Once`) was sent again, and its first outcome is not at hand.

    Nothing was stepped. What it had done when it came first stands.

    Attributes:
        server: The server that was asked.
        number: Which of its client's requests it is.
        reason: Why the outcome is not known.
    """

    def __init__(self, server: str, number: int, reason: str) -> None:
        super().__init__(
            f"Request {number} to {server!r} was not carried out again: {reason}; ask the server "
            f"what it did, or go on under a new client name"
        )
        self.server = server
        self.number = number
        self.reason = reason


class Overloaded(PybehaveError):
    """The mailbox is full and its policy is to reject.

    Attributes:
        server: Whose mailbox is full.
        capacity: How many inputs it holds.
    """

    def __init__(self, server: str, capacity: int) -> None:
        super().__init__(
            f"The mailbox of server {server!r} is full ({capacity} inputs wait); "
            f'send more slowly, give the worker a larger mailbox or overflow="block"'
        )
        self.server = server
        self.capacity = capacity


class RingOverloaded(Overloaded):
    """The ring of an event manager is full and its class's policy is to reject.

    Attributes:
        server: The manager.
        capacity: How many events the ring holds.
    """

    def __init__(self, server: str, capacity: int) -> None:
        PybehaveError.__init__(
            self,
            f"The ring of the event manager {server!r} is full: a slow handler is not done with "
            f"the {capacity} events in it; send more slowly, or give the manager's class a larger "
            f'capacity or overflow="block"',
        )
        self.server = server
        self.capacity = capacity


# --- jobs (`Run`) ------------------------------------------------------------


class PoolOverloaded(Overloaded):
    """A pool's queue is full: the job was not taken.

    Attributes:
        server: The pool.
        capacity: How many jobs may wait.
    """

    def __init__(self, pool: str, capacity: int) -> None:
        PybehaveError.__init__(
            self,
            f"The pool {pool!r} takes no more jobs ({capacity} wait already); run fewer at a time, "
            f"or give the Pool a larger size or queue",
        )
        self.server = pool
        self.capacity = capacity


class StepAborted(PybehaveError):
    """The watchdog has ended a step that took too long.

    Attributes:
        server: Whose step it was.
        seconds: How long it had been running.
    """

    def __init__(self, server: str = "", seconds: float = 0.0) -> None:
        super().__init__(
            f"A step of server {server!r} was aborted after {seconds:.3g} s, for nothing else runs "
            f"meanwhile; give what takes long to a worker (Run), or step_abort more seconds"
        )
        self.server = server
        self.seconds = seconds


# --- bytes at the edge -------------------------------------------------------


class DecodeError(PybehaveError):
    """Bytes from a client are not a message of the protocol; the client is told.

    Attributes:
        detail: What is wrong, in the protocol's words.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class FrameTooLong(DecodeError):
    """A client's message is longer than the protocol's limit.

    Attributes:
        limit: The limit in bytes, `frame_bytes_max`.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The message is longer than {limit} bytes; send less or raise frame_bytes_max"
        )
        self.limit = limit


class ContractBroken(DecodeError):
    """A message is one of the protocol, but not at this place of the conversation.

    Attributes:
        rule: What the listener's contract says about it.
        is_last: It ends the connection, whatever the contract says about others.
    """

    def __init__(self, rule: str, *, is_last: bool = False) -> None:
        super().__init__(rule)
        self.rule = rule
        self.is_last = is_last


class EncodeError(PybehaveError):
    """An output cannot be written in the protocol; it counts as a crash of the step.

    Attributes:
        value: What could not be encoded.
        detail: Why, in the protocol's words.
    """

    def __init__(self, value: object, detail: str) -> None:
        super().__init__(f"The output {show(value)} cannot be encoded: {detail}")
        self.value = value
        self.detail = detail


# --- specifications and callbacks --------------------------------------------


STEPPED: Final = ("handle_call", "handle_cast")
"""What stands for a server's step, unless it overrides them."""

RESULT: Final = "return (state, output) or (state, output, actions)"
MISPLACED: Final = "actions are the third: (state, output, actions)"


class BadReturn(PybehaveError):
    """A callback returned something else than it may. Source: OTP, `bad_return_value`.

    Attributes:
        server: The server's name.
        callback: `"step"`, `"handle_call"`, ...
        value: What it returned.
    """

    def __init__(
        self,
        server: str,
        callback: str,
        value: object,
        allowed: str = RESULT,
    ) -> None:
        mend = allowed
        if isinstance(value, CoroutineType | GeneratorType | AsyncGeneratorType):
            mend = f"it is suspended and nobody runs it: {allowed}, without async or yield"
        elif type(value) is tuple and len(value) == 3 and allowed is RESULT:
            mend = f"its third is no action of pybehave.actions, nor a list of them; {allowed}"
        whose = f"{callback} (or step)" if callback in STEPPED else callback
        said = f"{show(value)}; {mend}"
        if allowed is MISPLACED and type(value) is tuple:  # the mend first: it may be long
            said = f"actions as its output; {mend}; it was {show(value[1])}"
        super().__init__(f"Server {server!r}: {whose} returned {said}")
        self.server = server
        self.callback = callback
        self.value = value


class EndlessTurn(PybehaveError):
    """A state machine went on within one turn for so long that it never ends.

    Attributes:
        server: The server's name.
        limit: How often it may do that.
    """

    def __init__(self, server: str, what: str, limit: int) -> None:
        super().__init__(
            f"Server {server!r}: {what} more than {limit} times in one turn, which holds up all "
            f"others; let it end, or use a time-out of more than 0 seconds"
        )
        self.server = server
        self.limit = limit


class InvariantViolated(PybehaveError):
    """A step has come to a state that breaks an invariant; the input has not happened.

    Attributes:
        server: The server's name.
        invariant: Which one.
        input: What the callback was given; of an init its args.
        state: The state that it came to, which was not kept.
    """

    def __init__(
        self,
        server: str,
        invariant: str,
        input: object,  # noqa: A002 -- what it is
        state: object,
        why: str = "",
    ) -> None:
        reason = f": {why}" if why else ""
        super().__init__(
            f"Server {server!r}: {show(input)} leads to the state {show(state)}, which breaks the "
            f"invariant {invariant!r}{reason}; the state before stands, mend the step"
        )
        self.server = server
        self.invariant = invariant
        self.input = input
        self.state = state


class SpecError(PybehaveError, ValueError):
    """A tree, worker or listener is described wrongly; nothing was started.

    Attributes:
        path: Which part of the description, as `Supervisor 'kv' child 'cache'`.
        detail: Which field, its value, and what is allowed.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


class ConfigError(PybehaveError, ValueError):
    """A value of an application's environment is not allowed; nothing was started or changed.

    Attributes:
        key: Application and key, as "kv.port".
        detail: What is wrong with it.
        origin: The file, or the option, that it comes from; "" when it was given in code.
    """

    def __init__(self, key: str, detail: str, origin: str = "") -> None:
        super().__init__(f"{origin}: {key}: {detail}" if origin else f"{key}: {detail}")
        self.key = key
        self.detail = detail
        self.origin = origin


# --- supervision -------------------------------------------------------------


class StartFailed(PybehaveError):
    """A child did not start; what had started before it was stopped again.

    A failure below nested supervisors is chained once per level, as in OTP
    (`{shutdown, {failed_to_start_child, Id, Reason}}`); `root_cause` is the innermost reason.

    Attributes:
        path: The child, as `kv/sessions/cache`; the application whose start phase failed.
        reason: Why: the exception of its init, or the `StartFailed` of the level below.
    """

    path: str
    reason: object

    def __init__(self, path: str, reason: object, *, phase: str | None = None) -> None:
        cause: object = reason
        where = path
        what = "Child" if phase is None else "Application"
        while isinstance(cause, StartFailed):
            where, cause = cause.path, cause.reason
        own = "first turn" if FIRST_TURN in getattr(cause, "__notes__", ()) else "init"
        why = f"the {own} of {where!r} failed with {show_reason(cause)}"
        mend = f"the {own}"
        if phase is not None:
            why = f"its start phase {phase!r} failed with {show_reason(cause)}"
            mend = "that phase"
        elif isinstance(cause, InitStopped):
            why = f"the {cause.what} of {where!r} returned Stop({show_reason(cause.reason)})"
            mend = f"the {cause.what}"
        elif isinstance(cause, SpecError):  # it came to no init
            why, mend = f"of a wrong description ({cause})", "that"
        super().__init__(
            f"{what} {path!r} did not start because {why}; what had started was stopped again; "
            f"mend {mend} and start again"
        )
        self.path = path
        self.reason = reason
        if isinstance(reason, BaseException):
            self.__cause__ = reason

    @property
    def root_cause(self) -> object:
        """The reason at the innermost level, usually the exception that init raised."""
        cause = self.reason
        while isinstance(cause, StartFailed):
            cause = cause.reason
        return cause


# --- the loop ----------------------------------------------------------------


class RequestRefused(PybehaveError):
    """A node did not carry out a request that came through its admin socket.

    Attributes:
        detail: Why, in one sentence.
        kind: The class of the exception in the node, or of this one.
    """

    def __init__(self, detail: str, kind: str = "RequestRefused") -> None:
        super().__init__(detail)
        self.detail = detail
        self.kind = kind


class NotAnswered(PybehaveError):
    """No node answers at an admin socket.

    Attributes:
        path: The socket.
        reason: The system's error, or None when the other end hung up.
    """

    def __init__(self, path: str, reason: BaseException | None = None) -> None:
        sentence = _NOT_ANSWERED.get(type(reason), _CANNOT_ASK)
        if isinstance(reason, OSError) and reason.errno == errno.ENOTSOCK:
            sentence = _NO_SOCKET
        super().__init__(sentence.format(path, reason))
        self.path = path
        self.reason = reason


_HUNG_UP = (
    "The node at {} has ended the connection; it was stopped, has no descriptor left, or is "
    "another program"
)
_CANNOT_ASK = "The node at {} cannot be asked: {}"
_NO_SOCKET = (
    "{} is no socket; name the admin socket of a node that runs, or the folder of its journal"
)
_NOT_ANSWERED: dict[type, str] = {
    type(None): _HUNG_UP,
    ConnectionResetError: _HUNG_UP,
    BrokenPipeError: _HUNG_UP,
    TimeoutError: (
        "The node at {} does not answer in time: a step may be taking too long; ask again, or look "
        "at its log"
    ),
    FileNotFoundError: "There is no admin socket at {}; `pybehave run --admin PATH` opens one",
    NotADirectoryError: "There is no admin socket at {}; `pybehave run --admin PATH` opens one",
    ConnectionRefusedError: (
        "Nobody answers at {} any more: its node was killed; start it again, and it takes the "
        "socket over"
    ),
    PermissionError: "The admin socket at {} is another user's; ask as that user, or as root",
}


class SourceUnavailable(PybehaveError):
    """A completion source was asked for by name and cannot be had here.

    Attributes:
        source: `"uring"`, `"epoll"`, ...
        reason: Why, with the mend.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"Completion source {source!r} cannot be used: {reason}")
        self.source = source
        self.reason = reason


class LoopForked(PybehaveError):
    """A loop was used in the child of a fork; its ring belongs to the parent."""

    def __init__(self) -> None:
        super().__init__(
            "This loop was made before fork() and belongs to the parent process; "
            "make a new one in the child"
        )


class LoopClosed(PybehaveError):
    """A loop was used after it was closed, or in a way its state does not allow.

    Attributes:
        detail: What was wrong, and the mend.
    """

    def __init__(
        self, detail: str = "This loop is closed; start the application again to get a new one"
    ) -> None:
        super().__init__(detail)
        self.detail = detail


LISTEN_ADVICE = {
    errno.EADDRINUSE: "choose another address, or end whatever holds this one",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; choose one that has",
    errno.ENOTDIR: "what stands for its folder is no folder; choose another path",
    errno.EACCES: (
        "ports below 1024 and other people's folders are not yours; choose another, or get the "
        "right (CAP_NET_BIND_SERVICE)"
    ),
    errno.EROFS: "the file system is read-only; choose another path",
    errno.EAFNOSUPPORT: "this system has no such addresses (IPv6 is off?); choose another",
    errno.ENOENT: "make the folder, or choose another path",
    errno.EBADF: "let whoever starts this process pass it on, or choose another address",
    errno.ENOTSOCK: "name a listening socket, or choose another address",
    errno.EMFILE: "let this process open more (`ulimit -n`, LimitNOFILE of systemd)",
    errno.ENFILE: "let the system open more (sysctl fs.file-max)",
}
"""What to do when the system refuses a socket; whoever accepts one says it, too."""
_LISTEN_WORDS = {
    errno.ENOENT: "the folder is missing",
    errno.EBADF: "this process has inherited no such descriptor",
    errno.ENOTSOCK: "that descriptor is no socket",
}
"""Where the system's own word says too little."""


class ListenFailed(PybehaveError):
    """A listener could not be opened.

    Attributes:
        url: The listener's address.
        reason: The system's error, or a sentence.
    """

    def __init__(self, url: str, reason: object) -> None:
        text, advice = show_reason(reason), "choose another address"
        if isinstance(reason, OSError) and reason.strerror:
            number, text = reason.errno or 0, reason.strerror
            if text == os.strerror(number):  # not a sentence of our own
                text = _LISTEN_WORDS.get(number, text)
                advice = LISTEN_ADVICE.get(number, advice)
        super().__init__(f"Cannot listen on {url}: {text}; {advice}")
        self.url = url
        self.reason = reason
        if isinstance(reason, BaseException):
            self.__cause__ = reason
