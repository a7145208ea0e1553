"""The admin socket: a Unix socket on which a node answers its operators.

    Admin(node, "/run/kv.sock").open()            `pybehave run --admin PATH` does this

It is served by the node's own loop, as a server beside the tree: a connection costs what any other
does, and nothing runs while nobody asks. A request is carried out between two inputs, never within
one, and what may block (reading dead letters) goes to a thread.

Who may: the file has mode 0600 from the moment it is there, and the user at the other end, whom the
kernel names, must be the node's own or root. Whoever names the server through another listener
(`Http()` lets a client choose) is refused.

Invariants
  (A1) Every request has one answer: a value, or one sentence. Nothing a client sends ends more than
       its own connection.
  (A2) A trace ends with its connection; a client that does not read loses events, then itself.
  (A3) The requests of one connection are carried out one after the other.

Does not know: the frames (wire.py), what is shown (view.py), terminals (cli/attach.py).
"""

from __future__ import annotations

import logging
import os
import stat
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from pybehave._uring.servers import INPUT_CALL
from pybehave.actions import NO_REPLY, Close, Closed, Opened, Reply, Send
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.errors import (
    CodecRefused,
    JournalRefused,
    ListenFailed,
    NoProc,
    PybehaveError,
    RequestRefused,
    Timeout,
    show,
)
from pybehave.journal import dead_letters
from pybehave.journal.codec import Coder
from pybehave.listener import Listener
from pybehave.observer import activity, admin_kept, admin_releases, figures, view
from pybehave.observer.wire import AdminProtocol, Message, failure, readable, success
from pybehave.runtime import listeners
from pybehave.runtime.node import CALL_TIMEOUT_S
from pybehave.runtime.servers import make_server
from pybehave.runtime.waiters import check_timeout

if TYPE_CHECKING:
    from pybehave._uring.handles import Caller, Connection
    from pybehave.runtime.debug import Event
    from pybehave.runtime.node import Node

NAME: Final = "pybehave.admin"
"""The server that answers. No worker can have this name while the socket is open."""

SOCKET: Final = "admin.sock"
"""The socket's name in the folder of a journal."""

MODE: Final = 0o600

CONNECTIONS_MAX: Final = 16
"""Operators and their scripts; more is a mistake."""

EVENTS_MAX: Final = 1000
"""Of a trace, that wait to be sent: what comes beyond in one round of the loop is counted only."""

ROOT: Final = 0

ELSEWHERE: Final = "The node answers its operators at the admin socket only"

LETTERS_MAX: Final = 1000

CALL_S_MAX: Final = 3600.0

logger = logging.getLogger("pybehave")

Answer = Callable[[Message], None]


@final
class Admin:
    """The admin socket of one node.

    Args:
        node: Which.
        path: Where the socket is to be; an absolute path of at most 107 bytes.
        takes_over: Whoever listens there has ended, as the lock of the journal in whose folder it
            is proves; after a kill the kernel keeps its socket for a moment.

    Raises:
        SpecError: The path cannot be one.
    """

    def __init__(self, node: Node, path: str, *, takes_over: bool = False) -> None:
        self.node = node
        self._takes_over = takes_over
        self.path = os.path.abspath(path)
        self._listener = Listener(
            f"unix://{self.path}",
            AdminProtocol(),
            to=NAME,
            name=NAME,
            events=True,
            connections_max=CONNECTIONS_MAX,
        )

    def open(self) -> None:
        """Answer from now on, until the node stops.

        Raises:
            ListenFailed: The socket cannot be had.
        """
        self.node.run_on_loop(self._open)

    def _open(self) -> None:
        worker = Worker(NAME, partial(_Desk, self.node))
        instance: Any = worker.server()
        dispatcher = self.node.loop.dispatcher
        server = make_server(dispatcher, worker, instance)
        server.owner = worker
        instance.inform = partial(dispatcher.inform, server)
        dispatcher.begin(server, instance.init(None), ())
        left = listeners.socket_file(self._listener) if self._takes_over else None
        if left is not None and stat.S_ISSOCK(os.lstat(self.path).st_mode):
            listeners.remove_socket(left)
        try:
            self.node.add_listener(self._listener, mode=MODE)
        except ListenFailed:
            dispatcher.retire(server, NoProc(NAME))
            raise


@final
class _Waiter:
    """Waits for the reply to a call, on the loop; its time may run out before.

    Also when the server has replied already: while the reply waits for the disk nobody takes it
    back, so that it comes later, to nobody.
    """

    def __init__(self, node: Node, name: str, seconds: float, answer: Callable[..., None]) -> None:
        self.caller: object = None
        self._is_late = False
        self._answer = answer
        self._node = node
        self._late = (name, seconds)
        self._alarm = node.loop.dispatcher.start_alarm(seconds, self._too_late)

    def settle(self, value: Any, error: BaseException | None) -> None:
        """The reply has come."""
        if self._is_late:
            return
        self._node.loop.dispatcher.cancel_alarm(self._alarm)
        self._answer(value, error)

    def _too_late(self) -> None:
        self._is_late = True
        self._node.loop.dispatcher.abandon(self)
        self._answer(None, Timeout(*self._late))


