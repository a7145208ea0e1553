"""Bodies of requests and answers as Python values: text, JSON, bytes.

Does not know: heads, but for Content-Type.
Source: RFC 9110, section 8.3; RFC 8259 (JSON).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, final

import msgspec

from pybehave.errors import DecodeError, EncodeError
from pybehave.protocols.http_messages import Refused

_UTF_8: Final = ("utf-8", "utf8", "us-ascii", "ascii")


class HttpBody(Protocol):
    """What `Http(body=...)` may be: one object for all bodies, so it keeps no state of a request.

    Attributes:
        content_type: Of answers.
    """

    @property
    def content_type(self) -> str:
        """Return the Content-Type of answers."""

    def decode(self, data: bytes, content_type: str) -> Any:
        """Turn a request's body into an input.

        Args:
            content_type: As the client says, with its parameters; empty when it does not say.

        Raises:
            Exception: It cannot be decoded: the client gets 400.
        """

    def encode(self, output: Any) -> bytes:
        """Turn an output into an answer's body.

        Raises:
            Exception: It has no such form. That is an EncodeError of the server.
        """


@final
@dataclass(frozen=True, slots=True)
class TextBody:
    """Text in UTF-8: the step gets a str, and returns str, int, float or bytes.

    Attributes:
        content_type: Of answers.
    """

    content_type: str = "text/plain; charset=utf-8"

    def decode(self, data: bytes, content_type: str) -> str:
        """Return the text, whatever kind the client says it is (curl says a form)."""
        charset = _charset(content_type)
        if charset not in _UTF_8:
            raise Refused(415, f"the body is text in {charset}; send UTF-8")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(
                f"the body is not UTF-8: {error.reason} at byte {error.start}"
            ) from error

    def encode(self, output: Any) -> bytes:
        """Return the text, with no end of line added."""
        if isinstance(output, str):
            return output.encode()
        if isinstance(output, bytes | bytearray | memoryview):
            return bytes(output)
        if isinstance(output, int | float):
            return str(output).encode()
        raise EncodeError(
            output, "a text body is str, int, float or bytes; use HttpReply, or body='json'"
        )


@final
class JsonBody:
    """JSON: the step gets what the type says, decoded and validated, and returns what has a form.

    Args:
        type: What a request's body must be, such as a msgspec.Struct; Any is whatever it holds.

    Raises:
        TypeError: msgspec cannot decode into that.
    """

    content_type = "application/json"

    def __init__(self, type: Any = Any) -> None:  # noqa: A002 -- msgspec's word
        self._decoder = msgspec.json.Decoder(type)
        self._encoder = msgspec.json.Encoder()

    def decode(self, data: bytes, content_type: str) -> Any:
        """Return the value. A client that says what it sends must say JSON: a page of another
        origin can make a browser send a form or a text, but not that.
        """
        kind = content_type.partition(";")[0].strip().lower()
        if kind and kind != self.content_type and not kind.endswith("+json"):
            raise Refused(415, f"the body is {kind}; send Content-Type: {self.content_type}")
        try:
            return self._decoder.decode(data)
        except msgspec.DecodeError as error:  # ValidationError is one
            raise DecodeError(f"the body is not what is wanted: {error}") from error

    def encode(self, output: Any) -> bytes:
        """Return the value as JSON."""
        return self._encoder.encode(output)


@final
@dataclass(frozen=True, slots=True)
class BytesBody:
    """Bytes as they are.

    Attributes:
        content_type: Of answers.
    """

    content_type: str = "application/octet-stream"

    def decode(self, data: bytes, content_type: str) -> bytes:
        """Return the bytes."""
        return data

    def encode(self, output: Any) -> bytes:
        """Return the bytes."""
        if isinstance(output, bytes | bytearray | memoryview):
            return bytes(output)
        raise EncodeError(output, "this body is bytes")


BODIES: Final[dict[str, Callable[[], HttpBody]]] = {
    "text": TextBody,
    "json": JsonBody,
    "bytes": BytesBody,
}
"""The short names that `Http(body=...)` takes."""


def _charset(content_type: str) -> str:
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return "utf-8"
