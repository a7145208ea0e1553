"""What Prometheus, a probe or a load balancer asks a node for over HTTP.

    Scrape(node, "tcp://127.0.0.1:9100").open()       `pybehave run --metrics 127.0.0.1:9100`

| path       | answer                                                                   |
|------------|--------------------------------------------------------------------------|
| `/metrics` | the figures in Prometheus's text format                                  |
| `/health`  | the health as JSON; 503 when it is failing                               |
| `/ready`   | 200, or 503 with the reasons when the node should get no requests        |
| `/live`    | 200, or 503 with the reasons when only another process helps             |

The node's own loop serves it, as a server beside the tree, like the admin socket: nothing runs
while nobody asks.

Whoever reaches the port reads names of servers and numbers, and can change nothing: choose an
address that only they reach.

Does not know: HTTP (protocols/http.py), what the figures are (figures.py).
Source: Kubernetes' probes for the paths.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from pybehave.actions import NO_REPLY, Reply
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.errors import ListenFailed, NoProc
from pybehave.listener import ANY_HOST, Listener, TcpAddress
from pybehave.observer.figures import families
from pybehave.observer.metrics import CONTENT_TYPE, text
from pybehave.protocols import Http, HttpReply, HttpRequest
from pybehave.runtime import addresses, kept_sockets
from pybehave.runtime.servers import make_server

if TYPE_CHECKING:
    from pybehave._uring.handles import Caller
    from pybehave._uring.servers import Port
    from pybehave.runtime.health import Health
    from pybehave.runtime.node import Node

NAME: Final = "pybehave.metrics"
"""The server that answers. No worker can have this name while the port is open."""

HEAD_BYTES_MAX: Final = 8192
"""Of a request; those who scrape send a few hundred."""

CONNECTIONS_MAX: Final = 16

IDLE_S: Final = 120.0
"""Longer than the usual minute between two scrapes, so that a connection can be kept."""

AGAIN_S: Final = 1.0
"""A process that hands over is gone within a moment."""

PLAIN: Final = "text/plain; charset=utf-8"

logger = logging.getLogger("pybehave")


def reply(status: int, kind: str, body: bytes) -> HttpReply:
    """Return a page; nobody on the way is to keep it."""
    return HttpReply(status, body, {"Content-Type": kind, "Cache-Control": "no-store"})


# --- pages ----------------------------------------------------------------------------------------


def _metrics(node: Node, health: Health) -> HttpReply:
    return reply(200, CONTENT_TYPE, text(families(node, health)))


def _health(node: Node, health: Health) -> HttpReply:
    status = 503 if health.status == "failing" else 200
    return reply(status, "application/json", json.dumps(health.as_dict()).encode() + b"\n")


def _ready(node: Node, health: Health) -> HttpReply:
    return _probe(health, is_so=health.is_ready)


def _live(node: Node, health: Health) -> HttpReply:
    return _probe(health, is_so=health.is_live)


def _probe(health: Health, *, is_so: bool) -> HttpReply:
    body = "".join(f"{line}\n" for line in (health.status, *map(str, health.reasons)))
    return reply(200 if is_so else 503, PLAIN, body.encode())


PAGES: Final[dict[str, Callable[[Node, Health], HttpReply]]] = {
    "/metrics": _metrics,
    "/health": _health,
    "/ready": _ready,
    "/live": _live,
}


def page_of(node: Node, path: str, health: Health) -> HttpReply:
    """Return the page at a path; never an exception."""
    try:
        return PAGES[path](node, health)
    except Exception:
        logger.exception("the page %s failed", path)
        return reply(500, PLAIN, b"the node's log says what went wrong\n")


def route(request: HttpRequest) -> tuple[str, str] | HttpReply:
    """Say who answers a request: the server, if there is such a page."""
    if request.path in PAGES:
        return NAME, request.path
    return reply(404, PLAIN, f"there are {', '.join(PAGES)}\n".encode())


# --- the server -----------------------------------------------------------------------------------


@final
class Scrape:
    """The port of one node for those who read figures.

    Args:
        node: Which.
        url: Where to listen: "tcp://127.0.0.1:9100".

    Raises:
        SpecError: The address cannot be one.
    """

    def __init__(self, node: Node, url: str) -> None:
        self.node = node
        self._listener = Listener(
            url,
            Http(route=route, body="bytes", methods=("GET",), head_bytes_max=HEAD_BYTES_MAX),
            to=NAME,
            name=NAME,
            connections_max=CONNECTIONS_MAX,
            idle_timeout=IDLE_S,
        )
        self.port: Port | None = None

    @property
    def url(self) -> str:
        """Where it listens, with the port that the system chose."""
        assert self.port is not None
        return addresses.bound_url(self.port.url, self.port.fd)

    @property
    def is_given(self) -> bool:
        """Whether the socket is there already: a process before has left it."""
        return NAME in self.node.inherited

    def take_kept(self) -> None:
        """Have the socket of a process before, if somebody has kept it; before the node boots,
        which closes what nobody has taken.
        """
        fd = kept_sockets.take(self._listener)
        if fd >= 0:
            self.node.inherited[NAME] = fd

    def open(self) -> None:
        """Answer from now on, until the node stops.

        Raises:
            ListenFailed: The address cannot be had.
        """
        self.node.run_on_loop(self._open)

    def open_soon(self) -> None:
        """Answer as soon as the address can be had: the process before may not have let go of it.
        On the loop's thread.
        """
        if self.is_given or self._is_free():
            self._open()
            return
        logger.info("%s is in use yet; asked again in %g s", self._listener.url, AGAIN_S)
        self.node.loop.dispatcher.start_alarm(AGAIN_S, self._open_later)

    def _open_later(self) -> None:
        if self.node.watch.is_serving:
            self.open_soon()

    def _is_free(self) -> bool:
        """Whether the address can be had; the loop's own `listen` would wait for it, and with it
        all servers.
        """
        address = self._listener.address
        if not isinstance(address, TcpAddress):
            return True
        host = "" if address.host == ANY_HOST else address.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.create_server((host, address.port), family=family):
                return True
        except OSError:
            return False

    def _open(self) -> None:
        worker = Worker(NAME, partial(_Reader, self.node))
        instance: Any = worker.server()
        dispatcher = self.node.loop.dispatcher
        server = make_server(dispatcher, worker, instance)
        server.owner = worker
        instance.inform = partial(dispatcher.inform, server)
        dispatcher.begin(server, instance.init(None), ())
        try:
            self.port = self.node.add_listener(self._listener, is_kept=True)
        except ListenFailed:
            dispatcher.retire(server, NoProc(NAME))
            raise
        kept_sockets.put(self._listener, self.port.fd)


class _Reader(GenServer[Any, Any, Any]):
    """The server: has each request carried out between two inputs, and passes its answer on."""

    inform: Callable[[Any], None]

    def __init__(self, node: Node) -> None:
        self.node = node

    def handle_call(self, path: str, caller: Any, state: Any) -> Any:
        self.node.host.defer(partial(self._read, path, caller))
        return state, NO_REPLY

    def handle_info(self, message: Any, state: Any) -> Any:
        return state, None, message  # what was answered between two inputs

    def _read(self, path: str, caller: Caller) -> None:
        def answer(health: Health) -> None:
            self.inform(Reply(caller, page_of(self.node, path, health)))

        self.node.watch.ask_later(answer)