class _Trace:
    """Sends the events of one server to one connection (A2).

    Args:
        server: Its name.
        send: Sends some events, how many are missing, and whether no more come.
    """

    def __init__(
        self, server: str, send: Callable[[list[str], int, bool], None], node: Node
    ) -> None:
        self.server = server
        self._send = send
        self._node = node
        self._events: list[str] = []
        self._missed = 0
        self._is_ended = False

    def __call__(self, state: Any, event: Event) -> Any:
        self._is_ended = event.what == "ended"
        if len(self._events) >= EVENTS_MAX:
            self._missed += 1
            return state
        if not self._events:
            self._node.host.defer(self._flush)
        self._events.append(readable(str(event)))
        return state

    def _flush(self) -> None:
        events, self._events = self._events, []
        missed, self._missed = self._missed, 0
        self._send(events, missed, self._is_ended)

    def end(self) -> None:
        """Watch no more."""
        try:
            self._node.sys.remove(self.server, self)
        except NoProc:  # the server has ended, and the trace with it
            return


class _Desk(GenServer[Any, Any, Any]):
    """The server: takes requests, has them carried out between two inputs, passes answers on."""

    inform: Callable[[Any], None]

    def __init__(self, node: Node) -> None:
        self.node = node
        self.welcome: set[str] = set()
        self.waiting: dict[str, deque[tuple[Message, Caller]]] = {}
        self.traces: dict[str, list[_Trace]] = {}

    def handle_call(self, request: Message, caller: Any, state: Any) -> Any:
        connection = caller.connection
        if connection is None or connection.id not in self.welcome:
            return state, failure(None, RequestRefused(ELSEWHERE))
        waiting = self.waiting.setdefault(connection.id, deque())
        waiting.append((request, caller))
        if len(waiting) == 1:
            self.node.host.defer(partial(self._carry_out, waiting))
        return state, NO_REPLY

    def handle_info(self, message: Any, state: Any) -> Any:
        if isinstance(message, Opened):
            return state, None, self._welcome(message.connection)
        if isinstance(message, Closed):
            self.welcome.discard(message.connection.id)
            self.waiting.pop(message.connection.id, None)
            for trace in self.traces.pop(message.connection.id, []):
                self.node.host.defer(trace.end)
            return state, None
        if isinstance(message, Reply | Send):  # what was carried out between two inputs
            return state, None, message
        return state, None

    def _welcome(self, connection: Connection) -> Any:
        """Nobody but the node's own user and root; in a simulation there is nobody else."""
        uid = self.node.loop.peer_uid(connection)
        if uid in (os.geteuid(), ROOT) or self.node.loop.source == "sim":
            self.welcome.add(connection.id)
            return None
        logger.warning("user %d was refused at the admin socket", uid)
        error = RequestRefused(
            f"This node answers user {os.geteuid()} and root only, not user {uid}"
        )
        return [Send(connection, failure(None, error)), Close(connection)]

    def _carry_out(self, waiting: deque[tuple[Message, Caller]]) -> None:
        """A connection's first request, between two inputs (A1), (A3)."""
        request, caller = waiting[0]
        found = request.get("id")
        request_id = found if isinstance(found, int | str) else None

        def answer(value: Any, error: BaseException | None = None) -> None:
            said = success(request_id, value) if error is None else failure(request_id, error)
            self.inform(Reply(caller, said))
            waiting.popleft()
            if waiting:
                self.node.host.defer(partial(self._carry_out, waiting))

        try:
            _do(self, request, caller, answer)
        except Exception as error:
            if not isinstance(error, PybehaveError | TypeError | ValueError):
                logger.exception("the request %s failed", show(request))
            answer(None, error)


def _do(desk: _Desk, request: Message, caller: Caller, answer: Callable[..., None]) -> None:
    verb = request.get("do")
    known = VERBS.get(verb) if isinstance(verb, str) else None
    if known is None:
        raise RequestRefused(f"There is no request {show(verb)}; there are {', '.join(VERBS)}")
    function, needs_server = known
    server = request.get("server")
    if needs_server and not isinstance(server, str):
        raise RequestRefused(f"The request {verb!r} wants a server's name, not {show(server)}")
    if needs_server and server == NAME:
        raise RequestRefused(f"{NAME!r} is the server that answers this; look at others")
    function(desk, request, caller, answer)


# --- the requests ---------------------------------------------------------------------------------


