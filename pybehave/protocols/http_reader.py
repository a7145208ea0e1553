"""Requests of HTTP/1.1 and 1.0, found by httptools and made into exchanges.

Theory. What a request is, where its head ends and what its chunks hold is said by llhttp, through
httptools, in its strict mode; there is no second opinion here. llhttp has no way to stop between
two messages, so it is handed one at a time: the head ends behind an empty line and so does a
chunked body, and a body of a known length is counted (protocol.py, Reader). What cannot be
understood, or may be understood in two ways, is refused and the connection closed, for that is how
requests are smuggled past a proxy.

Invariants
  (H1) After a refusal nothing of the stream is looked at any more.
  (H2) Head and body are bounded while they arrive: the head by `head_bytes_max` and HEADERS_MAX,
       the body by `body_bytes_max`, a chunked one also with its chunks' heads by twice that.
  (H3) A parser that has seen a chunked body, an upgrade or a last request is not used again: it
       may remember (httptools keeps the last trailer for the next request's headers).

Does not know: routes, servers, answers.
Source: RFC 9112, sections 3.2 (Host), 6.1 and 6.3 (smuggling), 7.1; RFC 9110, section 10.1.1
(Expect), 7.8 (Upgrade, which may be ignored).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, final

import httptools

from pybehave._uring.exchange import Exchange
from pybehave.protocols.http_messages import Refused
from pybehave.protocols.protocol import Reader

HEADERS_MAX: Final = 100
"""Headers of a request; a browser sends twenty."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Head(NamedTuple):
    """What the head of a request says.

    Attributes:
        method: As it was sent.
        target: What stands behind it, mostly path and query.
        headers: Names and values, as they were sent.
        is_old: HTTP/1.0.
        is_last: No request follows on the connection.
        has_expectation: The client waits for a word before it sends the body.
    """

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    is_old: bool
    is_last: bool
    has_expectation: bool


