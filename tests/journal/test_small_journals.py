"""T-2: small journals, every step × every subset of the sectors in flight; and garbage in them."""

import itertools

import pytest

from pybehave.journal.recovery import read_manifest
from pybehave.testing.disk import SimDisk
from tests.journal.small import Small

SECTORS_MAX = 12
GARBAGE_SECTORS_MAX = 6

SCRIPTS = [
    "rprprpcpcpc",
    "rprprpCpCpC",
    "RpRpcRpcRpCc",
    "rpRprpCrpcRpcc",
    "srprpFpccpcpcpcrpc",
    "sFpcrpFpcpcpcprpcwpRpCc",
    "rprwpCcrpwpcc",
    "rpcrpRpCcx",
    "srpcFpcrpcFpcpcpcpcpx",
]


class Everything:
    """Tries every subset at every step."""

    def __init__(self) -> None:
        self.states = 0
        self.skipped = 0

    def __call__(self, small: Small) -> None:
        sectors = len(small.disk.undecided())
        if sectors > SECTORS_MAX:
            self.skipped += 1
            return
        kinds = 3 if sectors <= GARBAGE_SECTORS_MAX else 2
        for outcomes in itertools.product(range(kinds), repeat=sectors):
            disk = small.disk.cut_exactly(outcomes)
            assert read_manifest(disk).counter >= small.manifest_counter, "J7"
            small.recover(disk)
            self.states += 1


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_subset_of_sectors_recovers(script: str, depth: int) -> None:
    everything = Everything()
    small = Small(SimDisk(), depth=depth)
    small.on_step = everything
    small.run(script)
    assert everything.states > len(script)
    assert everything.skipped <= 5, "frames that fill a segment are for the random suite"


def test_what_was_cut_off_never_comes_back() -> None:
    """F-02: frame k+1 whole, k missing; later epochs never see k+1 again, whatever they write."""
    small = Small(SimDisk(), depth=2)
    small.run("rpcrprp")
    late = [
        index for index, (_, place, _) in enumerate(small.disk.undecided()) if place >= 4 * 4096
    ]
    sectors = len(small.disk.undecided())
    disk = small.disk.cut_exactly([int(index in late) for index in range(sectors)])
    again = Small(disk, depth=2, model=small.model)
    assert again.model.recorded == 2
    for script in ("rp", "rpc", "rprpC"):
        again.run(script)
        again.recover(again.disk.cut_exactly([0] * len(again.disk.undecided())))
        again.recover(again.disk.cut_exactly([1] * len(again.disk.undecided())))


def test_every_order_of_submissions_and_completions() -> None:
    """All scripts of five steps over: submit a frame, complete the oldest, complete the newest."""
    everything = Everything()
    for steps in itertools.product(("rp", "c", "C"), repeat=5):
        small = Small(SimDisk(), depth=3)
        small.run("".join(steps[:-1]))
        everything(small)
        small.run(steps[-1])
        everything(small)
    assert everything.skipped == 0 and everything.states > 1500
