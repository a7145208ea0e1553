"""What a supervisor knows of a child before it starts: the specification and its validators.

A specification is plain, immutable data, checked at construction: one table says per field what
is allowed, and the error names the field, the value and the mend. Behind this door nobody checks
again.

Invariants
  (C1) A `Worker` that exists is valid: every field passed its row of `WORKER_RULES`.
  (C2) An id never contains "/", so that ids joined by "/" make a path that can be taken apart.

Does not know: who supervises it (the rules that relate a child to its supervisor are in
supervisor.py), what its server does.
Source: OTP stdlib, supervisor, `child_spec()` and its defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final, Generic, final

from pybehave.behaviours.backoff import BACKOFF_RULE, Backoff
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.observer import Observer
from pybehave.behaviours.policies import RECOVERY_RULE
from pybehave.behaviours.rules import TEXT, Rule, check, is_count, is_number, is_text, one_of
from pybehave.errors import show
from pybehave.together import Together
from pybehave.types import (
    Acknowledge,
    Input,
    OnRestart,
    Output,
    Overflow,
    RecoverySpec,
    Restart,
    ServerCaller,
    ShutdownLimit,
)

SHUTDOWN_S: Final = 5.0
"""OTP's default for workers: 5000 ms."""

MAILBOX_CAPACITY: Final = 1024
"""Inputs a server may have waiting; enough for a burst, bounded so that memory is."""

ID_CHARS_MAX: Final = 255
"""An id is part of every report's line; longer ones are mistakes."""

RESTARTS: Final = ("permanent", "transient", "temporary")
OVERFLOWS: Final = ("block", "reject", "drop_oldest")
ACKNOWLEDGES: Final = ("disk", "os", "memory")