@final
class _Found:
    """What httptools has found of a request; its callbacks.

    It knows the parser only while that is at work, so that there is no cycle to collect when a
    client goes in the middle of a request.
    """

    __slots__ = (
        "body", "body_bytes", "headers", "is_complete", "is_doubled", "is_headed", "is_last",
        "parser", "url",
    )  # fmt: skip

    def __init__(self) -> None:
        self.parser: httptools.HttpRequestParser | None = None
        self.reset()

    def reset(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.is_headed = self.is_complete = self.is_doubled = self.is_last = False

    def on_message_begin(self) -> None:
        self.is_doubled = self.is_complete

    def on_url(self, piece: bytes) -> None:
        self.url += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_headed:  # trailers are dropped: nothing here waits for them
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        self.is_headed = True
        self.is_last = not self.parser.should_keep_alive()  # not known any more behind the request

    def on_body(self, piece: bytes) -> None:
        self.body.append(piece)
        self.body_bytes += len(piece)

    def on_message_complete(self) -> None:
        self.is_complete = True


@final
class RequestReader(Reader):
    """Reads requests.

    Args:
        head_bytes_max: The longest head.
        body_bytes_max: The longest body.
        begun: Called with a head whose client waits for a word; may raise Refused.
        made: Makes an exchange of a head and a body.
        refused: Makes one of a refusal.
    """

    end = b"\r\n\r\n"

    _parser: httptools.HttpRequestParser
    _found: _Found
    _head: Head | None
    _is_continued: bool

    def __init__(
        self,
        head_bytes_max: int,
        body_bytes_max: int,
        begun: Callable[[Head], None],
        made: Callable[[Head, bytes], Exchange],
        refused: Callable[[Refused], Exchange],
    ) -> None:
        self._head_bytes_max = head_bytes_max
        self._body_bytes_max = body_bytes_max
        self._begun = begun
        self._made = made
        self._refused = refused
        self._renew()

    def feed(self, piece: bytes) -> Exchange | None:
        """Take the next bytes of a request."""
        found = self._found
        try:
            self._take(piece)
            if found.is_headed and self._head is None:
                self._head = self._judged()
                if self._head.has_expectation:
                    self._begun(self._head)
        except Refused as refusal:
            self._renew()
            return self._refused(refusal)
        if not found.is_complete:
            self.need = max(0, self._length - found.body_bytes)
            return None
        assert self._head is not None
        head, body = self._head, b"".join(found.body)
        if self._is_spent:
            self._renew()  # (H3)
        else:
            self._reset()
        return self._made(head, body)

    def interim(self) -> bytes | None:
        """Return the word that a client waits for before it sends the body."""
        if self._head is None or not self._head.has_expectation or self._is_continued:
            return None
        self._is_continued = True
        return CONTINUE if self._found.body_bytes == 0 else None

    def _take(self, piece: bytes) -> None:
        room = self._head_bytes_max - self._bytes
        if self._head is None and len(piece) > room:
            self._parse(piece[:room])  # a malformed one is malformed however it was cut
            raise Refused(431, f"the head is longer than {self._head_bytes_max} bytes")
        self._bytes += len(piece)
        self._parse(piece)
        if self._bytes > self._head_bytes_max + 2 * self._body_bytes_max:
            raise Refused(413, "the chunks are smaller than their heads")  # (H2)

    def _parse(self, piece: bytes) -> None:
        self._found.parser = self._parser
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._is_upgrade = True
        except httptools.HttpParserError as error:
            self._check_size()  # what comes first in the stream is what is said of it
            raise Refused(400, f"malformed request: {error}") from error
        finally:
            self._found.parser = None
        self._check_size()
        if self._found.is_doubled:
            raise Refused(400, "malformed request: it ends where none can end")

    def _check_size(self) -> None:
        if self._found.body_bytes > self._body_bytes_max:
            raise Refused(413, f"the body is longer than {self._body_bytes_max} bytes")

    def _renew(self) -> None:
        self._found = _Found()
        self._parser = httptools.HttpRequestParser(self._found)
        self._reset()

    def _reset(self) -> None:
        self._found.reset()
        self._head = None
        self.need = self._bytes = self._length = 0
        self._is_spent = self._is_upgrade = self._is_continued = False

    # --- the head --------------------------------------------------------------------------------

    def _judged(self) -> Head:
        parser = self._parser
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refused(505, f"HTTP/{version} is not spoken here; use HTTP/1.1")
        headers = self._found.headers
        if len(headers) > HEADERS_MAX:
            raise Refused(431, f"there are more than {HEADERS_MAX} headers")
        found: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            found.setdefault(name.lower(), []).append(value)
        is_old = version == "1.0"
        hosts = len(found.get(b"host", ()))
        if hosts > 1 or (hosts == 0 and not is_old):
            raise Refused(400, f"a request has one Host header, not {hosts}")
        self._judge_body(found, is_old)
        is_last = self._found.is_last
        self._is_spent = is_last or self._is_upgrade or b"transfer-encoding" in found
        return Head(
            parser.get_method().decode("ascii"),
            self._found.url,
            headers,
            is_old,
            is_last,
            not is_old and self._expects(found),
        )

    def _judge_body(self, found: dict[bytes, list[bytes]], is_old: bool) -> None:
        """Find how the body comes, and that it is bounded, one way to read it, and plain."""
        codings = found.get(b"transfer-encoding", [])
        if codings and is_old:
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding")
        if codings and [coding.lower() for coding in codings] != [b"chunked"]:
            raise Refused(501, "no Transfer-Encoding but chunked is understood")
        self._length = int(found.get(b"content-length", [b"0"])[0])  # llhttp let digits through
        if self._length > self._body_bytes_max:
            raise Refused(413, f"the body is longer than {self._body_bytes_max} bytes")
        if self._is_upgrade and (self._length or codings):
            raise Refused(400, "a request with a body cannot ask for an upgrade; nothing is had")
        if any(value.lower() != b"identity" for value in found.get(b"content-encoding", ())):
            raise Refused(415, "a body with a Content-Encoding is not understood; send it plain")

    def _expects(self, found: dict[bytes, list[bytes]]) -> bool:
        expected = [value.lower() for value in found.get(b"expect", ())]
        if expected and expected != [b"100-continue"]:
            raise Refused(417, "no expectation but 100-continue can be met")
        return bool(expected) and bool(self._length or b"transfer-encoding" in found)


def header(head: Head, name: bytes) -> str:
    """Return the values of a header, joined as RFC 9110, section 5.3, says; empty if there is none.

    Args:
        name: In lower case.
    """
    values = [value for each, value in head.headers if each.lower() == name]
    return b", ".join(values).decode("latin-1")


def all_headers(head: Head) -> dict[str, Any]:
    """Return all headers, names in lower case, values of a repeated name joined."""
    found: dict[str, str] = {}
    for name, value in head.headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
