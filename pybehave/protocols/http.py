"""Http: servers that answer HTTP/1.1, for curl, browsers, proxies and every client library.

Theory. A request is a call: its path names the server, its body is the input, the output is the
body of the answer. What is more than that is the user's: a `route` looks at the whole request and
says which server gets what.

    Listener("tcp://127.0.0.1:8080", Http(), to="kv1")      curl -d 'Store "x" 1' :8080/kv2

An answer leaves when the command is durable, as over every protocol. Requests may be pipelined;
answers keep their order. There is no TLS and no authentication: what is reachable from outside
stands behind a proxy that has both.

Does not know: bytes of requests (http_reader.py) and of answers (http_answers.py), sockets.
Source: RFC 9110, sections 9.3.7 (OPTIONS) and 15.5.6 (Allow).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final
from urllib.parse import parse_qsl, unquote

import msgspec

from pybehave.errors import DecodeError, EncodeError, NoProc, Overloaded, SpecError, show
from pybehave.protocols.framing import require, require_size
from pybehave.protocols.http_answers import LAST, HttpExchange, refusal
from pybehave.protocols.http_bodies import BODIES, HttpBody
from pybehave.protocols.http_messages import HttpReply, HttpRequest, Refused
from pybehave.protocols.protocol import Protocol, Reader

if TYPE_CHECKING:
    from pybehave.protocols.http_reader import Head

logger = logging.getLogger("pybehave.http")

Route: TypeAlias = Callable[[HttpRequest], tuple[str, Any] | HttpReply | None]

ANSWERS: Final = "(server, input), an HttpReply or None"
"""What a route may return."""

OF_REQUESTS: Final = (LookupError, ValueError, msgspec.MsgspecError)
"""What a route raises of a request that it can do nothing with, as `request.query["key"]` does."""

FAILED: Final = "the route of this listener has failed; the server's log says how"

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""What a route may be asked for; HEAD comes with GET, and OPTIONS is answered here."""

TIMEOUT_S: Final = 30.0
"""Less than the minute after which most proxies give up: the client hears of it from us."""

OWN_SERVERS: Final = "/pybehave."
"""Paths of servers that are the node's own (observer/admin.py, scrape.py): no client names one."""

HEAD_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 1 << 20


@final
@dataclass(frozen=True, slots=True)
class Http(Protocol):
    """A server that speaks HTTP/1.1 and 1.0.

    Without a route, a POST to `/name` is an input for the server of that name (a family's, too),
    and one to `/` for the listener's own. A server may answer with an HttpReply.

    Attributes:
        route: Returns (server, input) for a request; an HttpReply answers it at once; None is 404.
            A LookupError or ValueError is 400; all else is a mistake of the route: 500, and the
            log has it.
        body: How bodies are values: "text", "json", "bytes", or an HttpBody.
        methods: What is allowed; POST, or with a route GET, POST, PUT, PATCH and DELETE.
        servers: The names that may be asked, beside the listener's own; None is all of them.
        timeout: Seconds that a server has for its reply, else 504; None for ever.
        head_bytes_max: The longest head of a request.
        body_bytes_max: The longest body of a request.

    Raises:
        SpecError: A field is wrong, or the package httptools is missing.
    """

    _: KW_ONLY
    route: Route | None = None
    body: str | HttpBody = "text"
    methods: Collection[str] | None = None
    servers: Collection[str] | None = None
    timeout: float | None = TIMEOUT_S
    head_bytes_max: int = HEAD_BYTES_MAX
    body_bytes_max: int = BODY_BYTES_MAX

    def __post_init__(self) -> None:
        if find_spec("httptools") is None:
            raise SpecError("Http", "needs the package httptools: pip install 'httptools>=0.7'")
        is_route = self.route is None or callable(self.route)
        require(is_route, self, "route", self.route, "a function of an HttpRequest")
        is_body = self.body in BODIES if isinstance(self.body, str) else _is_body(self.body)
        require(is_body, self, "body", self.body, '"text", "json", "bytes" or an HttpBody')
        for field in ("methods", "servers"):
            value = getattr(self, field)
            is_names = value is None or (not isinstance(value, str) and _are_words(value))
            require(is_names, self, field, value, "a collection of names, or None")
        is_known = set(self.methods or ()) <= set(METHODS)
        require(is_known, self, "methods", self.methods, ", ".join(METHODS))
        is_seconds = self.timeout is None or (
            isinstance(self.timeout, int | float) and not isinstance(self.timeout, bool)
        )
        is_seconds = is_seconds and (self.timeout is None or 0 < self.timeout < float("inf"))
        require(is_seconds, self, "timeout", self.timeout, "seconds > 0 or None")
        require_size(self, "head_bytes_max", self.head_bytes_max)
        require_size(self, "body_bytes_max", self.body_bytes_max)

    def config(self) -> dict[str, Any]:
        """Return the keyword arguments of `Codec` for this protocol."""
        return {
            "framing": "reader",
            # The reader's own limits are met before: (H2) of http_reader.py.
            "frame_bytes_max": 2 * self.head_bytes_max + 3 * self.body_bytes_max + 65536,
            "hooks": _Hooks(self),
        }