def _is_shutdown(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("brutal_kill", "infinity")
    return is_number(value) and value >= 0


def _makes_server(value: Any) -> bool:
    """A class must be a server's; what a function makes is seen when it is called."""
    if isinstance(value, type):
        return issubclass(value, GenServer)
    if isinstance(value, FunctionType) and value.__code__.co_argcount > len(
        value.__defaults__ or ()
    ):
        return False  # nobody would give it what it wants: a step function, mostly
    return callable(value)


def _is_id(value: Any) -> bool:
    return is_text(value) and len(value) <= ID_CHARS_MAX and "/" not in value


ID_RULE: Final = Rule(
    _is_id, f'a string of 1 to {ID_CHARS_MAX} characters without "/" and control characters'
)
RESTART_RULE: Final = one_of(*RESTARTS)
SHUTDOWN_RULE: Final = Rule(_is_shutdown, 'seconds >= 0, "brutal_kill" or "infinity"')
BOOL_RULE: Final = Rule(lambda value: isinstance(value, bool), "True or False")

WORKER_RULES: Final[Mapping[str, Rule]] = {
    "id": ID_RULE,
    "server": Rule(
        _makes_server, "a GenServer class, or a function without arguments that makes one"
    ),
    "restart": RESTART_RULE,
    "shutdown": SHUTDOWN_RULE,
    "significant": BOOL_RULE,
    "name": Rule(is_text, TEXT),
    "mailbox": Rule(lambda value: is_count(value) and value >= 1, "an integer >= 1"),
    "overflow": one_of(*OVERFLOWS),
    "journal": BOOL_RULE,
    "recovery": RECOVERY_RULE,
    "acknowledge": one_of(*ACKNOWLEDGES),
    "backoff": BACKOFF_RULE,
    "observers": Rule(
        lambda value: isinstance(value, tuple) and all(isinstance(o, Observer) for o in value),
        "a list of objects of classes derived from Observer",
    ),
}


@final
@dataclass(frozen=True, slots=True)
class Ref(Generic[Input, Output]):
    """A worker's name that remembers the types of what it takes and gives.

    Attributes:
        name: The server's registered name.
    """

    name: str

    def call(
        self,
        node: ServerCaller,
        request: Input,
        *,
        timeout: float | None = 5.0,
        on_restart: OnRestart = "fail",
    ) -> Output:
        """Send a request to this server on a node and wait for the reply.

        Args:
            node: Where the server runs.
            request: What its handle_call gets.
            timeout: Seconds; None waits for ever.
            on_restart: What the server's end means for a request that it has not begun.

        Raises:
            NoProc, Crashed, Stopped, Overloaded, Timeout: As the node's `call`.
        """
        reply: Output = node.call(self.name, request, timeout=timeout, on_restart=on_restart)
        return reply

    def call_together(
        self,
        node: ServerCaller,
        requests: Iterable[Input],
        *,
        timeout: float | None = 5.0,
        on_restart: OnRestart = "fail",
    ) -> list[Output]:
        """Send several requests as one input: all of them happen, or none; see Together.

        Args:
            node: Where the server runs.
            requests: In their order, at least one.
            timeout: Seconds; None waits for ever.
            on_restart: What the server's end means for requests that it has not begun.

        Raises:
            NoProc, Crashed, Stopped, Overloaded, Timeout: As the node's `call`; none has happened.
        """
        together = Together(requests)
        replies: list[Output] = node.call(
            self.name, together, timeout=timeout, on_restart=on_restart
        )
        return replies

    def cast(self, node: ServerCaller, message: Input) -> None:
        """Send a message to this server on a node and wait for nothing."""
        node.cast(self.name, message)


@final
@dataclass(frozen=True, slots=True, init=False)
class Worker(Generic[Input, Output]):
    """A leaf of the tree: one server, and how its supervisor treats it.

    Attributes:
        id: Unique among its siblings.
        server: The GenServer class, or a function without arguments that makes a server.
        args: What init gets.
        restart: When it is started again: "permanent" always, "transient" after an abnormal
            end, "temporary" never.
        shutdown: Seconds it has for cleaning up when its supervisor stops it, "infinity", or
            "brutal_kill" for none. One that ends by itself takes the time that it needs.
        significant: Whether its end may end its supervisor (see auto_shutdown).
        name: Its registered name, unique in the whole tree; the id unless given.
        mailbox: How many inputs may wait.
        overflow: What happens to more: "block" stops reading from who sends, "reject" answers
            `Overloaded`, "drop_oldest" forgets the oldest.
        journal: Whether its inputs are kept on disk, so that its state survives.
        recovery: With a journal, what it starts again with after a crash: "last_good" is its
            state before the input it failed on, "clean" begins anew with init, `Rollback(n)`
            takes n more inputs back, "stop" ends the node. A tuple is a ladder: a server that
            fails again within 5 s gets the next one. A mapping from exception classes to these
            selects by what was raised, the most derived class first; for others it is "last_good".
        acknowledge: With a journal, when a reply leaves: "disk" when all that it shows is durable,
            "os" when it outlives the process, "memory" at once.
        backoff: How long each restart waits; None is not at all.
        observers: Who is shown its states, and cannot hurt it (Observer).

    Raises:
        SpecError: Names the field, its value and what is allowed.
    """

    id: str
    server: Callable[[], GenServer[Any, Input, Output]]
    args: Any
    restart: Restart
    shutdown: ShutdownLimit
    significant: bool
    name: str
    mailbox: int
    overflow: Overflow
    journal: bool
    recovery: RecoverySpec
    acknowledge: str
    backoff: Backoff | None
    observers: tuple[Observer, ...]

    def __init__(
        self,
        id: str,  # noqa: A002 -- OTP's word for it
        server: Callable[[], GenServer[Any, Input, Output]],
        args: Any = None,
        *,
        restart: Restart = "permanent",
        shutdown: ShutdownLimit = SHUTDOWN_S,
        significant: bool = False,
        name: str | None = None,
        mailbox: int = MAILBOX_CAPACITY,
        overflow: Overflow = "block",
        journal: bool = False,
        recovery: RecoverySpec = "last_good",
        acknowledge: Acknowledge = "disk",
        backoff: Backoff | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        fields = {
            "id": id,
            "server": server,
            "args": args,
            "restart": restart,
            "shutdown": shutdown,
            "significant": significant,
            "name": id if name is None else name,
            "mailbox": mailbox,
            "overflow": overflow,
            "journal": journal,
            "recovery": dict(recovery) if isinstance(recovery, Mapping) else recovery,
            "acknowledge": acknowledge,
            "backoff": backoff,
            "observers": tuple(observers) if isinstance(observers, Iterable) else observers,
        }
        check(f"Worker {show(id)}", WORKER_RULES, fields)
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    def made(self, name: str, args: Any) -> Worker[Input, Output]:
        """Return a child made from this template: the same under a name and args of its own."""
        copy: Worker[Input, Output] = object.__new__(Worker)
        own = {"id": name, "name": name, "args": args}
        for field in Worker.__slots__:
            object.__setattr__(copy, field, own[field] if field in own else getattr(self, field))
        return copy

    def with_server(self, server: Callable[[], Any]) -> Worker[Input, Output]:
        """Return this worker with another class in its place."""
        check(f"Worker {show(self.id)}", {"server": WORKER_RULES["server"]}, {"server": server})
        copy: Worker[Input, Output] = object.__new__(Worker)
        for field in Worker.__slots__:
            value = server if field == "server" else getattr(self, field)
            object.__setattr__(copy, field, value)
        return copy

    @property
    def ref(self) -> Ref[Input, Output]:
        """The typed name by which this worker is called."""
        return Ref(self.name)

    @property
    def server_name(self) -> str:
        """How the server's class or factory is called, for people."""
        return getattr(self.server, "__qualname__", type(self.server).__qualname__)
