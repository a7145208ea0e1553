"""How many rounds the suites of random cases play: every such number, in one place.

`make test` plays the usual rounds: enough that each suite meets every kind of event that it wants
to see. `PYBEHAVE_EFFORT=full`, which `.ci/run` sets, plays the rounds that the guarantees speak of.
A variable of a number's own goes before both: it is for long runs by hand.

Here stand only rounds of which each is one more throw of the same dice. What exhausts a space, what
plants a mistake and must find it, and what counts clients is no effort: it is the same everywhere.

Does not know: the tests; what is counted by time (`--sim-seconds`); tests/power/rounds.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple


class Rounds(NamedTuple):
    """How many rounds are played usually, and at full effort."""

    usual: int
    full: int


ROUNDS: Final[Mapping[str, Rounds]] = {
    "PYBEHAVE_CRASH_STATES": Rounds(20_000, 300_000),  # of a journal; others take a share
    "PYBEHAVE_STORM_SEEDS": Rounds(900, 4_000),  # trees, clients, weather
    "PYBEHAVE_CALM_SEEDS": Rounds(60, 200),  # the same without weather
    "PYBEHAVE_HTTP_SEEDS": Rounds(50, 120),  # the same, all clients by HTTP
    "PYBEHAVE_DURABLE_SEEDS": Rounds(60, 200),  # journaled servers through power cuts
    "PYBEHAVE_PROGRAM_SEEDS": Rounds(12, 120),  # random programs, twice so many
    "PYBEHAVE_FOLDER_SEEDS": Rounds(8, 100),  # lives of a journal's folder
    "PYBEHAVE_FUZZ_ROUNDS": Rounds(60, 150),  # streams for each codec
}
"""Variable of the environment -> rounds."""

EFFORTS: Final = Rounds._fields


def rounds(variable: str, environment: Mapping[str, str] = os.environ) -> int:
    """Say how many rounds to play.

    Raises:
        ValueError: The effort is neither usual nor full, or the number none from 1.
    """
    effort = environment.get("PYBEHAVE_EFFORT", EFFORTS[0])
    if effort not in EFFORTS:
        raise ValueError(f"PYBEHAVE_EFFORT={effort} is neither {' nor '.join(EFFORTS)}")
    said = environment.get(variable)
    if said is None:
        return int(getattr(ROUNDS[variable], effort))
    if not (said.isascii() and said.isdigit() and int(said)):
        raise ValueError(f"{variable}={said} is no number from 1")
    return int(said)
