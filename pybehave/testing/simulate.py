r"""Run an application on a simulated network and clock: the real loop, every run from a seed.

    with Simulator(seed=7, app=app, shake=True) as world:
        client = world.connect()
        client.send(b"PING\r\n")
        world.run_until(lambda: client.received == b"+PONG\r\n")
        world.run(3600)                      an hour of timers, in a moment

Theory. The loop, the dispatch, the supervisors and the protocols are the ones that serve; only the
completion source is another (src/_uring/source_sim.c), and no kernel is asked. Time passes only
while the loop waits, so what a test does between two ticks takes no time. The same seed and the
same calls give the same run to the byte: compare `trace_hash`.

With `shake` the weather is drawn from the seed: delays, fragments, short sends, interrupted and
late completions, resets, want of buffers, failing accepts. Everything a program asks of the source
is checked: a breach of its contract ends the process with a sentence that names the seed.

Invariants
  (S1) Functions given to `after` run in order of their time, then of their age.
  (S2) `stop` ends in calm weather: what is late by then is not a fault of the application.

Jobs of worker pools (`Run`) are called on this thread when their time is over, which is virtual: no
time unless `work` says how long. It may say `DIES` for a job that kills its worker.

Does not know: what the application is; threads.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Mapping
from random import Random
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, final

from pybehave._uring.sim import Network, Peer
from pybehave.behaviours.application import Application
from pybehave.behaviours.gen_server import shown_state
from pybehave.errors import InvariantViolated, LoopClosed
from pybehave.journal.recovery import Options
from pybehave.runtime.jobs.hands import DIES, Fate
from pybehave.runtime.node import Node
from pybehave.testing.disk import SimDisk

__all__ = ["DIES", "Client", "Fate", "Simulator"]

Address: TypeAlias = str | tuple[str, int] | bytes
"""`"tcp://HOST:PORT"`, `"unix://PATH"`, `(host, port)`, or a packed `sockaddr`."""

State: TypeAlias = Literal["connecting", "open", "refused", "ended", "reset", "released"]

JOURNAL_OPTIONS: Final = Options(segment_bytes=4 << 20, tail_bytes=256 << 10)
BUFFERS: Final = 64
BUFFER_BYTES: Final = 1024
"""Smaller than those of a real loop: messages across buffers, and want of buffers, are the rule."""

WITHIN_S: Final = 60.0
"""Virtual seconds that `run_until` gives a condition; they cost nothing."""

DRAIN_S: Final = 20.0
"""Virtual seconds before the end for completions drawn late: more than the source's longest."""

LAST_S: Final = 0.1
"""Virtual seconds for what is on its way to clients when a node ends by itself."""

GONE_SHOWN_MAX: Final = 8
"""Connections named when a condition has not come to hold: a sentence is for reading."""

CALM: Final = {
    "interrupted": 0,
    "wait_interrupted": 0,
    "reset": 0,
    "starve": 0,
    "accept_failure": 0,
    "late": 0,
    "tick_ns": 1_000_000,
}
"""The weather at the end. Ticks take longer, for a loop that was told to stop waits no more."""


