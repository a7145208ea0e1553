"""A storm of crashes of a journaled server: what each of them reads again stays bounded."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pybehave import Application, GenServer, Rollback, Supervisor, Worker
from pybehave.errors import Crashed
from pybehave.testing import SimDisk, Simulator

STORM = 60


class Ledger(GenServer[list[int], int, int]):
    def init(self, args: Any) -> list[int]:
        return []

    def step(self, command: int, state: list[int]) -> tuple[list[int], int]:
        state.append(command)
        return state, 1 // command


class PureLedger(Ledger):
    pure = True

    def step(self, command: int, state: list[int]) -> tuple[list[int], int]:
        return super().step(command, list(state))


def world(kind: type[Ledger], recovery: Any, disk: SimDisk) -> Simulator:
    worker = Worker("ledger", kind, journal=True, recovery=recovery)
    app = Application("bank", Supervisor("one_for_one", [worker], intensity=10**6))
    sim = Simulator(1, app, disk=disk)
    sim.node.journal.snapshots.reread = 200
    return sim


def storm(sim: Simulator) -> list[int]:
    """Good commands, each behind a crash; how many records each crash had to read."""
    snapshots, read = sim.node.journal.snapshots, []
    for number in range(1, STORM + 1):
        with pytest.raises(Crashed):
            sim.node.call("ledger", 0)
        read.append(sim.node.journal.commit.next_lsn - snapshots.lsn)
        sim.node.call("ledger", number)
        sim.run(2.0)  # the journal comes to rest, as it does between two commands of a client
    return read


def test_what_a_crash_reads_does_not_grow_with_the_crashes_before_it() -> None:
    with world(Ledger, "last_good", SimDisk(1)) as sim:
        read = storm(sim)
        assert sim.node.journal.snapshots.taken > 1
        assert max(read[STORM // 2 :]) <= max(read[: STORM // 2])
        assert sim.node.get_state("ledger") == list(range(1, STORM + 1))


def test_the_state_is_the_same_after_a_power_cut() -> None:
    sim = world(Ledger, "last_good", SimDisk(1)).start()
    storm(sim)
    with world(Ledger, "last_good", sim.lose_power(random.Random(1))) as again:
        assert again.node.get_state("ledger") == list(range(1, STORM + 1))


@pytest.mark.parametrize(
    ("kind", "recovery"),
    [(Ledger, ("last_good", Rollback(1000))), (PureLedger, "last_good")],
)
def test_no_snapshot_where_inputs_may_be_taken_back_or_nothing_is_read(
    kind: type[Ledger], recovery: Any
) -> None:
    with world(kind, recovery, SimDisk(1)) as sim:
        for _ in range(STORM):
            with pytest.raises(Crashed):
                sim.node.call("ledger", 0)
            sim.run(10.0)  # calm enough for the ladder's first rung
        assert sim.node.journal.snapshots.taken == 0
