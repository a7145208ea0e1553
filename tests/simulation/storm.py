"""One storm: a random tree, random clients, random weather; every promise checked.

Promises, for every seed
  (P1) Answers come in the order of their requests, each to the connection that asked.
  (P2) Every request is answered, by an answer or an error, unless its connection ended.
  (P3) An answer carries the fold of the inputs its server took since its last init.
  (P4) No input is handled twice.
  (P5) Servers stop and start as OTP says, in its order; restarts are counted as OTP counts.
  (P6) When the clients have gone, nothing is held for them.
  (P7) The same seed gives the same run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pybehave.behaviours.application import Application
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import PybehaveError
from pybehave.listener import Listener
from pybehave.testing.simulate import CALM, Client, Simulator
from tests.simulation.ledger import CRASHES, Journal, Ledger, SlowLedger
from tests.simulation.supervision_model import Model
from tests.simulation.wires import RESP, WIRES, Wire

PORT_FIRST = 7000
CLIENTS_MAX = 12
ACTS = 80
PONG = b"+PONG"
"""Answered by the core itself, and so to be kept in its place among the answers of the server."""

PROMPT = ["add"] * 12 + ["tell", "big", "crash", "stop", "cont", "leave"]
USUAL = [*PROMPT, "later", "later", "ask", "ask"]
BY_CALL = ["add", "add", "big", "tell", "crash", "stop"]
BY_CAST = ["add", "crash"]
HOWS = [*(how.decode() for how in CRASHES), "return", "encode"]
"""Ways to crash; the last needs a connection, for nothing else encodes."""

IDLE_S = 10.0
QUIET_S = 30.0
"""Longer than any timer, the slowest completion and a connection's linger."""


class Talker:
    """A client with a memory: what it asked, and what it was answered."""

    def __init__(self, storm: Storm, client: Client, server: int) -> None:
        self.storm = storm
        self.client = client
        self.wire = storm.wires[server]
        # A mailbox that drops or rejects may drop the answer its server waits for, too.
        self.verbs = USUAL if storm.is_patient[server] else PROMPT
        if self.wire is RESP:
            self.verbs = [*self.verbs, "PING", "PING"]
        self.idles = storm.idles[server]
        self.asked: list[bytes] = []
        self.quits: set[bytes] = set()
        self.answered = 0
        self.unsaid = bytearray()
        self.has_ended = False
        self.was_closed = False
        client.on_data = self.heard

    def ask(self, ident: bytes, command: bytes) -> None:
        self.asked.append(ident)
        if command.startswith(b"leave"):
            self.quits.add(ident)
        self.unsaid += self.wire.pack(command)

    def say(self) -> None:
        """Send some of what is to be said, maybe half a message; the rest a little later."""
        size = self.storm.dice.choice([1, 3, 17, 100, len(self.unsaid)])
        self.client.send(bytes(self.unsaid[:size]))
        del self.unsaid[:size]
        if self.unsaid:
            self.storm.world.after(self.storm.dice.random() / 100, self.say)
        elif self.has_ended:
            self.client.shutdown()

    def heard(self, client: Client) -> None:
        while (message := self.wire.take(client.received)) is not None:
            assert self.answered < len(self.asked), f"an answer nobody asked for: {message!r}"
            ident = self.asked[self.answered]
            self.storm.check_answer(ident, message)  # (P1)
            self.answered += 1
            self.was_closed |= ident in self.quits and message.startswith(b"ok")

    def check(self, *, is_down: bool) -> None:
        """After a long quiet: has everything been answered that had to be? (P2)"""
        state = self.client.state
        self.storm.counts[f"connections {state}"] += 1
        if is_down or (state in ("reset", "refused") and self.storm.is_shaken):
            return
        if state == "reset":  # in calm weather only by the program, for a client that asked for it
            assert self.idles or self.quits or self.has_ended
            return
        if self.idles or self.was_closed:
            assert state == "ended"
            return
        assert state == ("ended" if self.has_ended else "open"), f"the connection is {state}"
        assert self.answered == len(self.asked), (
            f"{len(self.asked) - self.answered} of {len(self.asked)} requests have no answer, "
            f"the first is {self.asked[self.answered]!r}"
        )


