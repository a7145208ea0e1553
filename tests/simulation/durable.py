"""Journaled servers on a simulated disk, clients, and power cuts at random ticks.

Promises, for every seed
  (D1) What a client was answered is there after the restart, in the place that the answer named.
  (D2) What is there was sent, once; nothing is invented, nothing twice.
  (D3) What a restart has found stays, in its order, through all later cuts.
  (D4) An answer that arrives is durable at that moment, even if nothing in flight arrives (I7).
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from typing import Any

from pybehave.behaviours.application import Application
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.supervisor import Supervisor
from pybehave.journal.recovery import Options
from pybehave.listener import Listener
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Client, Simulator
from tests.simulation.wires import LINES, Wire

SERVERS = ("a", "b")
PORT_FIRST = 7100
CUTS = 4
CLIENTS = 3
RUN_S_MAX = 0.06
QUIET_S = 1.0


class Keeper(GenServer[list[bytes], bytes, Any]):
    """Keeps every command; answers with its place. "boom ..." crashes after having changed all."""

    def init(self, args: object) -> list[bytes]:
        return []

    def step(self, command: bytes, state: list[bytes]) -> tuple[list[bytes], Any]:
        if command == b"?":
            return state, b"%d" % len(state)
        state.append(command)
        if command.startswith(b"boom"):
            raise ValueError(command)
        return state, b"%d %s" % (len(state) - 1, command)


def application(protocol: Any = LINES.protocol) -> Application:
    return Application(
        "keepers",
        Supervisor(
            "one_for_one",
            [Worker(name, Keeper, journal=True) for name in SERVERS],
            intensity=1000,
            period=1,
        ),
        listeners=[
            Listener(f"tcp://127.0.0.1:{PORT_FIRST + index}", protocol, to=name)
            for index, name in enumerate(SERVERS)
        ],
    )


class Durable:
    """One seed: a disk, and several lives of a node on it."""

    def __init__(self, seed: int, *, shake: bool = True, wire: Wire = LINES) -> None:
        self.seed = seed
        self.wire = wire
        self.shake = shake
        self.dice = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.disk = SimDisk(seed)
        self.options = Options(
            segment_bytes=self.dice.choice((64, 128)) << 10, depth=self.dice.choice((1, 2, 4))
        )
        self.sent: dict[str, set[bytes]] = {name: set() for name in SERVERS}
        self.answered: dict[str, dict[int, bytes]] = {name: {} for name in SERVERS}
        self.found: dict[str, list[bytes]] = {name: [] for name in SERVERS}
        self.ident = 0

    def run(self) -> None:
        for _ in range(CUTS):
            world = self.start()
            self.chat(world)
            self.disk = world.lose_power(self.dice)
            self.counts["cuts"] += 1
        world = self.start()
        self.chat(world, is_last=True)
        world.run(QUIET_S)
        self.check(world)
        world.stop()
        self.counts["closes"] += 1
        self.check(self.start())

    def start(self) -> Simulator:
        world = Simulator(
            self.dice.getrandbits(32),
            application(self.wire.protocol),
            disk=self.disk,
            journal_options=self.options,
            shake=self.shake,
        ).start()
        self.check(world)
        return world

    def check(self, world: Simulator) -> None:
        """(D1) to (D3)."""
        for name in SERVERS:
            state = world.node.loop.dispatcher.whereis(name).state
            before = self.found[name]
            assert state[: len(before)] == before, "D3"
            for place, command in self.answered[name].items():
                assert state[place : place + 1] == [command], "D1"
            assert len(set(state)) == len(state), "D2: twice"
            assert set(state) <= self.sent[name], "D2: invented"
            self.found[name] = list(state)
            self.counts["found"] += len(state)

    def chat(self, world: Simulator, *, is_last: bool = False) -> None:
        for _ in range(CLIENTS):
            index = self.dice.randrange(len(SERVERS))
            client = world.connect(f"tcp://127.0.0.1:{PORT_FIRST + index}")
            client.on_data = lambda client, name=SERVERS[index]: self.heard(world, client, name)
            for _ in range(self.dice.choice((2, 10, 40))):
                at = self.dice.random() * RUN_S_MAX
                world.after(at, lambda client=client, name=SERVERS[index]: self.ask(client, name))
        if self.shake:
            world.network.set(disk_ns_max=self.dice.choice((250_000, 2_000_000, 20_000_000)))
            world.disk.fail("short", at=self.dice.randrange(1, 20))
            if self.dice.randrange(6) == 0 and not is_last:
                world.disk.fail(errno.EIO, at=self.dice.randrange(1, 30))
            if self.dice.randrange(6) == 0:
                world.disk.fail(errno.ENOSPC, kinds=("fill",))
        world.run(self.dice.random() * RUN_S_MAX)
        self.counts["rolls"] += world.node.journal.stats()["rolls"]
        self.counts["failed"] += world.node.exit_status

    def ask(self, client: Client, name: str) -> None:
        self.ident += 1
        verb = b"boom" if self.dice.randrange(12) == 0 else b"keep"
        size = self.dice.choice((0, 10, 500, 3000))
        command = b"%s %d %s" % (verb, self.ident, b"x" * size)
        if verb == b"keep":
            self.sent[name].add(command)
        client.send(self.wire.pack(command))
        self.counts[verb.decode()] += 1

    def heard(self, world: Simulator, client: Client, name: str) -> None:
        while (answer := self.wire.take(client.received)) is not None:
            place, _, command = answer.partition(b" ")
            if not place.isdigit():
                self.counts["errors"] += 1
                continue
            self.answered[name][int(place)] = command
            self.counts["answers"] += 1
            if self.dice.randrange(20) == 0:
                self.look_at_once(world)

    def look_at_once(self, world: Simulator) -> None:
        """(D4): the power goes now, and nothing in flight arrives."""
        disk = world.disk.cut_exactly([0] * len(world.disk.undecided()))
        app = application(self.wire.protocol)
        with Simulator(1, app, disk=disk, journal_options=self.options) as other:
            before = self.found
            self.check(other)
            self.found = before
        self.counts["looks"] += 1
