"""Servers being stepped again: one pass over the journal's records.

SERVER records say who a number is, START records that an incarnation begins; both come here. Inputs
are stepped in the core (src/_uring/replay.pyx). A START makes a new instance and calls its `init`,
as the first time: what `init` sets on the instance is there again, and the state it returns counts
only when the incarnation began anew.

Does not know: files, what becomes of the result (journaling.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final

from pybehave._uring.replay import Replayer
from pybehave._uring.values import Values
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import Initial, initial_of
from pybehave.errors import JournalRefused
from pybehave.jobs import JOBS_FROM
from pybehave.journal.snapshot import Snapshot
from pybehave.runtime.servers import make_server

if TYPE_CHECKING:
    from pybehave._uring.requests import Requests
    from pybehave._uring.servers import Server

RECORD_SERVER: Final = 2
RECORD_START: Final = 4
"""Numbers of `enum record_type` in src/_uring/segment.h."""


class Journal(Protocol):
    """What a replay asks of whoever reads the journal."""

    @property
    def node(self) -> Any:
        """Has the loop whose servers are made."""

    def set_number(self, name: str, number: int) -> None:
        """Take note of a server's number."""

    def values_of(self, worker: Worker[Any, Any], instance: Any) -> Values:
        """Return what decodes a server's inputs."""


@final
@dataclass(frozen=True, slots=True)
class Encoded:
    """A message as a snapshot has it: only its receiver's types can read it."""

    data: bytes


Undelivered: TypeAlias = tuple[int, int, str, int, Any]
"""lsn of the input that sent it, which of its messages it is, receiver, kind, message."""


@final
@dataclass(slots=True)
class Known:
    """What the journal knows of a server that does not run.

    Attributes:
        state: Its state; None with `is_dirty`, when it has to be built again.
        due: Its timers: name -> (Unix time ns, message).
        idle_s: Its idle timeout, 0 = none.
        incarnation: The latest.
        is_dirty: Its state may have been changed half way by the input it failed on.
        is_after_crash: It ended by an exception while this node ran.
        dump: Makes of the state what a snapshot keeps.
        lost: Connections that it was told of, and that ended with the process before.
        requests: What is remembered of requests that their clients have named.
        server: The incarnation that the replay ended with; None when it ran in this node.
    """

    state: Any
    due: dict[Any, tuple[int, Any]]
    idle_s: float
    incarnation: int
    is_dirty: bool = False
    is_after_crash: bool = False
    dump: Callable[[Any], Any] | None = None
    lost: tuple[Any, ...] = ()
    requests: Requests | None = None
    server: Server | None = None


@final
class Replay:
    """One pass over the journal.

    Args:
        journal: Whose.
        specs: The workers whose inputs are stepped, by name; others are passed over.
        is_strict: Stop at the first outcome that differs; otherwise they are listed.
        skipped: The lsns of inputs that are not stepped.
        marker: Tells the next process what is stepped now (pybehave/journal/attempts.py).
    """

    def __init__(
        self,
        journal: Journal,
        specs: dict[str, Worker[Any, Any]],
        *,
        is_strict: bool = True,
        skipped: Iterable[int] = (),
        marker: memoryview | None = None,
    ) -> None:
        self.journal = journal
        self.specs = specs
        self.servers: dict[str, Server] = {}
        self.replayer = Replayer(
            journal.node.loop.dispatcher,
            self._record,
            is_strict=is_strict,
            skipped=skipped,
            marker=marker,
        )
        self._names: dict[int, str] = {}
        self._reader = Values()

    def begin(self, found: Snapshot) -> None:
        """Let the servers be what a snapshot says; records behind its lsn follow.

        Raises:
            JournalRefused: A state cannot be read by the server's code.
        """
        for entry in found.entries:
            facts = self._reader.decode(entry.facts)
            name, number = facts["name"], facts["number"]
            if not number:
                self._take_outbox(entry.state)
                continue
            self._names[number] = name
            self.journal.set_number(name, number)
            worker = self.specs.get(name)
            if worker is None:
                continue
            server, _ = self._make(worker, number, facts["incarnation"])
            try:
                data = self.journal.values_of(worker, server.instance).decode(entry.state)
                server.replace_state(server.instance.load(data))
            except Exception as error:
                raise JournalRefused(
                    f"server {name!r}",
                    f"its state in the snapshot of lsn {found.lsn} cannot be "
                    f"loaded: {type(error).__name__}: {error}",
                ) from error
            due = {timer: (at[0], at[1]) for timer, at in facts["due"].items()}
            self.replayer.restore(server, due, facts["idle"])
            server.load_requests(facts.get("requests", []))
            if facts["random"] is not None:
                server.instance.context.random.setstate(facts["random"])
            self.servers[name] = server
            self.replayer.bind(number, server)

    def _take_outbox(self, data: bytes) -> None:
        for lsn, index, name, kind, message in self._reader.decode(data):
            server = self.servers.get(name)
            if index >= JOBS_FROM and server is not None:  # a Cancel may concern it
                values = self.journal.values_of(self.specs[name], server.instance)
                self.replayer.outbox[lsn, index] = (name, kind, values.decode(message))
            else:
                self.replayer.outbox[lsn, index] = (name, kind, Encoded(message))

    def undelivered(self) -> list[Undelivered]:
        """Messages that journaled servers had sent to others, and that had not arrived."""
        return [
            (lsn, index, name, kind, message)
            for (lsn, index), (name, kind, message) in sorted(
                self.replayer.outbox.items(), key=lambda item: item[0]
            )
            if name in self.specs
        ]

    def known(self) -> dict[str, Known]:
        """What the servers have become."""
        return {
            name: Known(
                server.state,
                server.due or {},
                server.idle_s,
                server.incarnation,
                dump=server.instance.dump,
                requests=server.requests,
                server=server,
                lost=tuple(
                    connection
                    for connection in self.replayer.open.get(name, {}).values()
                    if not connection.is_open
                ),
            )
            for name, server in self.servers.items()
        }

    def _record(self, kind: int, number: int, payload: bytes, lsn: int) -> Server | None:
        fields = self._reader.decode(payload)
        if kind == RECORD_SERVER:
            self._names[number] = fields["name"]
            self.journal.set_number(fields["name"], number)
            return self.servers.get(fields["name"])
        name = self._names.get(number, "")
        worker = self.specs.get(name)
        if worker is None:
            return None
        before = self.servers.get(name)
        server, initial = self._make(worker, number, fields["incarnation"])
        if before is None or fields["policy"] == "clean":
            self.replayer.initial(server, initial.state, initial.actions)
        else:
            server.go_on(before)
        self.servers[name] = server
        return server

    def _make(
        self, worker: Worker[Any, Any], number: int, incarnation: int
    ) -> tuple[Server, Initial]:
        instance: Any = worker.server()
        values = self.journal.values_of(worker, instance)
        server = make_server(
            self.journal.node.loop.dispatcher,
            worker,
            instance,
            number=number,
            values=values,
            incarnation=incarnation,
        )
        initial = initial_of(worker.name, instance, worker.args)
        if not isinstance(initial, Initial):
            raise JournalRefused(
                f"server {worker.name!r}",
                "its init says Ignore now, but the journal has inputs for it; let it start, or "
                "move the journal away",
            )
        return server, initial
