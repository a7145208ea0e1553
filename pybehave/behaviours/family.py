"""Virtual servers: a family of names, each of which is there as soon as somebody asks for it.

Nobody starts a member. The first message to a name that matches the family's pattern does, and one
that has been idle for a while is stopped again; a journaled one goes on from its state when the
next message comes, another one begins anew. Underneath is a `simple_one_for_one`, with everything
that one does: a member that crashes is restarted, all stop together, `which_children` lists those
that are awake.

Does not know: how messages find their server (runtime/families.py).
Source: Orleans, virtual actors; Akka, cluster sharding with passivation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.supervisor import SIMPLE, ChildSpec, Supervisor, walk


def family(
    pattern: str,
    factory: Callable[[], GenServer[Any, Any, Any]],
    args: Any = None,
    *,
    id: str | None = None,  # noqa: A002 -- OTP's word for it
    idle: float | None = None,
    intensity: int = 1000,
    period: float = 5.0,
    **worker: Any,
) -> Supervisor:
    """Return the supervisor of a family, to be put into a tree.

    Args:
        pattern: Names of its members, as `"user-*"`; `*`, `?` and `[...]` as in a shell. Of several
            families that match, the first in start order has the name.
        factory: The GenServer class, or a function without arguments that makes a server. A member
            finds its own name in `self.context.name`.
        args: What every member's init gets.
        id: The supervisor's; the pattern unless given.
        idle: Seconds without an input after which a member is stopped; None never does. One that
            has mail, timers, or callers that wait is not idle.
        intensity: So many restarts of all members together ...
        period: ... in so many seconds are borne. More than OTP's, for there are many members.
        worker: What else `Worker` takes: `journal`, `restart`, `backoff`, ...

    Raises:
        SpecError: A field is not what it may be.
    """
    own = pattern if id is None else id
    template = Worker(own, factory, args, **worker)
    return Supervisor(
        SIMPLE,
        [template],
        id=own,
        pattern=pattern,
        idle=idle,
        intensity=intensity,
        period=period,
    )


def families(tree: ChildSpec) -> Iterator[Supervisor]:
    """Yield the families of a tree in start order."""
    for _, node in walk(tree):
        if isinstance(node, Supervisor) and node.pattern is not None:
            yield node


def has_name(spec: Supervisor, name: str) -> bool:
    """Say whether a name is one of a family's."""
    return spec.pattern is not None and fnmatchcase(name, spec.pattern)
