"""Another template for journaled children: what they keep, and what a kill leaves of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker, family
from pybehave.errors import Crashed, SpecError
from pybehave.journal.recovery import Options
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

SMALL = Options(segment_bytes=256 * 1024)


class One(GenServer[Any, Any, Any]):
    """Counts from what it was given."""

    def init(self, args: Any) -> Any:
        return args[0] if args else 0

    def step(self, command: Any, state: Any) -> Any:
        match command:
            case "crash":
                raise ValueError("asked to")
            case "version":
                return state, 1
        return state + command, state + command


class Two(One):
    """The same in a dict; it reads what One has left."""

    version = 2

    def init(self, args: Any) -> Any:
        return {"n": args[0] if args else 0}

    def step(self, command: Any, state: Any) -> Any:
        match command:
            case "crash":
                raise ValueError("asked to")
            case "version":
                return state, 2
        state["n"] += command
        return state, state["n"]

    def upcast(self, version: int, message: Any) -> Any:
        return message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return {"n": dumped}


def sessions(kind: Any, *, journal: bool) -> Supervisor:
    template = Worker("session", kind, journal=journal)
    return Supervisor("simple_one_for_one", [template], id="sessions", intensity=100)


def accounts(kind: Any, *, journal: bool) -> Supervisor:
    return family("acct-*", kind, id="sessions", journal=journal, intensity=100)


def world(disk: SimDisk, below: Supervisor, *, has_other: bool = True) -> Simulator:
    """A node with these children, and one journaled server beside them."""
    other = [Worker("other", One, journal=True)] if has_other else []
    app = Application("a", Supervisor("one_for_one", [*other, below]))
    return Simulator(1, app, disk=disk, journal_options=SMALL).start()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [One, Two])
@pytest.mark.parametrize("has_crashed", [False, True], ids=["runs", "crashed"])
@pytest.mark.parametrize("after", [False, True], ids=["to memory", "to journal"])
@pytest.mark.parametrize("before", [False, True], ids=["memory", "journal"])
def test_another_template_holds_from_the_next_start(
    before: bool, after: bool, has_crashed: bool, kind: Any, seed: int
) -> None:
    sim = world(SimDisk(seed), sessions(One, journal=before))
    node = sim.node
    node.start_child("sessions", [5], name="alice")
    assert node.call("alice", 2) == 7
    assert node.reconfigure("sessions", sessions(kind, journal=after)) == []
    assert (node.call("alice", 1), node.call("alice", "version")) == (8, 1)
    kept = 8 if before else 5  # what the next journaled start finds; else it begins anew
    if has_crashed:
        with pytest.raises(Crashed):
            node.call("alice", "crash")
        kept = 8 if before and after else 5
        assert node.call("alice", 0) == kept
        assert node.call("alice", "version") == kind().version
        assert node.call("alice", 10) == kept + 10
        kept = kept + 10 if after else (8 if before else 5)
    node.start_child("sessions", [20], name="bob")
    assert node.call("bob", 1) == 21
    sim = world(sim.lose_power(Random(seed)), sessions(kind, journal=after))
    for name, first, found in (("alice", 5, kept), ("bob", 20, 21)):
        sim.node.start_child("sessions", [first], name=name)
        assert sim.node.call(name, 0) == (found if after else first)
        assert sim.node.call(name, "version") == kind().version
    sim.stop()


@pytest.mark.parametrize("seed", range(3))
def test_a_family_gets_another_factory(seed: int) -> None:
    """One that is awake goes on, one that sleeps wakes with the new code; all stays."""
    sim = world(SimDisk(seed), accounts(One, journal=True))
    node = sim.node
    assert [node.call("acct-awake", 2), node.call("acct-asleep", 3)] == [2, 3]
    node.terminate_child("sessions", "acct-asleep")
    node.reconfigure("sessions", accounts(Two, journal=True))
    assert (node.call("acct-awake", 1), node.call("acct-awake", "version")) == (3, 1)
    assert (node.call("acct-asleep", 1), node.call("acct-asleep", "version")) == (4, 2)
    assert (node.call("acct-new", 1), node.call("acct-new", "version")) == (1, 2)
    sim = world(sim.lose_power(Random(seed)), accounts(Two, journal=True))
    for name, found in (("acct-awake", 3), ("acct-asleep", 4), ("acct-new", 1)):
        assert (sim.node.call(name, 0), sim.node.call(name, "version")) == (found, 2)
    sim.stop()


@pytest.mark.parametrize("kind", [sessions, accounts])
def test_a_template_that_the_node_could_not_start_is_refused(kind: Any) -> None:
    """It was taken, and the first crash of a child ended the whole tree."""
    sim = world(SimDisk(1), kind(One, journal=False), has_other=False)
    node = sim.node
    if kind is sessions:
        node.start_child("sessions", [5], name="acct-1")
    node.call("acct-1", 1)
    with pytest.raises(SpecError, match="keeps no journal"):
        node.reconfigure("sessions", kind(One, journal=True))
    with pytest.raises(Crashed):
        node.call("acct-1", "crash")
    assert node.call("acct-1", 0) == (5 if kind is sessions else 0)
    sim.stop()


PROGRAM = """
import os, signal, sys
from pybehave import Application, Supervisor, Worker
from tests.runtime.durable.test_reconfigure_journaled import SMALL, One, Two, sessions

kind = Two if sys.argv[2] == "again" else One
tree = Supervisor("one_for_one", [sessions(kind, journal=True)])
with Application("a", tree).start(data=sys.argv[1], journal_options=SMALL) as node:
    node.start_child("sessions", [5], name="alice")
    if sys.argv[2] == "again":
        print(node.call("alice", 0), node.call("alice", "version"))
        sys.exit(0)
    node.call("alice", 2)
    node.reconfigure("sessions", sessions(Two, journal=True))
    node.call("alice", 1)
    if sys.argv[2] == "restarted":
        node.terminate_child("sessions", "alice")
        node.start_child("sessions", [5], name="alice")
        node.call("alice", 1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("when", "found"), [("running", "8 2"), ("restarted", "9 2")])
def test_a_kill_after_it(tmp_path: Path, when: str, found: str) -> None:
    def begin(word: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / "data"), word]
        return subprocess.run(
            words, capture_output=True, text=True, timeout=60, check=False, cwd=os.getcwd()
        )

    assert begin(when).returncode == -signal.SIGKILL
    again = begin("again")
    assert (again.returncode, again.stdout.strip()) == (0, found), again.stderr
