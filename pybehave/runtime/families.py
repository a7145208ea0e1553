"""Wake the members of families when somebody asks for them, and stop those that are idle.

Theory. The dispatcher asks here when a message is for a name that nobody answers to. If the name is
a family's, its server is started on the spot, wherever that is, also in the middle of another
supervisor's plan: a member has no siblings whose order would matter, so its start needs no plan. A
member that is being restarted is not started twice: who asks meanwhile hears `NoProc`, as always.

Idle members are looked for in rounds, four in the time that makes one idle, a thousand members at a
time; so one is stopped after that time and a quarter at the latest.

Invariants
  (F1) A member is stopped only if it has no mail, no timers and no callers, and has had no input
       since; that is looked at again when its supervisor comes to it.
  (F2) A family that ends wakes nobody any more.

Does not know: patterns (behaviours/family.py), the journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from pybehave.behaviours import child_requests, restart
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.family import families, has_name
from pybehave.behaviours.plan import Status
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import SpecError
from pybehave.runtime.events import ChildPassivated, ChildStarted, StartError
from pybehave.runtime.tree.requests import Answer
from pybehave.runtime.tree.supervisor import Phase
from pybehave.types import IGNORED

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave.runtime.host import LoopHost
    from pybehave.runtime.tree.child import TreeChild
    from pybehave.runtime.tree.supervisor import SupervisorNode
    from pybehave.runtime.tree.tree import Tree

ROUNDS: Final = 4
"""Rounds in the time that makes a member idle."""

LOOKS_MAX: Final = 1000
"""Members looked at before the loop goes on: less than a millisecond."""


@final
class Families:
    """The families of a node that are awake.

    Args:
        host: Who starts their members.
        trees: Returns the trees that run.
    """

    def __init__(self, host: LoopHost, trees: Callable[[], list[Tree]]) -> None:
        self._host = host
        self._trees = trees
        self._watches: dict[SupervisorNode, _Watch] = {}

    def wake(self, name: str, is_asked: bool = False) -> bool:
        """Start the server of a name if it is a family's; it answers then, or it does not.

        Args:
            name: Whose server somebody wants.
            is_asked: It is only asked whether a family has the name; nothing starts.

        Returns:
            Whether one has it.
        """
        for tree in self._trees():
            for node in tree.families:
                if has_name(node.state.spec, name):
                    if not is_asked:
                        self._start(node, name)
                    return True
        return False

    def _start(self, node: SupervisorNode, name: str) -> None:
        is_up = node.phase is Phase.IDLE or node.phase is Phase.WORKING
        if not is_up or node.is_asked_to_stop or name in node.state.children:
            return  # (F2)
        try:
            child = node.make_from_template(name, ())
        except SpecError:
            return  # it matches, but is no name: too long, or with a "/"
        host = self._host
        try:
            assert isinstance(child.spec, Worker)
            ref = host.start_worker(child.spec, child.name, child.args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 -- whatever init raises is its failure
            host.emit(StartError(node.path, name, error, "start"))
            return
        if ref is IGNORED:
            return
        node.tree.workers.add(ref, child)
        child.ref = ref
        restart.started(node.state, child)
        host.emit(ChildStarted(node.path, name, ref, 0, True))
        if node.state.spec.idle is not None and node not in self._watches:
            self._watches[node] = _Watch(host, node, node.state.spec.idle, self._forget)

    def _forget(self, node: SupervisorNode) -> None:
        del self._watches[node]


@final
class _Watch:
    """Looks for idle members of one family, as long as it has members."""

    def __init__(
        self,
        host: LoopHost,
        node: SupervisorNode,
        idle: float,
        done: Callable[[SupervisorNode], None],
    ) -> None:
        self._host = host
        self._node = node
        self._idle = idle
        self._done = done
        self._seen: dict[TreeChild, tuple[object, int, float]] = {}
        self._left: deque[TreeChild] = deque()
        self._again()

    def _again(self) -> None:
        self._host.after(self._idle / ROUNDS, self._begin_round)

    def _begin_round(self) -> None:
        children = self._node.children()
        if self._node.phase is Phase.ENDED or not children:
            self._done(self._node)
            return
        self._left.extend(children)
        seen = self._seen
        self._seen = {child: seen[child] for child in children if child in seen}
        self._look()

    def _look(self) -> None:
        now = self._host.now()
        for _ in range(min(LOOKS_MAX, len(self._left))):
            self._look_at(self._left.popleft(), now)
        if self._left:
            self._host.defer(self._look)
        else:
            self._again()

    def _look_at(self, child: TreeChild, now: float) -> None:
        server: Server = child.ref
        if child.status is not Status.RUNNING or server is None:
            return
        before = self._seen.get(child)
        if before is None or before[:2] != (server, server.inputs):
            self._seen[child] = (server, server.inputs, now)
        elif now - before[2] >= self._idle and _is_quiet(server):
            passivate = partial(_passivate, server, server.inputs)
            self._node.post((passivate, child, Answer()))
            journal = self._host.journal
            if journal is not None:
                self._host.defer(partial(journal.hibernation.lay_down, server.name, server))


def _is_quiet(server: Server) -> bool:
    """(F1)"""
    waiting = server.mailbox_count or server.callers_count or server.timers_count or server.idle_s
    return server.is_running and not waiting


def _passivate(
    server: Server, inputs: int, node: SupervisorNode, child: TreeChild, answer: Answer[Any]
) -> None:
    """Stop a member in its supervisor's turn, if it is still what it was (F1)."""
    if child.ref is not server or server.inputs != inputs or not _is_quiet(server):
        answer.give(None)
        return
    node.tree.host.emit(ChildPassivated(node.path, child.id, server))
    node.carry_out(child_requests.plan_terminate_child(node.state, node.path, child.id), answer)


@final
class Specs(dict[str, Worker[Any, Any]]):
    """Journaled workers by name, members of families included, which no list has.

    Args:
        trees: Where the families are.
        listed: The others.
        hidden: Names that are treated as if no worker had them.
    """

    def __init__(
        self,
        trees: list[Supervisor],
        listed: dict[str, Worker[Any, Any]],
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__({name: each for name, each in listed.items() if name not in hidden})
        self._trees, self.hidden = trees, hidden
        self._families = [node for tree in trees for node in families(tree)]

    def __missing__(self, name: str) -> Worker[Any, Any]:
        found = self._made(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and bool(self._made(name)))

    def without(self, names: frozenset[str]) -> Specs:
        """Return all but some."""
        return Specs(self._trees, dict(self), names) if names else self

    def get(self, name: str, default: Any = None) -> Any:
        """Return the worker of a name, or the default."""
        return super().get(name) or self._made(name) or default

    def is_member(self, name: str) -> bool:
        """Whether a family has the name: then a message to it starts its server."""
        return name not in self.hidden and any(
            isinstance(node.children[0], Worker)
            and node.children[0].journal
            and has_name(node, name)
            for node in self._families
        )

    def _made(self, name: str) -> Worker[Any, Any] | None:
        if name in self.hidden:
            return None
        for node in self._families:
            template = node.children[0]
            assert isinstance(template, Worker)
            if template.journal and has_name(node, name):
                return self.setdefault(name, template.made(name, template.args))
        return None
