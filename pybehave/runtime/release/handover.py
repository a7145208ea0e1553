"""A process replaced by another one, with its sockets: connections do not notice.

Theory. Two processes and a Unix socket between them. The old one starts the new one, which imports
its code; then it takes a snapshot, and the new one reads and steps the journal as far as it goes,
while the old one serves (runtime/durable/standby.py). Until then nothing has changed. Then the old
one reads and accepts no more (who connects or sends waits in the kernel), lets all replies leave,
stops its servers and closes its journal. The new one steps what came since, starts its servers and
its listeners on the sockets it was given, and says so; nothing of its own stands in the journal by
then. Only now it gets the connections, each with the bytes that had been read and not taken, and
serves.

    old                                 new
    start it            ->              import, make the node, try its keys on the journal
                        <-  loaded
    snapshot, stand by  ->              read and step the journal
                        <-  standing by
    hold, stop servers, close journal
    listeners, go, and where the journal ends
                        ->              recover the rest, start servers, open listeners
                        <-  ready
    connections, done   ->              take them over, serve
    end                 <-  serving

In the place of each word of the new process may come "refused", with why; it ends then.

Invariants
  (T1) Before `go` the old process can go on, and does when anything fails.
  (T2) After `go` the old process keeps every socket until the new one serves: when that ends or
       says nothing in time, one of the old release takes its place, in the same way.
  (T3) The lock of the journal is the baton: two processes never write it.

Servers without a journal begin anew, as at every start. Connections to the outside, and those of
the admin socket and of the port for figures, end with the old process; the latter's listening
socket goes along.

Does not know: what is served; how a journal is recovered.
Source: unix(7), SCM_RIGHTS; nginx, "Upgrading Executable on the Fly".
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

import msgspec

from pybehave.behaviours.speaks import VERSION_FIRST
from pybehave.errors import UpgradeRefused
from pybehave.journal.closed import Closed
from pybehave.journal.verify import check_codec
from pybehave.runtime import systemd
from pybehave.runtime.durable.standby import Standby
from pybehave.runtime.release.listeners import range_of, spoken_at, too_old
from pybehave.runtime.release.places import Held, carried, portable

if TYPE_CHECKING:
    from pybehave._uring.servers import Port
    from pybehave.runtime.node import Node

VARIABLE: Final = "PYBEHAVE_HANDOVER"
"""In the new process's environment: the descriptor of its end, a colon, the code's folder."""

FDS_MAX: Final = 64
"""Descriptors in one message; the kernel takes 253 (SCM_MAX_FD)."""

PIECE_BYTES: Final = 16 << 20
"""With so many bytes that were read and not taken a message is full; one connection may have more,
up to its listener's frame limit."""

LOAD_S: Final = 30.0
"""How long the new process may take to import its code."""

HOLD_S: Final = 5.0
"""How long replies may take to leave before the old process goes on instead."""

HOLD_LOOK_S: Final = 0.001

FATE_S: Final = 1.0
"""How long a process that has hung up may take to end."""

READY_S: Final = 60.0
"""How long the new process may take to recover the journal; then it is given up."""

SPEAKS_UNSAID: Final = (VERSION_FIRST, VERSION_FIRST)
"""What a listener understands whose process does not say: an older pybehave knows one version."""

_HEAD: Final = struct.Struct(">IQ")
"""Bytes of the words, as JSON, and of what comes raw behind them."""

logger = logging.getLogger("pybehave")