class Storm:
    """One seed."""

    def __init__(
        self, seed: int, *, shake: bool = True, wires: Sequence[Wire] = tuple(WIRES)
    ) -> None:
        self.dice = random.Random(f"storm {seed}")
        self.is_shaken = shake
        self.counts: Counter[str] = Counter()
        self.journal = Journal()
        self.names: list[str] = []
        self.is_patient: list[bool] = []
        self.idents = 0
        tree = self._tree(depth=0)
        self.wires = [self.dice.choice(wires) for _ in self.names]
        self.idles = [self.dice.choice([None, None, None, IDLE_S]) for _ in self.names]
        listeners = [
            Listener(
                f"tcp://127.0.0.1:{PORT_FIRST + i}",
                self.wires[i].protocol,
                to=name,
                backlog=8,
                idle_timeout=self.idles[i],
            )
            for i, name in enumerate(self.names)
        ]
        self.model = self.journal.model = Model(tree)
        app = Application("storm", tree, listeners=listeners)
        buffers = 1 << self.dice.randrange(1, 7)
        buffer_bytes = self.dice.choice([16, 64, 1024])
        self.world = Simulator(seed, app, shake=shake, buffers=buffers, buffer_bytes=buffer_bytes)
        self.talkers: list[Talker] = []
        self.trace_hash = 0

    def run(self) -> None:
        """Play it, and check every promise."""
        self.world.start()
        for _ in range(ACTS):
            if self.model.is_down:
                break
            self.act()
            self.world.run(self.dice.choice([0.0, 0.0001, 0.001, 0.01, 0.1, 2.0]))
            self.check_supervision()
        self.settle()
        self.finish()

    # --- what happens ----------------------------------------------------------------------------

    def act(self) -> None:
        talkers = [t for t in self.talkers if t.client.is_open and not t.has_ended]
        choices = [self.connect, self.call, self.call, self.cast]
        if talkers:
            talker = self.dice.choice(talkers)
            choices += 8 * [lambda: self.burst(talker)]
            choices += 2 * [talker.client.resume]
            choices += [talker.client.pause, lambda: self.end(talker), lambda: self.leave(talker)]
        self.dice.choice(choices)()

    def connect(self) -> None:
        if len(self.talkers) < CLIENTS_MAX:
            port = self.dice.randrange(len(self.names))
            client = self.world.connect(("127.0.0.1", PORT_FIRST + port))
            self.talkers.append(Talker(self, client, port))

    def burst(self, talker: Talker) -> None:
        for _ in range(self.dice.choice([1, 1, 2, 5, 20])):
            talker.ask(*self.command(talker.verbs, HOWS))
        talker.say()

    def end(self, talker: Talker) -> None:
        talker.has_ended = True
        if not talker.unsaid:
            talker.client.shutdown()

    def leave(self, talker: Talker) -> None:
        if self.dice.random() < 0.5:
            talker.client.reset()
        else:
            talker.client.close()
        self.forget(talker)

    def forget(self, talker: Talker) -> None:
        talker.unsaid.clear()
        self.talkers.remove(talker)
        self.world.forget(talker.client)

    def call(self) -> None:
        ident, command = self.command(BY_CALL)
        try:
            answer = self.world.node.call(self.dice.choice(self.names), command)
        except PybehaveError:
            self.counts["calls refused"] += 1
        else:
            self.check_answer(ident, answer)

    def cast(self) -> None:
        _, command = self.command(BY_CAST)
        self.world.node.cast(self.dice.choice(self.names), command)

    def command(self, verbs: list[str], hows: list[str] = HOWS[:-1]) -> tuple[bytes, bytes]:
        """A fresh id, and a command with it."""
        self.idents += 1
        ident = b"%d" % self.idents
        verb = self.dice.choice(verbs)
        if verb == "PING":
            return PONG, b"PING"
        if verb in ("crash", "stop", "leave") and self.dice.random() < 0.5:
            verb = "add"
        to, amount = self.dice.choice([*self.names, "nobody"]), self.dice.randrange(1000)
        rest = {
            "add": str(amount),
            "later": str(amount),
            "ask": f"{to} {amount}",
            "tell": f"{to} {amount}",
            "big": str(self.dice.choice([100, 5000, 70000])),
            "crash": self.dice.choice(hows),
            "cont": "",
            "leave": "",
            "stop": "",
        }[verb]
        self.counts[verb] += 1
        return ident, f"{verb} {ident.decode()} {rest}".strip().encode()

    # --- what must hold --------------------------------------------------------------------------

    def check_answer(self, ident: bytes, answer: bytes) -> None:
        words = answer.split()
        if ident == PONG:
            assert answer == PONG
            self.counts["pongs"] += 1
        elif words[0] == b"ok":
            assert words[1] == ident, f"asked {ident!r}, answered {answer[:60]!r}"  # (P1)
            assert int(words[2]) == self.journal.expected[ident]  # (P3)
            self.counts["answers"] += 1
        elif words[0] == b"failed":
            assert words[1] == ident
            self.counts["failed asks"] += 1
        else:
            self.counts["errors"] += 1

    def check_supervision(self) -> None:
        assert self.journal.life == self.model.expected  # (P5)
        self.journal.life.clear()
        self.model.expected.clear()
        node = self.world.node
        alive = {name: node.whereis(name) for name in node.names()}
        assert alive == self.model.running()  # (P5)
        for name in alive:
            assert node.get_state(name)["sum"] == self.journal.sums[name]  # (P3)

    def settle(self) -> None:
        """Calm weather and time for everything that is still on its way."""
        self.world.network.set(**CALM)
        for talker in self.talkers:
            talker.client.resume()
        self.world.run(QUIET_S)
        self.check_supervision()
        for talker in self.talkers:
            talker.check(is_down=self.model.is_down)

    def finish(self) -> None:
        """The clients go, then the application."""
        for talker in list(self.talkers):
            talker.client.close()
            self.forget(talker)
        self.world.run(QUIET_S)
        if not self.model.is_down:
            self.check_nothing_is_held()
        self.counts["restarts"] = self.model.restarts
        self.counts["given up"] = self.model.given_up
        self.counts["down"] = self.model.is_down
        self.counts += self.journal.counts
        self.trace_hash = self.world.trace_hash  # (P7)
        self.model.stopped()
        status = self.world.stop()
        assert status == (1 if self.counts["down"] else 0)
        assert self.journal.life == self.model.expected  # (P5)

    def check_nothing_is_held(self) -> None:
        """(P6)"""
        stats = self.world.node.stats()
        assert stats["connections"]["open"] == 0
        assert stats["output"]["blocks_used"] == 0
        assert stats["timers"]["armed"] == 0
        for server in stats["servers"].values():
            assert server["mailbox"] == server["timers"] == server["callers"] == 0
        ports = len(self.names)
        assert self.world.network.census() == {
            "descriptors": 0,
            "listeners": ports,
            "operations": ports,
            "links": 0,
            "buffers_lent": 0,
            "writes": 0,
        }

    # --- the tree --------------------------------------------------------------------------------

    def _tree(self, depth: int, restart: Any = "permanent") -> Supervisor:
        dice = self.dice
        children: list[Any] = []
        for _ in range(dice.choice([1, 2, 2, 3, 4])):
            kind = dice.choice(["permanent", "permanent", "permanent", "transient", "temporary"])
            if depth < 2 and dice.random() < 0.3:
                children.append(self._tree(depth + 1, kind))
            else:
                children.append(self._worker(kind))
        return Supervisor(
            dice.choice(["one_for_one", "one_for_all", "rest_for_one"]),
            children,
            id=None if depth == 0 else f"s{dice.getrandbits(60):x}",
            restart=restart,
            intensity=dice.choice([0, 1, 3, 10, 1000]) if depth else dice.choice([3, 100, 1000]),
            period=dice.choice([1.0, 5.0, 60.0]),
        )

    def _worker(self, restart: Any) -> Worker[Any, Any]:
        dice = self.dice
        name = f"w{len(self.names)}"
        self.names.append(name)
        overflow: Any = dice.choice(["block", "block", "reject", "drop_oldest"])
        self.is_patient.append(overflow == "block")
        return Worker(
            name,
            dice.choice([Ledger, SlowLedger]),
            self.journal,
            restart=restart,
            shutdown=dice.choice([5.0, "brutal_kill", "infinity"]),
            mailbox=dice.choice([1, 4, 1024]),
            overflow=overflow,
        )
