"""Several commands to one server that happen together, or not at all.

A client that has to send two commands of which one alone would be wrong (a withdrawal and the fee
for it) sends them as one input: one record of the journal, one turn. Nobody else's input comes
between them, no power cut parts them, and if one of them fails none has happened.

What is meant here is a unit of one server's own commands. Inputs of different senders that one
commit makes durable have nothing to do with each other: there a bad one fails alone.

Source: A1-4, the atomic batch of DGen's `cast_k`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, final

from pybehave.errors import show
from pybehave.once import Once

COMMANDS_MAX: Final = 10_000
"""All are stepped in one turn, which nothing else comes between: as many as take some 10 ms."""


@final
@dataclass(frozen=True, slots=True)
class Together:
    """Commands of one input: `node.call("bank", Together([Withdraw(5), Fee(1)]))`.

    The callback for the input (`step`, `handle_call`, `handle_cast`) gets each of them, in order,
    with the state that the one before has left. The reply is the list of their outputs. It may be
    sent in every way that a command may: `call`, `cast`, the actions `Call` and `Cast`, by a
    protocol's `decode`, and within a `Once`.

    Attributes:
        commands: A tuple of at least one; given as any iterable.

    Raises:
        TypeError: What is given cannot be gone through, or one is a Together or a Once.
        ValueError: There are none, or more than 10,000.
    """

    commands: tuple[Any, ...]

    def __init__(self, commands: Iterable[Any]) -> None:
        if isinstance(commands, str | bytes) or not isinstance(commands, Iterable):
            raise TypeError(f"Together: commands is a list of commands, not {show(commands)}")
        kept = tuple(commands)
        if not 1 <= len(kept) <= COMMANDS_MAX:
            raise ValueError(f"Together: 1 to {COMMANDS_MAX} commands, not {len(kept)}")
        for command in kept:
            if isinstance(command, Together | Once):
                raise TypeError(
                    f"Together: {show(command)} is no command; put a Together into a Once, and not "
                    f"the other way round"
                )
        object.__setattr__(self, "commands", kept)