@final
class _Hooks(Protocol):
    """What the codec calls: one object a listener."""

    def __init__(self, http: Http) -> None:
        self._route = http.route
        self._body: HttpBody = BODIES[http.body]() if isinstance(http.body, str) else http.body
        methods = http.methods or (METHODS if http.route is not None else ("POST",))
        self._methods = frozenset(methods)
        heads = ("HEAD",) if "GET" in methods else ()
        self._allow = {"Allow": ", ".join((*methods, *heads, "OPTIONS"))}
        self._servers = None if http.servers is None else frozenset(http.servers)
        self._timeout = http.timeout
        self._limits = http.head_bytes_max, http.body_bytes_max

    def reader(self) -> Reader:
        """Make a reader of requests."""
        from pybehave.protocols.http_reader import RequestReader

        return RequestReader(*self._limits, self._begun, self._made, self._refused)

    def encode(self, output: Any) -> Any:
        """Refuse: what nobody has asked for has no form."""
        raise EncodeError(output, "over HTTP a client is sent nothing but answers")

    def encode_error(self, error: Exception) -> Any:
        """Return the answer to a failure of no request: the connection is closed behind it."""
        if isinstance(error, Overloaded):  # connections_max
            error = Refused(503, f"there are {error.capacity} connections; try again later")
        return refusal(error, self._body, LAST)

    # --- requests --------------------------------------------------------------------------------

    def _begun(self, head: Head) -> None:
        """Refuse before its body what would be refused after it."""
        if self._is_refused(head):
            raise self._not_allowed(head)

    def _is_refused(self, head: Head) -> bool:
        method = "GET" if head.method == "HEAD" else head.method
        return method not in self._methods and method != "OPTIONS"

    def _refused(self, error: Exception) -> HttpExchange:
        return HttpExchange(self._body, failure=error, is_last=True)

    def _made(self, head: Head, body: bytes) -> HttpExchange:
        if head.method == "OPTIONS":
            return self._exchange(head, answer=HttpReply(204, headers=self._allow))
        if self._is_refused(head):
            return self._exchange(head, failure=self._not_allowed(head))
        try:
            wanted = self._wanted(head, body)
        except (DecodeError, NoProc) as error:
            return self._exchange(head, failure=error)
        except Exception as error:  # noqa: BLE001 -- as of every decode: undecodable
            failure = DecodeError(f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            return self._exchange(head, failure=failure)
        if isinstance(wanted, HttpReply):
            return self._exchange(head, answer=wanted)
        name, message = wanted
        if name is not None and self._servers is not None and name not in self._servers:
            return self._exchange(head, failure=NoProc(name))
        return self._exchange(head, to=name, input=message, timeout=self._timeout)

    def _exchange(self, head: Head, **options: Any) -> HttpExchange:
        return HttpExchange(
            self._body,
            is_head=head.method == "HEAD",
            is_old=head.is_old,
            is_last=head.is_last,
            **options,
        )

    def _not_allowed(self, head: Head) -> Refused:
        allowed = self._allow["Allow"]
        return Refused(405, f"{head.method} is not allowed here; use {allowed}", self._allow)

    def _wanted(self, head: Head, body: bytes) -> tuple[str | None, Any] | HttpReply:
        """Find who gets what.

        Raises:
            DecodeError: The target or the body is undecodable, or nothing is there.
        """
        from pybehave.protocols.http_reader import all_headers, header

        path, query = _parsed(head.target)
        is_bare = not body and self._route is not None
        value = None if is_bare else self._body.decode(body, header(head, b"content-type"))
        if self._route is None:
            if path.startswith(OWN_SERVERS):
                raise NoProc(path[1:])
            return path[1:] or None, value
        method = "GET" if head.method == "HEAD" else head.method
        request = HttpRequest(method, path, query, all_headers(head), value)
        wanted = self._routed(self._route, request)
        if wanted is None:
            raise Refused(404, f"there is nothing at {path}")
        return wanted

    def _routed(self, route: Route, request: HttpRequest) -> tuple[str, Any] | HttpReply | None:
        """Ask the route; a mistake of its own is no fault of the client's.

        Raises:
            Refused: The route has failed; the log says how.
        """
        asked = f"{request.method} {request.path}"
        try:
            wanted = route(request)
        except (DecodeError, NoProc, *OF_REQUESTS):
            raise
        except (Exception, SystemExit, GeneratorExit) as error:  # as in a step: no node's end
            logger.exception("the route has failed on %s", show(asked))
            raise Refused(500, FAILED) from error
        if wanted is None or isinstance(wanted, HttpReply):
            return wanted
        if type(wanted) is tuple and len(wanted) == 2 and isinstance(wanted[0], str):
            return wanted
        logger.error(
            "the route returned %s for %s; it returns %s", show(wanted), show(asked), ANSWERS
        )
        raise Refused(500, FAILED)


def _parsed(target: bytes) -> tuple[str, dict[str, str]]:
    """Return path and query of a target, decoded; of its absolute form, too."""
    if not target.startswith(b"/"):
        import httptools

        try:
            url = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError as error:
            raise DecodeError(f"the target is no URL: {error}") from error
        target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
    if not target.startswith(b"/"):  # "*" is for OPTIONS alone
        raise DecodeError("the target has no path")
    path, _, query = target.partition(b"?")
    try:
        name = unquote(path.decode("ascii"), errors="strict") if b"%" in path else path.decode()
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:  # UnicodeDecodeError is one
        raise DecodeError("the target is not UTF-8 in percent encoding") from error
    return name, dict(pairs)


def _is_body(value: object) -> bool:
    is_made = not isinstance(value, type)
    has_words = all(callable(getattr(value, name, None)) for name in ("decode", "encode"))
    return is_made and has_words and isinstance(getattr(value, "content_type", None), str)


def _are_words(value: object) -> bool:
    return isinstance(value, Collection) and all(isinstance(each, str) and each for each in value)