@final
class Client:
    """One client of the application: a peer that reads by itself and sends what it is told.

    Attributes:
        peer: The simulated end of the connection.
        received: What has arrived and was not taken.
        unsent: What the window did not take yet; it follows by itself.
        on_data: Called when something has arrived.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.received = bytearray()
        self.unsent = bytearray()
        self.on_data: Callable[[Client], object] | None = None
        self._is_gone = False
        self._ends_when_sent = False

    @property
    def state(self) -> State:
        """`"connecting"`, `"open"`, `"refused"`, `"reset"`, or `"ended"` by the application."""
        return self.peer.state

    @property
    def is_open(self) -> bool:
        """Whether the connection stands, as far as this end knows."""
        return not self._is_gone and self.state in ("connecting", "open")

    def send(self, data: bytes) -> None:
        """Send bytes, at once or as soon as the window has room; on a dead connection nothing."""
        self.unsent += data
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        if not self.is_open:
            self.unsent.clear()
        elif self.unsent:
            try:
                del self.unsent[: self.peer.send(self.unsent)]
            except OSError:  # reset, and the news is on its way
                self.unsent.clear()
        if self._ends_when_sent and not self.unsent and not self._is_gone:
            self.peer.shutdown()

    def take(self) -> bytes:
        """Return what has arrived since the last time."""
        taken = bytes(self.received)
        self.received.clear()
        return taken

    def shutdown(self) -> None:
        """Say that no more will be sent, once everything is; still receives."""
        self._ends_when_sent = True
        self.flush()

    def pause(self) -> None:
        """Read no more, as a slow client does."""
        self.peer.pause()

    def resume(self) -> None:
        """Read again."""
        self.peer.resume()

    def close(self) -> None:
        """Close; what was not sent is lost."""
        self._is_gone = True
        self.peer.close()

    def reset(self) -> None:
        """Close with a reset."""
        self._is_gone = True
        self.peer.reset()

    def arrived(self) -> None:
        """Take what the peer has read. The simulator calls this."""
        data = self.peer.recv()
        if data:
            self.received += data
            if self.on_data is not None:
                self.on_data(self)


@final
class Simulator:
    """One application, and everything outside it.

    Args:
        seed: Of everything that is left to chance, `context.random` included.
        app: What runs.
        disk: Where its journaled workers are kept; None keeps everything in memory.
        journal_options: How the journal is kept; None is as for a Node, but with files so small
            (`JOURNAL_OPTIONS`) that hundreds of disks fit into memory: an input, or a state that
            sleeps, has less than 4 MiB then, where a Node takes 32. `Options()` are the Node's own.
        reset: Names of journaled servers that begin anew, as for a Node.
        shake: Draw the weather from the seed; otherwise it is calm.
        work: Given a `Run`, returns how many virtual seconds it takes, or `DIES`.
        always: Invariants over all servers, by name: functions of their states by name, asked
            before a new state stands (runtime/invariants.py).
        loop_options: As for the Loop: `buffers`, `buffer_bytes`, `submissions`, `completions`.

    Attributes:
        node: The running application, with `call`, `cast`, `stats`.
        network: Knobs, peers, trace.
        violations: Of invariants, those that classes define included, in their order.
    """

    def __init__(
        self,
        seed: int,
        app: Application,
        *,
        disk: SimDisk | None = None,
        journal_options: Options | None = None,
        reset: Collection[str] = (),
        shake: bool = False,
        work: Fate | None = None,
        always: Mapping[str, Callable[[Mapping[str, Any]], object]] | None = None,
        **loop_options: int,
    ) -> None:
        options: dict[str, Any] = {"buffers": BUFFERS, "buffer_bytes": BUFFER_BYTES, **loop_options}
        self.seed = seed
        self.disk = disk
        options |= {"journal_options": journal_options or JOURNAL_OPTIONS, "reset": reset}
        self.node = Node(app, backend="sim", seed=seed, data=disk, **options)
        if work is not None:
            self.node.host.pools.fate = work
        self.violations: list[InvariantViolated] = []
        self._set_invariants(always or {})
        self.network = Network(self.node.loop)
        if disk is not None:
            self.network.set_disk(disk)
        self.on_accepted: Callable[[Client], object] | None = None
        self._clients: dict[Peer, Client] = {}
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._ages = itertools.count()
        self._is_stopped = False
        self._last_hash: int | None = None
        if shake:
            self.network.shake()

    def _set_invariants(self, always: Mapping[str, Callable[[Mapping[str, Any]], object]]) -> None:
        invariants = self.node.host.invariants
        invariants.overall = dict(always)
        invariants.look = self._shown_state
        invariants.names = self.node.loop.dispatcher.names
        invariants.on_violated = self.violations.append

    def _shown_state(self, name: str) -> Any:
        server = self.node.loop.dispatcher.whereis(name)
        if server is None:
            raise KeyError(name)
        return shown_state(server.instance, server.state)

    def start(self) -> Self:
        """Start the application.

        Raises:
            StartFailed: A child did not start.
        """
        self.node.boot()
        return self

    def _check_begun(self) -> None:
        if not self.node.loop.is_here and not self._is_stopped:
            raise LoopClosed(
                f"The simulation of {self.node.app.name!r} has not begun; use it in a `with` "
                f"block, or call start()"
            )

    def stop(self) -> int:
        """Let the weather calm down, stop the application, return its exit status."""
        if not self._is_stopped:
            self._calm_down()
            self.node.stop()
        return self.node.exit_status

    def _calm_down(self) -> None:
        self._is_stopped = True
        self.network.set(**CALM)
        self.node.loop.close_listeners()
        self.run(DRAIN_S)
        self.network.interrupt(False)
        self._last_hash = self.network.trace_hash  # the network goes with the loop

    def lose_power(self, random: Random) -> SimDisk:
        """Let the power go, and return the disk as it is found when it is back.

        What was on its way to clients is lost; the application ends unheard.

        Raises:
            ValueError: It has no disk.
        """
        if self.disk is None:
            raise ValueError(
                "without a disk nothing is kept that could be found again; give the Simulator one: "
                "disk=SimDisk(seed)"
            )
        found = self.disk.cut(random)
        self.disk.switch_off()
        self._agenda.clear()
        for client in self.clients:
            self.forget(client)
        self._calm_down()
        self.node.stop(drain=False)
        return found

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.stop()

    @property
    def is_running(self) -> bool:
        """Whether the node runs: False when it was told to stop, or when its own tree has ended,
        or one of a permanent application; `stop` then ends the others in their order.
        """
        return self.node.tree.ended_because is None and not self.node.is_asked_to_stop

    # --- time --------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds, from an arbitrary point."""
        return self.network.now

    def run(self, seconds: float) -> None:
        """Let so many virtual seconds pass; no more than a moment when the node ends by itself."""
        end = self.now + seconds
        while self.now < end and (self.is_running or self._is_stopped):
            self.tick(end)
        end = min(end, self.now + LAST_S)
        while self.now < end:
            self.tick(end)

    def run_until(self, condition: Callable[[], Any], *, within: float = WITHIN_S) -> None:
        """Let time pass until a condition holds.

        Raises:
            TimeoutError: It did not within so many virtual seconds; names the seed, and clients
                whose connections are gone: nothing will arrive there.
        """
        end = self.now + within
        while not condition():
            if self.now >= end:
                raise TimeoutError(
                    f"nothing came of it within {within:g} virtual seconds; seed {self.seed}"
                    + self._gone()
                )
            self.tick(end)

    def tick(self, until: float) -> None:
        """One tick of the loop, then the turn of everybody else; stops short of `until`.

        Raises:
            LoopClosed: It has not been started.
        """
        self._check_begun()
        limit = min(until, self._agenda[0][0]) if self._agenda else until
        self.node.run_once(max(limit - self.now, 0.0))
        for kind, peer, _value in self.network.events():
            if peer is not None:
                self._tell(kind, peer)
        while self._agenda and self._agenda[0][0] <= self.now:
            heapq.heappop(self._agenda)[2]()

    def after(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function when so many virtual seconds have passed."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._ages), function))

    # --- clients -----------------------------------------------------------------------------

    def connect(self, address: Address | None = None) -> Client:
        """Connect a client; by default to the application's first listener.

        Raises:
            ValueError: It has none.
            LoopClosed: It has not been started.
        """
        self._check_begun()
        if address is None:
            if not self.node.app.listeners:
                raise ValueError(
                    f"Application {self.node.app.name!r} has no listeners; give it one, or use "
                    f"sim.node.call"
                )
            address = self.node.app.listeners[0].url
        return self._client(self.network.connect(address))

    def listen(self, address: Address, on_accepted: Callable[[Client], object]) -> None:
        """Be a server that the application connects to; the function gets every client."""
        self.network.listen(address)
        self.on_accepted = on_accepted

    def forget(self, client: Client) -> None:
        """Drop a client that is not needed any more; closes it if it is open."""
        client.peer.release()
        self._clients.pop(client.peer, None)

    @property
    def clients(self) -> list[Client]:
        """Those not forgotten, in the order in which they came."""
        return list(self._clients.values())

    def _client(self, peer: Peer) -> Client:
        client = self._clients[peer] = Client(peer)
        return client

    def _tell(self, kind: str, peer: Peer) -> None:
        if kind == "accepted":
            client = self._client(peer)
            if self.on_accepted is not None:
                self.on_accepted(client)
            return
        known = self._clients.get(peer)
        if known is None:
            return
        if kind == "data":
            known.arrived()
        elif kind in ("room", "connected"):
            known.flush()

    # --- evidence ----------------------------------------------------------------------------

    def _gone(self) -> str:
        """Which connections are gone, and how; "" if all stand."""
        gone = [f"{n} is {c.state}" for n, c in enumerate(self.clients) if not c.is_open]
        return f"; of the connections {', '.join(gone[:GONE_SHOWN_MAX])}" if gone else ""

    @property
    def trace_hash(self) -> int:
        """Of all the application asked of the network and got. Same seed, same hash.

        Once it is stopped, or has lost its power: of all until then.
        """
        return self.network.trace_hash if self._last_hash is None else self._last_hash
