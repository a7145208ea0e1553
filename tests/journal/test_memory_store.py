"""The store in memory keeps the contract."""

from pybehave.journal.memory_store import MemoryStore
from pybehave.testing.store_conformance import Clock, StoreConformance
from pybehave.testing.store_walk import walk_beside_the_model


class TestMemoryStore(StoreConformance):
    def open_store(self, clock: Clock) -> MemoryStore:
        return MemoryStore(clock=clock)


TestMemoryStoreBesideTheModel = walk_beside_the_model(lambda clock: MemoryStore(clock=clock))
