"""Releases and the journal: the boundary is one moment, wherever the power goes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, Release, Supervisor, Worker
from pybehave.actions import Hibernate
from pybehave.errors import JournalRefused, UpgradeFailed
from pybehave.runtime.release_specs import Wish
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.runtime.test_releases import SMALL, Counter, Counter2, application

ADDRESS = "tcp://127.0.0.1:7000"


def test_the_boundary_holds_across_a_start(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(application(journal=True), data=tmp_path / "d", journal_options=SMALL)
    for _ in range(5):
        node.call("c", "up")
    node.releases.upgrade(application(Counter2, "2", journal=True), from_version="1")
    node.call("c", "up")
    node.stop()
    # There is no upcast: the new code never meets the old inputs.
    node = start(
        application(Counter2, "2", journal=True), data=tmp_path / "d", journal_options=SMALL
    )
    assert node.call("c", "up") == b"25"


def test_a_rollback_is_a_boundary_too(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(application(journal=True), data=tmp_path / "d", journal_options=SMALL)
    node.call("c", "up")
    node.releases.upgrade(application(Counter2, "2", journal=True), from_version="1")
    node.call("c", "up")
    node.releases.rollback()
    node.call("c", "up")
    node.stop()
    node = start(application(journal=True), data=tmp_path / "d", journal_options=SMALL)
    assert node.call("c", "up") == b"13"


def wished() -> Wish:
    return Wish(Release(application(Counter2, "2", journal=True, url=ADDRESS), upgrades="1"), [])


def world(seed: int, disk: SimDisk, kind: Any, version: str) -> Simulator:
    app = application(kind, version, journal=True, url=ADDRESS)
    return Simulator(seed, app, disk=disk, journal_options=SMALL).start()


@pytest.mark.parametrize("seed", range(60))
def test_a_power_cut_in_the_middle_finds_the_one_release_or_the_other(seed: int) -> None:
    """And everything that was acknowledged; neither code has an upcast."""
    dice = random.Random(seed)
    sim = world(seed, SimDisk(seed), Counter, "1")
    client = sim.connect(ADDRESS)
    client.send(b"up\n" * 5)
    sim.run_until(lambda: client.received.count(b"\n") == 5)
    wish = wished()
    sim.node.releases.begin(wish, lambda report, error: None)
    for _ in range(dice.randrange(40)):  # of about twenty completions
        client.send(b"up\n")
        sim.tick(sim.now + 0.00002)
    acknowledged = [int(each) for each in bytes(client.received).split()]
    disk = sim.lose_power(dice)
    try:
        sim = world(seed, disk, Counter, "1")
        assert acknowledged == list(range(1, len(acknowledged) + 1))
        assert sim.node.sys.get_state("c") >= acknowledged[-1]
    except JournalRefused as error:
        assert "start the newer code" in str(error)
        sim = world(seed, disk, Counter2, "2")
        assert sim.node.sys.get_state("c")["count"] >= acknowledged[-1]
    sim.stop()


def test_the_power_cuts_find_both() -> None:
    """Otherwise the test above says little: a cut at once, and one at the end."""
    for ticks, version in ((0.0, "1"), (1.0, "2")):
        sim = world(7, SimDisk(7), Counter, "1")
        wish = wished()
        sim.node.releases.begin(wish, lambda report, error: None)
        sim.run(ticks)
        disk = sim.lose_power(random.Random(7))
        kind = Counter if version == "1" else Counter2
        world(7, disk, kind, version).stop()


def test_a_server_that_ends_meanwhile_ends_the_upgrade() -> None:
    """Suspended, with the snapshot under way, it is told to stop: all goes on as before."""
    tree = Supervisor("one_for_one", [Worker(each, Counter, journal=True) for each in "cd"])
    new = Supervisor("one_for_one", [Worker(each, Counter2, journal=True) for each in "cd"])
    sim = Simulator(3, Application("a", tree, version="1"), disk=SimDisk(3), journal_options=SMALL)
    with sim:
        sim.node.call("c", "up")
        answers: list[Any] = []
        wish = Wish(Release(Application("a", new, version="2"), upgrades="1"), [])
        sim.node.releases.begin(wish, lambda *answer: answers.append(answer))
        assert answers == []
        sim.node.terminate_child("root", "d")
        assert "in the middle of it" in str(answers[0][1])
        assert sim.node.call("c", "up") == b"2"
        sim.node.restart_child("root", "d")
        assert sim.node.call("d", "up") == b"1"
        sim.run(1.0)
        assert sim.node.call("c", "version") == b"1"


def test_a_stopped_servers_state_is_migrated_too() -> None:
    sim = Simulator(4, application(journal=True), disk=SimDisk(4), journal_options=SMALL)
    with sim:
        sim.node.call("c", "up")
        sim.node.terminate_child("root", "c")
        new = application(Counter2, "2", journal=True)
        assert sim.node.releases.upgrade(new, from_version="1").servers == ()
        sim.node.restart_child("root", "c")
        assert sim.node.call("c", "up") == b"11"


class Dozing(Counter):
    def step(self, command: Any, state: Any) -> Any:
        return *super().step(command, state), Hibernate()


class Dozing2(Counter2):
    def step(self, command: Any, state: Any) -> Any:
        return *super().step(command, state), Hibernate()


class Refusing(Dozing2):
    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        raise ValueError("no way")


def test_a_server_that_hibernates_is_migrated_too_or_stays_as_it_was(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(application(Dozing, journal=True), data=tmp_path / "d", journal_options=SMALL)
    assert node.call("c", "up") == b"1"
    with pytest.raises(UpgradeFailed):
        node.releases.upgrade(application(Refusing, "2", journal=True), from_version="1")
    assert node.call("c", "up") == b"2"
    node.releases.upgrade(application(Dozing2, "2", journal=True), from_version="1")
    assert [node.call("c", "up") for _ in range(2)] == [b"12", b"22"]
    node.stop()
    node = start(
        application(Dozing2, "2", journal=True), data=tmp_path / "d", journal_options=SMALL
    )
    assert node.call("c", "up") == b"32"
