"""Mistakes planted in compiled modules: a change of the source's text, compiled apart and loaded in
place of the real module, in a process of its own (tests/journal/mutants.py does that).

    python -m tests.simulation.planted_compiled NAME    exits with 1 and what was found, else 0

Does not import anything of the package before the mistake is in place.
"""

import logging
import sys
from typing import NamedTuple

from tests.journal.mutants import MUTANTS, Mutant, become


class Compiled(NamedTuple):
    """A mistake, the trial that finds it, and the promises one of which it breaks."""

    trial: str
    promises: tuple[str, ...]
    mutant: Mutant


def mutant(safeguard: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(safeguard, (), f"{module}.pyx", old, new, module)


COMPILED = {
    "replies before the disk": Compiled("busy ledger", ("history",), MUTANTS["barrier"]),
    "requests stepped twice": Compiled(
        "named requests",
        ("history",),
        mutant(
            "a request that is known is not stepped again",
            "requests",
            "found = known.numbers.get(number)",
            "found = None",
        ),
    ),
    "messages arrive again": Compiled(
        "tells",
        ("end",),
        mutant(
            "a message that has arrived is under way no more",
            "turn",
            "self.outbox.pop((self.cause_lsn, self.cause_index), None)",
            "pass",
        ),
    ),
}


def main(name: str) -> int:
    logging.disable(logging.CRITICAL)
    planted = COMPILED[name]
    become(planted.mutant)
    from pybehave.testing import TrialFailed
    from tests.simulation.planted import SEEDS, TRIALS

    try:
        TRIALS[planted.trial]().check(range(SEEDS), tries_max=60)
    except TrialFailed as failed:
        failure = failed.played.failure
        assert failure is not None
        sys.stdout.write(f"{failure.promise}\n{failed}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