@final
class Channel:
    """Messages with descriptors, in order, on a Unix stream.

    Args:
        end: This process's end.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: dict[str, Any], fds: list[int] | None = None, raw: bytes = b"") -> None:
        """Send a message, copies of descriptors, and bytes as they are.

        Raises:
            OSError: The other process has gone, or reads nothing in time.
        """
        words = json.dumps(message).encode()
        socket.send_fds(self._end, [_HEAD.pack(len(words), len(raw))], fds or [])
        self._end.sendall(words)
        if raw:  # whoever has the last message may have hung up: not even nothing can be sent then
            self._end.sendall(raw)

    def receive(self, seconds: float) -> tuple[dict[str, Any], list[int], bytes]:
        """Return the next message, its descriptors, which are this process's now, and its bytes.

        Raises:
            OSError: The other process has gone, or says nothing in time; or a descriptor is
                missing, for this process has no room for it.
        """
        self._end.settimeout(seconds)
        head, fds, flags, _ = socket.recv_fds(self._end, _HEAD.size, FDS_MAX)
        words, raw = _HEAD.unpack(head + self._exactly(_HEAD.size - len(head)))
        message: dict[str, Any] = json.loads(self._exactly(words))
        if flags & socket.MSG_CTRUNC:
            for fd in fds:
                os.close(fd)
            raise OSError("it has no room for all descriptors; raise the limit of open files")
        return message, fds, self._exactly(raw)

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._end.recv(min(count - len(data), 1 << 20))
            if not piece:
                raise ConnectionResetError("the other process has ended")
            data += piece
        return bytes(data)

    def wait_for(self, word: str, seconds: float) -> dict[str, Any]:
        """Receive a message that is to be of that kind.

        Raises:
            OSError: It is another, or none comes; or the other process has said why it ends.
        """
        message, _, _ = self.receive(seconds)
        if message.get("is") == "refused":
            raise OSError(message["why"])
        if message.get("is") != word:
            raise OSError(f"{message.get('is')!r} came in place of {word!r}")
        return message

    def beat_until(self, word: str, seconds: float) -> dict[str, Any]:
        """Wait for a message while this process's loop does not turn: whoever watches over it, and
        would end it for that, hears that all is well.

        Raises:
            OSError: It is another, or none comes.
        """
        limit = systemd.watchdog_s()
        interval = seconds if limit is None else min(seconds, limit / systemd.NOTICES_PER_LIMIT)
        looking = select.poll()
        looking.register(self._end, select.POLLIN)
        for _ in range(math.ceil(seconds / interval)):
            if looking.poll(interval * 1000):
                break
            systemd.notify("WATCHDOG=1", wait=0.0)
        return self.wait_for(word, interval)

    def close(self) -> None:
        """Hang up."""
        self._end.close()


# --- the old process ------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Command:
    """How a process like this one is started.

    Attributes:
        words: The command line.
        target: The word in it that is MODULE:APP.
        folder: Where its code is looked for first; "" = nowhere else.
    """

    words: tuple[str, ...]
    target: str
    folder: str = ""

    def of(self, target: str, folder: str | None) -> Command:
        """Return the command for another release."""
        words = tuple(target if word == self.target else word for word in self.words)
        return Command(words, target, self.folder if folder is None else folder)


@final
class Successor:
    """A process that is to take this one's place.

    Args:
        command: How it is started.

    Raises:
        OSError: It cannot be.
    """

    def __init__(self, command: Command) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.process = subprocess.Popen(
                command.words,
                pass_fds=[theirs.fileno()],
                env={
                    **systemd.for_another_process(),
                    VARIABLE: f"{theirs.fileno()}:{command.folder}",
                },
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.channel = Channel(ours)
        self.version = ""
        self.names: list[str] = []
        self.stands_by = False
        self.speaks: dict[str, tuple[int, int]] = {}

    def wait_loaded(self, seconds: float = LOAD_S, *, is_on_loop: bool = False) -> None:
        """Wait until it has imported its code; one that has not is ended.

        Args:
            seconds: How long at most.
            is_on_loop: The loop stands still meanwhile.

        Raises:
            OSError: It has ended, or takes too long.
        """
        wait = self.channel.beat_until if is_on_loop else self.channel.wait_for
        try:
            message = wait("loaded", seconds)
        except OSError as error:
            why = self.fate(error)
            self.end()
            raise OSError(why) from error
        self.version, self.names = message["version"], message["names"]
        self.stands_by = message.get("stands_by", False)  # an older pybehave cannot
        said = message.get("speaks", ())  # an older pybehave does not say
        self.speaks = {name: (oldest, newest) for name, oldest, newest in said}

    def stand_by(self, seconds: float) -> None:
        """Let it step the journal as far as it goes; returns when it has. Blocks.

        Raises:
            OSError: It has ended, for its code does not repeat the journal, say; or takes too long.
        """
        try:
            self.channel.send({"is": "stand by"})
            self.channel.wait_for("standing by", seconds)
        except OSError as error:
            raise OSError(self.fate(error)) from error

    def give_listeners(
        self, listening: list[tuple[str, int]], seconds: float, closed: Closed | None = None
    ) -> None:
        """Let it start on these sockets; returns when it could serve.

        Args:
            listening: Name and descriptor of each listener.
            closed: Where the journal ends; None = it looks for itself.

        Raises:
            OSError: It has ended, or takes too long.
        """
        for at in range(0, len(listening), FDS_MAX):
            names, fds = zip(*listening[at : at + FDS_MAX], strict=True)
            self.channel.send({"is": "listeners", "names": names}, list(fds))
        said = None if closed is None else msgspec.to_builtins(closed)
        self.channel.send({"is": "go", "journal": said})
        self.channel.beat_until("ready", seconds)

    def give_connections(self, name: str, connections: Held) -> None:
        """Send connections of one listener, each with where its contract stands if it has one.

        Raises:
            OSError: It has ended.
        """
        for some in _pieces(connections):
            facts = [[agreed, len(carry), *portable(place)] for _, agreed, carry, place in some]
            message = {"is": "connections", "name": name, "facts": facts}
            raw = b"".join(carry for _, _, carry, _ in some)
            self.channel.send(message, [fd for fd, *_ in some], raw)

    def finish(self, seconds: float) -> None:
        """All is sent; returns when it serves."""
        self.channel.send({"is": "done"})
        self.channel.beat_until("serving", seconds)

    def fate(self, error: OSError) -> str:
        """Return why it does not serve: what it has said, or, when it said nothing, how it ended.

        Args:
            error: What was raised while this process talked to it.
        """
        if not isinstance(error, ConnectionError):
            return str(error)
        try:
            status = self.process.wait(FATE_S)
        except subprocess.TimeoutExpired:
            return str(error)
        if status >= 0:
            return f"it has ended with exit status {status}"
        return f"it was ended by {_signal_name(-status)}"

    def leave(self) -> None:
        """It serves, and outlives this process: its end is for whoever looks after it then. Popen
        would take it, and nobody else could know of it, did it not believe to know it already.
        """
        self.process.returncode = 0

    def end(self) -> None:
        """Give it up; returns when it has gone, and with it its lock."""
        self.process.kill()
        self.process.wait()
        self.channel.close()  # not before: hung up on, it would serve


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"


def _pieces(connections: Held) -> Iterator[Held]:
    """Connections as messages carry them."""
    piece: Held = []
    size = 0
    for each in connections:
        if piece and (len(piece) == FDS_MAX or size + len(each[2]) > PIECE_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(each)
        size += len(each[2])
    if piece:
        yield piece


@final
class Replacement:
    """The old process's part, on the loop's thread.

    Args:
        node: What is handed over.
        successor: Has loaded its code.
        answer: Called once: with the new process's facts, or with why all goes on as before.

    Attributes:
        ports: What is held.
        is_stop_meant_for_both: A signal that came while the node was handed over ends the new
            process, too: whoever sent it knew of no other.
    """

    def __init__(
        self, node: Node, successor: Successor, answer: Callable[[Any, BaseException | None], None]
    ) -> None:
        self._node = node
        self._successor = successor
        self._answer = answer
        self._until = 0.0
        self._is_holding = self._is_over = False
        self._serving: int | None = None
        self.is_stop_meant_for_both = False
        self._listening = node.applications.listening()
        self.ports: list[Port] = [port for _, port in self._listening] + node.kept_beside

    def begin(self) -> None:
        """Take a snapshot, so that the new process has little to step again; let it do so; then
        hold.
        """
        journal = self._node.journal

        def written(error: BaseException | None) -> bool:
            if error is not None:
                self._node.host.defer(self._let_stand_by)
            return error is None

        if journal is None or not journal.snapshots.take(written, self._let_stand_by):
            self._let_stand_by()

    def _let_stand_by(self) -> None:
        """The loop goes on meanwhile."""
        journal = self._node.journal
        if self._is_over or journal is None or not self._successor.stands_by:
            self._hold_from_now()
            return

        def stood_by(_: Any, error: BaseException | None) -> None:
            if error is not None:
                self.give_up(
                    f"the new process did not follow the journal ({error}); all goes on as before"
                )
            else:
                self._hold_from_now()

        journal.off_loop(partial(self._successor.stand_by, READY_S), stood_by)

    def _hold_from_now(self) -> None:
        self._until = self._node.loop.now() + HOLD_S
        self.hold()

    def hold(self) -> None:
        """Let everything that is under way come to its end; then the node stops (T1)."""
        if self._is_over:
            return
        self._is_holding = True
        left = self._node.loop.hold(self.ports)
        if not left:
            self._is_over = True
            self._node.hand_over(self)  # its loop ends with this tick
        elif self._node.loop.now() < self._until:
            self._node.host.after(HOLD_LOOK_S, self.hold)
        else:
            self.give_up(f"{left} replies did not leave within {HOLD_S:g} s; all goes on as before")

    def give_up(self, why: str) -> None:
        """Go on without the new process, unless the node stops for it (T1)."""
        if self._is_over:
            return
        self._is_over = True
        if self._is_holding:
            self._node.loop.let_go(self.ports)
        self._successor.end()
        self._answer(None, UpgradeRefused(f"version {self._successor.version}", why))

    def carry_out(self) -> bool:
        """The servers have stopped and the journal is closed: let the new process go on (T2).

        Returns:
            Whether one does.
        """
        try:
            self._give(self._successor)
            return self._succeeded(self._successor)
        except OSError as error:
            why = self._successor.fate(error)
            logger.error("the new process does not serve: %s; one of the old release will", why)
            self._successor.end()
        try:
            assert self._node.releases.command is not None
            successor = Successor(self._node.releases.command)
            successor.wait_loaded(is_on_loop=True)
            self._give(successor)
        except OSError as error:
            logger.critical("no process takes over: %s; all connections end", error)
            self._answer(None, UpgradeRefused("another process", f"no process takes over: {error}"))
            return False
        return self._succeeded(successor, why)

    def _succeeded(self, successor: Successor, why: str = "") -> bool:
        """That process serves; the one before it did not, for that reason, if there is one."""
        pid = self._serving = successor.process.pid
        successor.leave()
        systemd.notify(f"MAINPID={pid}")
        facts = {"pid": pid, "version": successor.version, "is_fallback": bool(why), "why": why}
        self._answer(facts, None)
        return True

    def pass_on_stop(self) -> None:
        """Stop what serves now, if the process was asked to stop in the middle of this."""
        if self._serving is not None and self.is_stop_meant_for_both:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._serving, signal.SIGTERM)

    def _give(self, successor: Successor) -> None:
        names = [(listener.name, port.fd) for listener, port in self._listening]
        beside = [(port.name, port.fd) for port in self._node.kept_beside]
        journal = self._node.journal
        closed = None if journal is None else journal.closed
        successor.give_listeners(names + beside, READY_S, closed)
        for listener, port in self._listening:
            successor.give_connections(listener.name, self._node.loop.held(port))
        successor.finish(READY_S)


# --- the new process ------------------------------------------------------------------------------


@final
class Inheritance:
    """The new process's part.

    Args:
        end: The descriptor of its end.
        folder: Where its code is looked for first; None = nowhere else.
    """

    def __init__(self, end: int, folder: str | None) -> None:
        self.folder = folder
        self._channel = Channel(socket.socket(fileno=end))

    def wait(self, node: Node) -> None:
        """The code is there: wait for the old process to let go.

        Raises:
            CodecRefused: This one could not read its journal; the old process goes on.
            CodeRefused, NonDeterminism: Its code does not read or repeat it; neither.
            OSError: It goes on itself, or has ended.
        """
        if node.journal is not None:
            check_codec(node.journal.disk.path, node.journal.options.codec)
        planned = node.applications.listeners_planned()
        loaded = {
            "is": "loaded",
            "version": node.app.version,
            "names": [each.name for each in planned],
            "speaks": [(each.name, *range_of(each)) for each in planned],
            "stands_by": node.journal is not None,
        }
        self._channel.send(loaded)
        while True:
            message, fds, _ = self._channel.receive(LOAD_S + HOLD_S + READY_S)
            if message["is"] == "go":
                break
            if message["is"] == "stand by":
                self._stand_by(node)
                continue
            node.inherited |= dict(zip(message["names"], fds, strict=True))
        said = message.get("journal")  # an earlier pybehave says nothing of it
        if node.journal is not None and said is not None:
            node.journal.before = msgspec.convert(said, Closed)

    def _stand_by(self, node: Node) -> None:
        """Step the journal while the old process writes it."""
        assert node.journal is not None
        node.journal.standby = Standby(node.journal)
        node.journal.standby.follow()
        self._channel.send({"is": "standing by"})

    def refuse(self, why: str) -> None:
        """Say why this process ends: whoever has asked for it looks at the old one's answer."""
        with contextlib.suppress(OSError):  # the old one has ended, or has been told all
            self._channel.send({"is": "refused", "why": why})

    def take(self, node: Node) -> None:
        """The servers run and the listeners are open: take the connections; then the node serves.

        When the old process is killed meanwhile, it serves all the same: the lock is its own.
        """
        try:
            self._take(node)
        except OSError as error:
            logger.error("the process before has not sent all connections: %s", error)
        self._channel.close()

    def _take(self, node: Node) -> None:
        is_blocking = node.loop.source != "epoll"
        ports = {listener.name: port for listener, port in node.applications.listening()}
        self._channel.send({"is": "ready"})
        while True:
            message, fds, raw = self._channel.receive(READY_S)
            if message["is"] == "done":
                break
            port, at = ports[message["name"]], 0
            for fd, (agreed, size, *place) in zip(fds, message["facts"], strict=True):
                os.set_blocking(fd, is_blocking)
                os.set_inheritable(fd, False)
                node.loop.take_over(port, fd, agreed, raw[at : at + size], carried(place))
                at += size
        self._channel.send({"is": "serving"})


