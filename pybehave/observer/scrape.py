"""What Prometheus, a probe or a load balancer asks a node for over HTTP.

    Scrape(node, "tcp://127.0.0.1:9100").open()       `pybehave run --metrics 127.0.0.1:9100`

| path       | answer                                                                   |
|------------|--------------------------------------------------------------------------|
| `/metrics` | the figures in Prometheus's text format                                  |
| `/health`  | the health as JSON; 503 when it is failing                               |
| `/ready`   | 200, or 503 with the reasons when the node should get no requests        |
| `/live`    | 200, or 503 with the reasons when only another process helps             |

The node's own loop serves it, as a server beside the tree, like the admin socket: nothing runs
while nobody asks. As little of HTTP is understood as those clients speak: GET and HEAD without a
body, one after the other on a connection if they like.

Whoever reaches the port reads names of servers and numbers, and can change nothing: choose an
address that only they reach.

Source: RFC 9112, message syntax; Kubernetes' probes for the paths.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from pybehave.actions import NO_REPLY, Close, Reply
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.errors import DecodeError, ListenFailed, NoProc
from pybehave.listener import ANY_HOST, Listener, TcpAddress
from pybehave.observer.figures import families
from pybehave.observer.metrics import CONTENT_TYPE, text
from pybehave.protocols import Protocol
from pybehave.runtime import addresses
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

REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

PLAIN: Final = "text/plain; charset=utf-8"

logger = logging.getLogger("pybehave")


class Request(NamedTuple):
    """What is asked for.

    Attributes:
        method: "GET", "HEAD", or what we do not do.
        path: Without what stands behind "?".
        is_last: The client wants the connection to end with the answer.
    """

    method: str
    path: str
    is_last: bool


class Page(NamedTuple):
    """What is answered.

    Attributes:
        status: 200, 503, ...
        kind: The content type.
        body: The content.
    """

    status: int
    kind: str
    body: bytes


@final
class ScrapeProtocol(Protocol):
    """Requests without bodies, and pages."""

    frame_bytes_max = HEAD_BYTES_MAX

    def split(self, buffer: bytes) -> int:
        end = buffer.find(b"\r\n\r\n")
        return 0 if end < 0 else end + 4

    def decode(self, message: bytes) -> Request:
        """Return a request.

        Raises:
            DecodeError: It is none of HTTP/1.
        """
        lines = message.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
            raise DecodeError("a request line of HTTP/1.1 was expected, as GET /metrics HTTP/1.1")
        said = {line.lower().replace(" ", "") for line in lines[1:]}
        is_last = "connection:close" in said or words[2] == "HTTP/1.0"
        return Request(words[0], words[1].partition("?")[0], is_last or words[0] not in _READS)

    def encode(self, output: bytes) -> bytes:
        return output

    def encode_error(self, error: Exception) -> bytes:
        return written(Page(400, PLAIN, f"{error}\n".encode()), "GET", is_last=True)


_READS: Final = ("GET", "HEAD")


def written(page: Page, method: str, *, is_last: bool) -> bytes:
    """Return a page as it is sent."""
    head = (
        f"HTTP/1.1 {page.status} {REASONS[page.status]}\r\n"
        f"Content-Type: {page.kind}\r\n"
        f"Content-Length: {len(page.body)}\r\n"
        f"Cache-Control: no-store\r\n"
        f"{'Connection: close' if is_last else 'Connection: keep-alive'}\r\n"
        f"{'Allow: GET, HEAD' if page.status == 405 else 'Server: pybehave'}\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else page.body)


# --- pages ----------------------------------------------------------------------------------------


def _metrics(node: Node, health: Health) -> Page:
    return Page(200, CONTENT_TYPE, text(families(node, health)))


def _health(node: Node, health: Health) -> Page:
    status = 503 if health.status == "failing" else 200
    return Page(status, "application/json", json.dumps(health.as_dict()).encode() + b"\n")


def _ready(node: Node, health: Health) -> Page:
    return _probe(health, is_so=health.is_ready)


def _live(node: Node, health: Health) -> Page:
    return _probe(health, is_so=health.is_live)


def _probe(health: Health, *, is_so: bool) -> Page:
    body = "".join(f"{line}\n" for line in (health.status, *map(str, health.reasons)))
    return Page(200 if is_so else 503, PLAIN, body.encode())


PAGES: Final[dict[str, Callable[[Node, Health], Page]]] = {
    "/metrics": _metrics,
    "/health": _health,
    "/ready": _ready,
    "/live": _live,
}


def page_of(node: Node, request: Request, health: Health) -> Page:
    """Return what a request is answered with; never an exception."""
    if request.method not in _READS:
        return Page(405, PLAIN, b"only GET and HEAD are answered here\n")
    made = PAGES.get(request.path)
    if made is None:
        return Page(404, PLAIN, f"there are {', '.join(PAGES)}\n".encode())
    try:
        return made(node, health)
    except Exception:
        logger.exception("the page %s failed", request.path)
        return Page(500, PLAIN, b"the node's log says what went wrong\n")


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
            ScrapeProtocol(),
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
        if self._is_free():
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
            self.port = self.node.add_listener(self._listener)
        except ListenFailed:
            dispatcher.retire(server, NoProc(NAME))
            raise


class _Reader(GenServer[Any, Any, Any]):
    """The server: has each request carried out between two inputs, and passes its answer on."""

    inform: Callable[[Any], None]

    def __init__(self, node: Node) -> None:
        self.node = node

    def handle_call(self, request: Request, caller: Any, state: Any) -> Any:
        self.node.host.defer(partial(self._read, request, caller))
        return state, NO_REPLY

    def handle_info(self, message: Any, state: Any) -> Any:
        return state, None, message  # what was answered between two inputs

    def _read(self, request: Request, caller: Caller) -> None:
        def answer(health: Health) -> None:
            page = page_of(self.node, request, health)
            sent = written(page, request.method, is_last=request.is_last)
            actions: list[Any] = [Reply(caller, sent)]
            if request.is_last and caller.connection is not None:
                actions.append(Close(caller.connection))
            self.inform(actions)

        self.node.watch.ask_later(answer)
