"""Answers of HTTP: status lines, heads, and which failure is which status.

Theory. An answer is made when it is known, maybe long after its request; what it depends on is kept
in the request's HttpExchange. Every answer has a Content-Length (or cannot have a body), so that
the next answer on the connection is found.

    400 undecodable          415 another type of body   500 crashed, with a crash id
    404 no such server       417 another Expect         501 another transfer coding
    405 another method       422 rejected (validate),   503 stopped, or the journal is behind
    409 a Once, too old      429 the mailbox is full    504 no reply in time
    413 a body too large     431 a head too large       505 another version

Does not know: sockets, servers, how requests are found.
Source: RFC 9110, sections 6.6.1 (Date), 9.3.2 (HEAD), 15; RFC 9112, sections 6.3, 9.3, 9.6;
RFC 6585 (429, 431).
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, NamedTuple, final

import msgspec

from pybehave._uring.exchange import Exchange, failure_words
from pybehave.errors import (
    Crashed,
    DecodeError,
    DurabilityLost,
    FrameTooLong,
    InputTypeMismatch,
    JournalBusy,
    JournalFull,
    NoProc,
    NotJournalable,
    Overloaded,
    RecordTooLarge,
    Rejected,
    RequestKnown,
    Stopped,
    Suspended,
    Timeout,
)
from pybehave.protocols.http_bodies import HttpBody
from pybehave.protocols.http_messages import STATUS_WITHOUT_BODY, HttpReply, Refused

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
RETRY: Final = {"Retry-After": "1"}
"""Seconds: what is full or behind now is seldom so for longer."""

STATUS_OF: Final[dict[type[Exception], int]] = {
    FrameTooLong: 413,
    DecodeError: 400,
    InputTypeMismatch: 400,
    Rejected: 422,
    RecordTooLarge: 413,
    NotJournalable: 422,
    RequestKnown: 409,
    NoProc: 404,
    Overloaded: 429,
    Timeout: 504,
    Stopped: 503,
    Suspended: 503,
    JournalBusy: 503,
    JournalFull: 503,
    DurabilityLost: 503,
}
"""The first that fits; what is not here is 500."""

_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Manner(NamedTuple):
    """What an answer depends on in its request.

    Attributes:
        is_head: HEAD: the same head, and no body.
        is_old: HTTP/1.0: a connection that stays open is told so.
        is_last: The connection is closed behind the answer.
        unix_s: When it is answered, in Unix time; 0 is not known, and then there is no Date.
    """

    is_head: bool = False
    is_old: bool = False
    is_last: bool = False
    unix_s: int = 0


LAST: Final = Manner(is_last=True)


@final
class HttpExchange(Exchange):
    """A request that waits for its answer."""

    __slots__ = ("_body", "_is_head", "_is_old")

    def __init__(
        self, body: HttpBody, *, is_head: bool = False, is_old: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self._body = body
        self._is_head = is_head
        self._is_old = is_old

    def encode(self, output: Any) -> bytes:
        """Return the answer to an output: 200 with a body, 204 for None, or what an HttpReply says.

        JSON has a form for None, so there it is a body.
        """
        body = self._body
        if isinstance(output, HttpReply):
            return _reply(output, body, self._manner())
        if output is None and body.content_type != JSON:
            return answer(204, b"", {}, self._manner())
        return answer(200, body.encode(output), {"Content-Type": body.content_type}, self._manner())

    def encode_error(self, error: Exception) -> bytes:
        """Return the answer to a failure."""
        return refusal(error, self._body, self._manner())

    def __repr__(self) -> str:
        if self.failure is not None or self.answer is not None:
            return f"<HttpExchange answered with {self.failure or self.answer!r}>"
        return f"<HttpExchange to={self.to!r} input={self.input!r}>"

    def _manner(self) -> Manner:
        return Manner(self._is_head, self._is_old, self.is_last, self.unix_s)


def refusal(error: Exception, body: HttpBody, manner: Manner) -> bytes:
    """Return the answer to a failure: its status, and a sentence for people."""
    status = status_of(error)
    detail = error.detail if isinstance(error, DecodeError) else failure_words(error)[1]
    headers = dict(RETRY) if status in (429, 503) else {}
    if isinstance(error, Refused):
        headers.update(error.headers)
    said = {"error": detail}
    if isinstance(error, Crashed):
        headers["Crash-Id"] = _one_line(error.crash_id)
        said["crash_id"] = error.crash_id
    if body.content_type == JSON:
        headers["Content-Type"] = JSON
        return answer(status, msgspec.json.encode(said), headers, manner)
    headers["Content-Type"] = TEXT
    data = f"error: {detail}\n".encode("utf-8", "backslashreplace")
    return answer(status, data, headers, manner)


def status_of(error: Exception) -> int:
    """Return the status that says what has failed."""
    if isinstance(error, Refused):
        return error.status
    return next((status for kind, status in STATUS_OF.items() if isinstance(error, kind)), 500)


def answer(status: int, body: bytes, headers: Mapping[str, str], manner: Manner) -> bytes:
    """Return the bytes of an answer."""
    line = _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    fields = [f"{name}: {value}\r\n" for name, value in headers.items()]
    if status not in STATUS_WITHOUT_BODY:
        fields.append(f"Content-Length: {len(body)}\r\n")
    if status == 205:  # the only one without a body that says so by its length
        fields.append("Content-Length: 0\r\n")
    if manner.unix_s:
        fields.append(_dates.line(manner.unix_s))
    if manner.is_last:
        fields.append("Connection: close\r\n")
    elif manner.is_old:
        fields.append("Connection: keep-alive\r\n")
    head = line + "".join(fields).encode("latin-1") + b"\r\n"
    return head if manner.is_head else head + body


def _reply(reply: HttpReply, body: HttpBody, manner: Manner) -> bytes:
    headers = dict(reply.headers)
    has_type = any(name.lower() == "content-type" for name in headers)
    if isinstance(reply.body, bytes):
        data, kind = reply.body, "application/octet-stream"
    elif reply.body is None:
        data, kind, has_type = b"", "", True
    else:
        data, kind = body.encode(reply.body), body.content_type
    if not has_type:
        headers["Content-Type"] = kind
    return answer(reply.status, data, headers, manner)


def _one_line(text: str) -> str:
    """What a header can hold of a name."""
    return "".join(c if " " <= c <= "~" else "_" for c in text)


class _Dates:
    """The Date line of the latest second: all answers of a second have the same."""

    def __init__(self) -> None:
        self._unix_s = 0
        self._line = ""

    def line(self, unix_s: int) -> str:
        if unix_s != self._unix_s:
            self._unix_s, self._line = unix_s, f"Date: {formatdate(unix_s, usegmt=True)}\r\n"
        return self._line


_dates = _Dates()
