"""What happens in a trial, as data: who asks what when, and what goes wrong when.

A script is a list of acts in the order of their times. It is drawn from a seed, or written by hand;
it can be printed, made shorter and played again. What an act does, trial.py says.

Invariants
  (A1) An act is immutable, and its repr is the expression that makes it.
  (A2) The same seed and the same arguments draw the same script.

Does not know: servers, worlds, time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, Literal, TypeAlias, final

from msgspec import Struct

from pybehave.errors import show

MILLE: Final = 1000

REQUIRED: Final = 4
"""Fields of an Ask that have no default."""

DISK_FAULTS: Final = ("EIO", "ENOSPC", "short", "EINTR")
"""What may befall one write: it fails for ever, there is no room, less is written, again please."""


Lost: TypeAlias = Literal["", "request", "reply"]


@final
class Ask(Struct, frozen=True):
    """A client asks a server.

    Attributes:
        at: Virtual seconds from the beginning of the trial.
        client: Who asks.
        server: Whom.
        request: What.
        delay: Seconds until the request arrives.
        back: Seconds until its reply does.
        lost: What is lost on its way: "request", "reply", or "".
    """

    at: float
    client: str
    server: str
    request: Any
    delay: float = 0.0
    back: float = 0.0
    lost: Lost = ""


@final
class GiveUp(Struct, frozen=True):
    """A client waits no longer for anything that it has asked: its connection broke."""

    at: float
    client: str


@final
class Crash(Struct, frozen=True):
    """The next callback of a server crashes at its end, when it may have changed its state."""

    at: float
    server: str


@final
class DiskFault(Struct, frozen=True):
    """The next write to the disk goes wrong.

    Attributes:
        what: "EIO", "ENOSPC" (of new files), "short" or "EINTR".
    """

    at: float
    what: str


@final
class Snapshot(Struct, frozen=True):
    """The node takes a snapshot of its journaled servers."""

    at: float


@final
class Restart(Struct, frozen=True):
    """The node is stopped in order and started again."""

    at: float


@final
class PowerCut(Struct, frozen=True):
    """The power goes, and comes back.

    Attributes:
        luck: Decides which sectors that were in flight have arrived.
    """

    at: float
    luck: int = 0


Act: TypeAlias = Ask | GiveUp | Crash | DiskFault | Snapshot | Restart | PowerCut
Script: TypeAlias = Sequence[Act]

Asking: TypeAlias = Callable[[Random], tuple[str, Any]]
"""Draws what a client asks next: the server's name and the request."""


@final
class Faults(Struct, frozen=True):
    """What may go wrong in a trial. Each seed draws how much of it does, and some kinds not at all.

    Attributes:
        delay: Seconds that a request or a reply may take.
        lose: Requests of a thousand that get lost on their way, and as many replies.
        give_ups: Times that a client waits no longer.
        crashes: Callbacks that crash at their end.
        restarts: Orderly stops and starts of the node.
        power_cuts: Power cuts.
        disk_faults: Writes that go wrong; a node whose disk has failed ends and is started again.
        snapshots: Snapshots taken, of journaled servers.
    """

    delay: float = 0.01
    lose: int = 30
    give_ups: int = 1
    crashes: int = 2
    restarts: int = 1
    power_cuts: int = 1
    disk_faults: int = 0
    snapshots: int = 1


NO_FAULTS: Final = Faults(0.0, 0, 0, 0, 0, 0, 0, 0)


def draw_script(
    seed: int,
    ask: Asking,
    *,
    clients: int,
    requests: int,
    seconds: float,
    servers: Sequence[str],
    faults: Faults,
) -> list[Act]:
    """Draw what happens in a trial.

    Args:
        seed: Of everything.
        ask: Draws requests.
        clients: How many there are.
        requests: How many they ask together.
        seconds: Virtual time in which they ask.
        servers: Who may crash.
        faults: What may go wrong.
    """
    dice = Random(f"script {seed}")
    acts = _requests(dice, ask, clients, requests, seconds, faults)
    client = f"c{dice.randrange(clients) + 1}"
    makers: tuple[tuple[int, Callable[[float], Act]], ...] = (
        (faults.give_ups, lambda at: GiveUp(at, client)),
        (faults.crashes if servers else 0, lambda at: Crash(at, dice.choice(servers))),
        (faults.disk_faults, lambda at: DiskFault(at, dice.choice(DISK_FAULTS))),
        (faults.snapshots, Snapshot),
        (faults.restarts, Restart),
        (faults.power_cuts, lambda at: PowerCut(at, dice.getrandbits(16))),
    )
    for most, make in makers:
        acts += [make(_moment(dice, seconds)) for _ in range(dice.randint(0, most))]
    return in_order(acts)


def _requests(
    dice: Random, ask: Asking, clients: int, requests: int, seconds: float, faults: Faults
) -> list[Act]:
    """What clients ask, and what becomes of it on its way."""
    delay = dice.choice((0.0, faults.delay / 10, faults.delay))
    lose = dice.choice((0, faults.lose))
    acts: list[Act] = []
    for _ in range(requests):
        server, request = ask(dice)
        client, luck = f"c{dice.randrange(clients) + 1}", dice.randrange(MILLE)
        lost: Lost = "request" if luck < lose else "reply" if luck < 2 * lose else ""
        at, out, back = (_moment(dice, most) for most in (seconds, delay, delay))
        acts.append(Ask(at, client, server, request, out, back, lost))
    return acts


def in_order(acts: Script) -> list[Act]:
    """Return acts in the order of their times; of equal ones the first stays first."""
    return sorted(acts, key=lambda act: act.at)


def show_script(acts: Script) -> str:
    """Return a script as the list that makes it, an act a line."""
    return "\n".join(["[", *(f"    {_shown(act)}," for act in acts), "]"])


def _shown(act: Act) -> str:
    """An act's expression, without the fields that are as by default."""
    bare = Ask(0.0, "", "", None)
    told = [
        f"{name}={getattr(act, name)!r}"
        for index, name in enumerate(act.__struct_fields__)
        if not isinstance(act, Ask) or index < REQUIRED or getattr(act, name) != getattr(bare, name)
    ]
    return f"{type(act).__name__}({', '.join(told)})"


def check_script(acts: Any) -> list[Act]:
    """Return a script in its order.

    Raises:
        TypeError: Something in it is no act.
    """
    for act in acts:
        if not isinstance(act, Act):
            raise TypeError(f"{show(act)} is no act; a script has Ask, Crash, PowerCut, ...")
    return in_order(acts)


def _moment(dice: Random, seconds: float) -> float:
    """A time to the microsecond, so that a script that is printed is the script."""
    return round(dice.random() * seconds, 6)
