"""Servers being stepped again: one pass over the journal's records.

SERVER records say who a number is, START records that an incarnation begins, STATE records that
another state was put in place, FORGET records that a number is nobody's any more; they come here.
Nothing of a server that was forgotten is stepped (pybehave/journal/marks.py). Inputs
are stepped in the core (src/_uring/replay.pyx). A START makes a new instance and calls its `init`,
as the first time: what `init` sets on the instance is there again, and the state it returns counts
only when the incarnation began anew. An init that decides (pybehave/behaviours/recovery.py) is told
what it was told; what it chose then stands in the record.

What an older version of a server's class has written is read as that version meant it, and made
what today's wants (pybehave/behaviours/schema.py). START records and snapshots name the version.

Does not know: files, what becomes of the result (journaling.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final

from pybehave._uring.replay import Replayer
from pybehave._uring.values import Values
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import Initial, initial_of, overrides
from pybehave.behaviours.recovery import Failure, Recovery, takes_recovery
from pybehave.behaviours.schema import VERSION_FIRST, Schema
from pybehave.errors import CodeRefused, JournalRefused, show_reason
from pybehave.jobs import JOBS_FROM, forget
from pybehave.journal.codec import Coder
from pybehave.journal.snapshot import Entry, Snapshot
from pybehave.runtime.durable import asked
from pybehave.runtime.durable.absent import Absent, absent_of
from pybehave.runtime.durable.recoveries import offered_by, unpack
from pybehave.runtime.servers import instance_of, is_ephemeral, make_server, reader_of

if TYPE_CHECKING:
    from pybehave._uring.asked import Asked
    from pybehave._uring.requests import Requests
    from pybehave._uring.servers import Server

RECORD_SERVER: Final = 2
RECORD_START: Final = 4
RECORD_STATE: Final = 7
RECORD_STORE: Final = 8
RECORD_FORGET: Final = 9
"""Numbers of `enum record_type` in src/_uring/segment.h."""

HOLDS_A_STORE: Final = "it holds a store (DiskStore), and no servers; give the node another folder"

logger = logging.getLogger("pybehave.journal")


class Journal(Protocol):
    """What a replay asks of whoever reads the journal."""

    @property
    def node(self) -> Any:
        """Has the loop whose servers are made."""

    @property
    def coder(self) -> Coder:
        """Opens what codecs have made."""

    def set_number(self, name: str, number: int) -> None:
        """Take note of a server's number."""

    def drop_number(self, name: str) -> None:
        """Take note that a server was forgotten."""

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
        is_rolled_back: The policy Rollback has been carried out since.
        failure: What it failed on, and was not started again since.
        dump: Makes of the state what a snapshot keeps.
        lost: Connections that it was told of, and that ended with the process before.
        requests: What is remembered of requests that their clients have named.
        version: Of the class that its state is of.
        server: The incarnation that the replay ended with; None when it ran in this node.
        asked: What it had asked for and not heard of.
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
    is_rolled_back: bool = False
    failure: Failure | None = None
    version: int = VERSION_FIRST
    server: Server | None = None
    asked: Asked | None = None


