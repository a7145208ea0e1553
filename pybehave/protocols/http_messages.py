"""HttpRequest and HttpReply: what routes see of a request, and what servers may say beyond text.

Does not know: bytes on the wire.
Source: RFC 9110, sections 5 (fields), 6.4.1 (contents), 15 (status codes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from pybehave.errors import DecodeError, show

STATUS_WITHOUT_BODY: Final = (204, 205, 304)
"""Their answers end with the head (RFC 9110, sections 15.3.5, 15.3.6, 15.4.5)."""

OWN_HEADERS: Final = ("connection", "content-length", "date", "transfer-encoding")
"""What belongs to the framing of answers, and is written here and by nobody else."""

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Refused(DecodeError):  # noqa: N818 -- a fact, as those of errors.py
    """A request that is answered without any server, with a status of its own.

    Attributes:
        status: Of the answer, 4xx or 5xx.
        headers: Of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}


@final
@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request, for `Http(route=...)`.

    Attributes:
        method: `"GET"`, `"POST"`, ...; a HEAD request is routed as the GET whose head it asks for.
        path: Decoded, with its leading "/".
        query: Names and values behind the "?", decoded; the last value of a name that is repeated.
        headers: Names in lower case; values of a name that is repeated, joined by ", ".
        body: As the body codec has decoded it; None when there is none.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@final
@dataclass(frozen=True, slots=True)
class HttpReply:
    """An output with a status and headers of its own.

    Attributes:
        status: 200 to 599.
        body: What the body codec encodes; bytes are sent as they are. None is an empty one.
        headers: Names and values; Content-Type among them replaces the body codec's.

    Raises:
        ValueError: A status, name or value that may not be sent, or headers that are no mapping. In
            a step, that is a crash.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_status = isinstance(self.status, int) and 200 <= self.status <= 599
        if not is_status or isinstance(self.status, bool):
            raise ValueError(f"HttpReply: status={show(self.status)} is not 200 to 599")
        if self.body is not None and self.status in STATUS_WITHOUT_BODY:
            raise ValueError(f"HttpReply: status {self.status} has no body; leave it None")
        if not isinstance(self.headers, Mapping):
            raise ValueError(f"HttpReply: headers={show(self.headers)} is not allowed; use a dict")
        for name, value in self.headers.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError(f"HttpReply: the header name {show(name)} is not allowed")
            if name.lower() in OWN_HEADERS:
                raise ValueError(f"HttpReply: the header {name} is written by the protocol")
            if not isinstance(value, str) or not _VALUE.fullmatch(value):
                raise ValueError(
                    f"HttpReply: the header {name}={show(value)} is not allowed; use one line of "
                    f"Latin-1 text"
                )