def inheritance() -> Inheritance | None:
    """What this process was started to take over; None = nothing."""
    found = os.environ.pop(VARIABLE, None)
    if found is None:
        return None
    end, _, folder = found.partition(":")
    return Inheritance(int(end), folder or None)


def start_successor(command: Command) -> Successor:
    """Start a process and wait until it has loaded its code. May block: not for the loop's thread.

    Raises:
        UpgradeRefused: It does not.
    """
    try:
        successor = Successor(command)
        successor.wait_loaded()
    except OSError as error:
        raise UpgradeRefused(
            command.target, f"the new process did not load it ({error}); its log says more"
        ) from error
    return successor


def replace_process(
    node: Node, successor: Successor, answer: Callable[[Any, BaseException | None], None]
) -> Replacement:
    """Let a process that has loaded its code take this one's place; returns what is under way.

    Raises:
        UpgradeRefused: It has not the listeners of this one, or does not understand what is spoken
            there, or its journal would find the disk full; it is ended.
    """
    why = ""
    for listener, port in node.applications.listening():
        if listener.name in successor.names:
            understood = successor.speaks.get(listener.name, SPEAKS_UNSAID)
            flaw = too_old(understood, spoken_at(node.loop, port))
            why = why or (flaw and f"listener {listener.name!r}: {flaw}")
    planned = {each.name for each in node.applications.listeners_planned()}
    missing = sorted(planned - set(successor.names))
    if missing:
        why = f"it has no listener {', '.join(missing)}"
    why = why or _full_disk(node)
    if why:
        successor.end()
        raise UpgradeRefused(f"version {successor.version}", why)
    replacement = Replacement(node, successor, answer)
    replacement.begin()
    return replacement


def _full_disk(node: Node) -> str:
    """Say that the disk has no room for a start; "" = it has. A node that serves can do with less
    than one that starts: neither the new process nor one of the old release would come up.
    """
    journal = node.journal
    if journal is None or journal.recovery is None:
        return ""
    wanted = int(journal.recovery.manifest.segment_bytes)
    try:
        room = journal.disk.free_bytes()
    except OSError as error:
        return f"the journal's disk does not say how much room it has: {error.strerror}"
    if room is None or room >= wanted:
        return ""
    return (
        f"the journal's disk has room for {room} bytes, and a process that starts may need a "
        f"segment of {wanted}; free some"
    )