@final
class Replay:
    """One pass over the journal.

    Args:
        journal: Whose.
        specs: The workers whose inputs are stepped, by name; others are passed over.
        is_strict: Stop at the first outcome that differs; otherwise they are listed.
        skipped: The lsns of inputs that are not stepped.
        forgotten: Server number -> the lsn up to which its records belong to nobody.
        marker: Tells the next process what is stepped now (pybehave/journal/attempts.py).
        schema: Says how what an older version has written is read; called with a server's name and
            instance.

    Attributes:
        upcast: Servers whose inputs of older versions went through `upcast`.
        alike: Servers whose inputs of older versions were stepped as they are.
    """

    def __init__(
        self,
        journal: Journal,
        specs: dict[str, Worker[Any, Any]],
        *,
        is_strict: bool = True,
        skipped: Iterable[int] = (),
        forgotten: Mapping[int, int] | None = None,
        marker: memoryview | None = None,
        schema: Callable[[str, Any], Schema] = Schema,
    ) -> None:
        self.journal = journal
        self._schema = schema
        self.specs = specs
        self.servers: dict[str, Server] = {}
        self._skipped = frozenset(skipped)
        self._forgotten = forgotten or {}
        self._gone: set[str] = set()
        self.replayer = Replayer(
            journal.node.loop.dispatcher,
            self._record,
            is_strict=is_strict,
            skipped=self._skipped,
            marker=marker,
        )
        self.replayer.coder = journal.coder
        self.replayer.is_member = getattr(specs, "is_member", None)
        self.upcast: set[str] = set()
        self.alike: set[str] = set()
        self._absent: dict[int, Absent] = {}
        self._names: dict[int, str] = {}
        self._versions: dict[str, int] = {}
        self._written_by: dict[str, int] = {}
        self._failures: dict[str, Failure] = {}
        self._reader = Values()

    def begin(self, found: Snapshot) -> None:
        """Let the servers be what a snapshot says; records behind its lsn follow.

        Raises:
            CodeRefused: A state cannot be read by the server's code.
        """
        for entry in found.entries:
            facts = self._reader.decode(entry.facts)
            if facts.get("format") == "store":
                raise JournalRefused("journal", HOLDS_A_STORE)
            name, number = facts["name"], facts["number"]
            if not number:
                self._take_outbox(entry.state)
                continue
            if found.lsn < self._forgotten.get(number, 0):
                continue
            self._names[number] = name
            self.journal.set_number(name, number)
            self.replayer.reachable[name] = 0
            absent = absent_of(entry, facts)
            worker = self.specs.get(name)
            if worker is None:
                self._absent[number] = absent
                continue
            if absent.base is not None:
                self._begin_from(worker, absent.base, found.lsn)
            if absent.records:
                self.replayer.feed_absent(absent.records, absent.skipped)
                self.replayer.outbox.clear()  # what it sent was under way to nobody since

    def _begin_from(self, worker: Worker[Any, Any], entry: Entry, lsn: int) -> None:
        """Let a server be what a snapshot says."""
        facts = self._reader.decode(entry.facts)
        name, number = facts["name"], facts["number"]
        self._versions[name] = facts.get("version", VERSION_FIRST)
        server, _ = self._make(worker, number, facts["incarnation"], lsn)
        self._load(server, entry, self._versions[name], lsn)
        self.servers[name] = server
        self.replayer.bind(number, server)

    @property
    def is_old(self) -> bool:
        """Whether an older version of a server's class has written some of it."""
        return bool(self.upcast or self.alike)

    @property
    def unknown(self) -> list[str]:
        """The names of servers that nobody has code for."""
        return sorted(name for name in self._names.values() if name not in self.servers)

    def absent(self) -> dict[str, Absent]:
        """The servers that nobody has code for; only if the replayer keeps their records."""
        found = {}
        for number, name in self._names.items():
            if name in self.servers:
                continue
            kept = self._absent.get(number) or Absent(name, number)
            records = self.replayer.absent.get(number, [])
            kept.skipped += [lsn for lsn, _, _ in records if lsn in self._skipped]
            kept.records += records
            found[name] = kept
        return found

    def _load(self, server: Server, entry: Entry, version: int, lsn: int) -> None:
        """State of a snapshot, and what the server has beside it."""
        schema = self._read_as(server, version, lsn)
        values, upcast = reader_of(schema, server.values, version)
        try:
            data = schema.state(version, values.decode(entry.state), f"the snapshot of lsn {lsn}")
            server.replace_state(server.instance.load(data))
            self._restore(server, self._reader.decode(entry.facts), values, upcast, lsn)
        except JournalRefused:
            raise
        except Exception as error:
            raise CodeRefused(
                f"server {server.name!r}",
                f"its state in the snapshot of lsn {lsn} cannot be loaded: {show_reason(error)}",
            ) from error

    def _restore(
        self,
        server: Server,
        facts: dict[str, Any],
        values: Values,
        upcast: Callable[[Any, int], Any],
        lsn: int,
    ) -> None:
        """What a server has beside its state. Timers' messages may be of the types it declares;
        snapshots that do not know `timers` hold only plain ones, as `due`.
        """
        timers = values.decode(facts["timers"]) if "timers" in facts else facts["due"]
        due = {timer: (at[0], upcast(at[1], lsn)) for timer, at in timers.items()}
        self.replayer.restore(server, due, facts["idle"])
        server.load_requests(facts.get("requests", []))
        server.take_asked(asked.load(facts.get("asked", b""), values))
        server.draw_from(facts["random"])
        if facts.get("failure"):
            at, message, text = values.decode(facts["failure"])
            self._failures[server.name] = Failure(at, upcast(message, at), text)

    def _read_as(self, server: Server, version: int, lsn: int) -> Schema:
        """From here on that version of a server's class was given its inputs."""
        schema = self._schema(server.name, server.instance)
        schema.check(version, lsn)
        self._written_by[server.name] = version
        self.replayer.older.pop(server.number, None)
        self.replayer.alike.discard(server.number)
        if version < schema.version:
            self.replayer.older[server.number] = reader_of(schema, server.values, version)
            is_alike = schema.is_alike(version)
            (self.alike if is_alike else self.upcast).add(server.name)
            if is_alike:
                self.replayer.alike.add(server.number)
        return schema

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
        self.replayer.settle()
        found = [
            (lsn, index, name, kind, self._read(name, message, lsn))
            for (lsn, index), (name, kind, message) in sorted(
                self.replayer.outbox.items(), key=lambda item: item[0]
            )
            if self._is_awaited(name) and not self._is_gone(name)
        ]
        return [each for each in found if not is_ephemeral(self.servers.get(each[2]), *each[3:])]

    def _is_awaited(self, name: str) -> bool:
        """Whether a name gets what was sent to it: the application starts it, or it is absent."""
        hidden: frozenset[str] = getattr(self.specs, "hidden", frozenset())
        return name in self.specs or (name in self.replayer.reachable and name not in hidden)

    def _read(self, name: str, message: Any, lsn: int) -> Any:
        """A message of the snapshot's, of the version that its receiver had then."""
        server = self.servers.get(name)
        if server is None or not isinstance(message, Encoded):
            return message
        schema = self._schema(name, server.instance)
        values, upcast = reader_of(schema, server.values, self._versions.get(name, schema.version))
        return upcast(values.decode(message.data), lsn)

    def check_upcasts(self) -> None:
        """Make sure that inputs that follow can be read, too.

        Raises:
            CodeRefused: A server's class is newer than what has written, and has no `upcast`.
        """
        for server in self.servers.values():
            if server.number in self.replayer.older:
                self._schema(server.name, server.instance).check_upcast(
                    self._written_by[server.name]
                )

    def known(self, *, but: Collection[int] = ()) -> dict[str, Known]:
        """What the servers have become.

        Args:
            but: Numbers of servers of which a record that follows says how they were continued.
        """
        self.replayer.settle(but)
        return {
            name: Known(
                server.state,
                server.due or {},
                server.idle_s,
                server.incarnation,
                dump=server.instance.dump,
                requests=server.requests,
                version=self._schema(name, server.instance).version,
                failure=self._failure(server),
                server=server,
                asked=server.asked,
                lost=tuple(
                    connection
                    for connection in self.replayer.open.get(name, {}).values()
                    if not connection.is_open
                ),
            )
            for name, server in self.servers.items()
        }

    def _record(self, kind: int, number: int, payload: bytes, lsn: int) -> Server | None:
        if kind == RECORD_STORE:
            raise JournalRefused("journal", HOLDS_A_STORE)
        if lsn < self._forgotten.get(number, 0):
            return None
        if kind == RECORD_STATE:
            return self._replace(self._names.get(number, ""), payload, lsn)
        fields = self._reader.decode(payload)
        if kind == RECORD_FORGET:
            self._forget(number, fields)
            return None
        if kind == RECORD_SERVER:
            self._names[number] = fields["name"]
            self.replayer.reachable.setdefault(fields["name"], lsn)
            self.journal.set_number(fields["name"], number)
            return self.servers.get(fields["name"])
        name = self._names.get(number, "")
        worker = self.specs.get(name)
        if worker is None:
            return None
        self._begin_incarnation(worker, number, fields, lsn)
        return self.servers[name]

    def _forget(self, number: int, fields: dict[str, Any]) -> None:
        """A server is as if it had never been; what it had sent to others is under way."""
        name = fields["name"]
        self.journal.drop_number(name)
        self.servers.pop(name, None)
        self._names.pop(number, None)
        self._absent.pop(number, None)
        self._failures.pop(name, None)
        self.replayer.erase(number, name)
        self._gone.add(name)
        if fields["sent"]:
            self._versions.update(self._written_by)  # those that receivers had then
            self._take_outbox(fields["sent"])

    def _is_gone(self, name: str) -> bool:
        """Whether messages to a name vanish: it was forgotten, and has not been started since. A
        member of a family has been by the message itself.
        """
        return name in self._gone and dict.__contains__(self.specs, name)

    def _begin_incarnation(
        self, worker: Worker[Any, Any], number: int, fields: dict[str, Any], lsn: int
    ) -> None:
        if self._is_gone(worker.name):
            forget(self.replayer.outbox, worker.name)
        self._gone.discard(worker.name)
        before = self.servers.get(worker.name)
        is_clean = before is None or fields["policy"] == "clean"
        server = self._new(worker, number, fields["incarnation"])
        schema = self._read_as(server, fields.get("version", VERSION_FIRST), lsn)
        recovery = None
        if before is not None and not is_clean:
            failure = self._failure_in(fields, schema, server)
            recovery = offered_by(fields, before.state, failure, frozenset(before.due or ()))
        initial = self._init(worker, server, lsn, recovery)
        self._failures.pop(worker.name, None)
        self.replayer.failures.pop(number, None)
        if before is not None and not is_clean:
            server.go_on(before)
            self._take_choice(server, schema, fields, lsn)
        else:
            state = initial.state
            if "state" in fields and _can_read(schema, fields):
                state = self._loaded(server, schema, fields["state"], f"it began with at lsn {lsn}")
            self.replayer.initial(server, state, initial.actions)
        self.servers[worker.name] = server

    def _take_choice(
        self, server: Server, schema: Schema, fields: dict[str, Any], lsn: int
    ) -> None:
        """What an init that was asked has chosen, if that is not what it was offered."""
        if "state" in fields:
            self._put(server, schema, fields["state"], f"that its init chose at lsn {lsn}")
        values, upcast = reader_of(schema, server.values, self._written_by[server.name])
        if "actions" in fields:
            packed = values.decode(fields["actions"])
            for each in packed:
                if each[0] == "StartTimer":
                    each[-1] = upcast(each[-1], lsn)
            self.replayer.act(server, tuple(unpack(each) for each in packed))

    def _failure_in(self, fields: dict[str, Any], schema: Schema, server: Server) -> Failure | None:
        """What a START record says of the failure before it."""
        if "failure" not in fields:
            return None
        values, upcast = reader_of(schema, server.values, fields.get("version", VERSION_FIRST))
        lsn, message, error = values.decode(fields["failure"])
        return Failure(lsn, upcast(message, lsn), error)

    def _failure(self, server: Server) -> Failure | None:
        """What a server failed on at the end of its records, for an init that asks."""
        if not takes_recovery(server.instance):
            return None
        found = self.replayer.failure_of(server)
        return self._failures.get(server.name) if found is None else Failure(*found, "")

    def _replace(self, name: str, payload: bytes, lsn: int) -> Server | None:
        """An operator has put another state in place (runtime/sys.py)."""
        server = self.servers.get(name)
        if server is not None:
            schema = self._schema(name, server.instance)
            self._put(server, schema, payload, f"that was put in place at lsn {lsn}")
        return server

    def _put(self, server: Server, schema: Schema, payload: bytes, which: str) -> None:
        """Let a server have a state that a record holds."""
        server.replace_state(self._loaded(server, schema, payload, which))

    def _loaded(self, server: Server, schema: Schema, payload: bytes, which: str) -> Any:
        version = self._written_by[server.name]
        values, _ = reader_of(schema, server.values, version)
        try:
            dumped = schema.state(version, values.decode(payload), f"the state {which}")
            return server.instance.load(dumped)
        except JournalRefused:
            raise
        except Exception as error:
            raise CodeRefused(
                f"server {server.name!r}",
                f"the state {which} cannot be loaded: {show_reason(error)}",
            ) from error

    def _make(
        self, worker: Worker[Any, Any], number: int, incarnation: int, lsn: int
    ) -> tuple[Server, Initial]:
        """A new instance whose init has returned, as when the journal was written."""
        server = self._new(worker, number, incarnation)
        return server, self._init(worker, server, lsn, None)

    def _new(self, worker: Worker[Any, Any], number: int, incarnation: int) -> Server:
        instance = instance_of(worker)
        return make_server(
            self.journal.node.loop.dispatcher,
            worker,
            instance,
            number=number,
            values=self.journal.values_of(worker, instance),
            incarnation=incarnation,
        )

    def _init(
        self, worker: Worker[Any, Any], server: Server, lsn: int, recovery: Recovery[Any] | None
    ) -> Initial:
        """Call init, as when the journal was written.

        Raises:
            JournalRefused: It does not return a state; names the server and the lsn.
        """
        try:
            initial = initial_of(worker.name, server.instance, worker.args, recovery)
        except Exception as error:
            logger.debug("init of %r failed in the replay", worker.name, exc_info=error)
            raise JournalRefused(
                f"server {worker.name!r}",
                f"its init raised {show_reason(error)} when its inputs from lsn {lsn} on were to "
                f"be stepped again; let init do what it did then, or start the code that wrote "
                f"the journal",
            ) from error
        if not isinstance(initial, Initial):
            raise JournalRefused(
                f"server {worker.name!r}",
                f"its init says Ignore now, but the journal has inputs for it from lsn {lsn} on; "
                f"let it start, or move the journal away",
            )
        return initial


def _can_read(schema: Schema, fields: dict[str, Any]) -> bool:
    """Whether today's code can take the first state in a START record; else init makes it again."""
    version = fields.get("version", VERSION_FIRST)
    return bool(version == schema.version or overrides(schema.instance, "upcast_state"))