def _hello(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    answer(view.greeting(desk.node))


def _list(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    match = request.get("match", "")
    if not isinstance(match, str):
        raise RequestRefused(f"match={show(match)} is no text; use a part of the names")
    answer(view.servers(desk.node, match))


def _tree(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    answer(view.tree(desk.node))


def _inspect(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    answer(view.server(desk.node, request["server"]))


def _stats(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    answer(view.statistics(desk.node))


def _health(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    desk.node.watch.ask_later(lambda health: answer(health.as_dict()))


def _metrics(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    desk.node.watch.ask_later(lambda health: answer(figures.families(desk.node, health)))


def _activity(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    answer(activity.activity(desk.node, desk.node.watch.look()))


def _crashes(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    server = request.get("server")
    if server is not None and not isinstance(server, str):
        raise RequestRefused(f"server={show(server)} is no name; leave it out for all of them")
    found = view.crashes(desk.node, server)
    is_running = server is None or desk.node.loop.dispatcher.whereis(server) is not None
    if server is not None and not is_running and not found["rows"]:
        raise NoProc(server)
    answer(found)


def _suspend(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    desk.node.sys.suspend(request["server"])
    answer(None)


def _resume(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    desk.node.sys.resume(request["server"])
    answer(None)


def _call(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    seconds = request.get("timeout", CALL_TIMEOUT_S)
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise RequestRefused(f"timeout={show(seconds)} is no time; use seconds")
    check_timeout(seconds)
    seconds = min(seconds, CALL_S_MAX)
    name = request["server"]
    waiter = _Waiter(desk.node, name, seconds, answer)
    desk.node.loop.dispatcher.post(name, INPUT_CALL, request.get("request"), waiter)


def _restart(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    """Stop a child and start it again in its place; its siblings stay, nothing is charged.

    A worker is named as servers are; a path names any child, also a supervisor, or one that is
    stopped or waits for its back-off.
    """
    node, name = desk.node, request["server"]
    found = node.loop.dispatcher.whereis(name)
    child = None if found is None else node.applications.child_of(found)
    if child is not None:
        path, child_id = child.owner.path, child.id
    elif found is None and "/" in name:
        path, _, child_id = name.rpartition("/")
    else:
        raise NoProc(name)

    def restarted(done: Any) -> None:
        ref = None if done.error is not None else done.result()
        answer(getattr(ref, "incarnation", None), done.error)

    tree = node.applications.tree_with(path) if child is None else child.owner.tree
    tree.restart(path, child_id).then(restarted)


def _trace(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    connection = caller.connection
    request_id = request.get("id")
    assert connection is not None

    def send(events: list[str], missed: int, is_ended: bool) -> None:
        message = {"id": request_id, "events": events, "missed": missed, "is_ended": is_ended}
        desk.inform(Send(connection, message))

    trace = _Trace(request["server"], send, desk.node)
    desk.node.sys.install(trace.server, trace)
    desk.traces.setdefault(connection.id, []).append(trace)
    answer(None)


def _dead_letters(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    journal = desk.node.journal
    if journal is None:
        raise RequestRefused("This node keeps no journal, so it has no dead letters")
    path = journal.disk.path

    def work() -> Any:
        numbers = dead_letters.numbers(path)
        rows = [_letter(path, lsn, journal.coder) for lsn in numbers[-LETTERS_MAX:]]
        return {"rows": [row for row in rows if row], "is_cut": len(numbers) > LETTERS_MAX}

    journal.off_loop(work, answer)


def _letter(path: str, lsn: int, coder: Coder) -> dict[str, Any] | None:
    try:
        letter = dead_letters.get(path, lsn, coder)
    except (JournalRefused, CodecRefused):  # just deleted; or of a key that was given up
        return None
    return {"lsn": lsn, "at": letter.at, "server": letter.server, "error": letter.error}


def _release_status(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    admin_releases.status(desk.node, answer)


def _release_upgrade(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    admin_releases.upgrade(desk.node, request, answer)


def _release_rollback(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    admin_releases.rollback(desk.node, answer)


def _release_replace(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    admin_releases.replace(desk.node, request, answer)


def _kept(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    admin_kept.kept(desk.node, request, answer)


def _forget(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    admin_kept.forget(desk.node, request, answer)


def _reset(desk: _Desk, request: Message, caller: Caller, answer: Any) -> None:
    admin_kept.reset(desk.node, request, answer)


_Function = Callable[[_Desk, Message, Any, Any], None]

VERBS: Final[dict[str, tuple[_Function, bool]]] = {
    "hello": (_hello, False),
    "list": (_list, False),
    "tree": (_tree, False),
    "inspect": (_inspect, True),
    "crashes": (_crashes, False),
    "call": (_call, True),
    "trace": (_trace, True),
    "suspend": (_suspend, True),
    "resume": (_resume, True),
    "restart": (_restart, True),
    "dead_letters": (_dead_letters, False),
    "kept": (_kept, False),
    "forget": (_forget, True),
    "reset": (_reset, True),
    "stats": (_stats, False),
    "health": (_health, False),
    "metrics": (_metrics, False),
    "activity": (_activity, False),
    "release_status": (_release_status, False),
    "release_upgrade": (_release_upgrade, False),
    "release_rollback": (_release_rollback, False),
    "release_replace": (_release_replace, False),
}
"""Every request: what carries it out, and whether it is about a server."""
