"""The frames of the admin socket: a length of four bytes, then a value in MessagePack.

A request is a map: `do` says what, `id` comes back with the answer, the rest are its arguments. An
answer is a map with `id` and either `ok` or `error` (one sentence) and `kind` (the exception's
class). A trace sends maps with `id` and `events` as they come.

Values are those of the journal (docs/journal-format.md, section 6), so that a tuple arrives as a
tuple. What has no such form is sent as `{"shown": text}`.

Does not know: sockets, what requests there are.
"""

from __future__ import annotations

import struct
from typing import Any, Final, TypeAlias, final

from pybehave._uring.values import Values
from pybehave.errors import DecodeError, show
from pybehave.protocols import LengthPrefixed, Protocol

Message: TypeAlias = dict[str, Any]

REQUEST_BYTES_MAX: Final = 1 << 20
"""Requests are typed by people."""

ANSWER_BYTES_MAX: Final = 8 << 20
"""Less than a connection's output may be, so that no answer ends the connection."""

_LENGTH: Final = struct.Struct(">I")


@final
class AdminProtocol(Protocol):
    """What the node speaks."""

    framing = LengthPrefixed(4, frame_bytes_max=REQUEST_BYTES_MAX)

    def decode(self, message: bytes) -> Message:
        """Return a request.

        Raises:
            DecodeError: It is none.
        """
        return unpack(message)

    def encode(self, output: Message) -> bytes:
        return pack(output)

    def encode_error(self, error: Exception) -> bytes:
        return pack(failure(None, error))


def success(request_id: Any, value: Any) -> Message:
    """Return the answer to a request that was carried out."""
    return {"id": request_id, "ok": value}


def failure(request_id: Any, error: BaseException) -> Message:
    """Return the answer to a request that was refused: a sentence, without a traceback."""
    kind = type(error).__name__
    return {"id": request_id, "error": readable(str(error) or kind), "kind": kind}


def readable(text: str) -> str:
    """Return a text that has an encoding."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def pack(message: Message) -> bytes:
    """Return a message's bytes; an `ok` that has no form, or is too large, is shown as text."""
    try:
        packed = Values().encode(message)
    except Exception:  # noqa: BLE001 -- whatever a server's output is made of
        packed = None
    if packed is not None and len(packed) <= ANSWER_BYTES_MAX:
        return packed
    shown = {"shown": readable(show(message.get("ok")))}
    return Values().encode({"id": message.get("id"), "ok": shown})


def has_form(value: Any) -> bool:
    """Say whether a value can be sent as it is, and is not shown as text."""
    try:
        Values().encode(value)
    except Exception:  # noqa: BLE001 -- whatever it is made of
        return False
    return True


def unpack(data: bytes) -> Message:
    """Return the message of these bytes.

    Raises:
        DecodeError: They are none.
    """
    try:
        message = Values().decode(data)
    except ValueError as error:
        raise DecodeError(f"the frame is no MessagePack value: {error}") from error
    if not isinstance(message, dict):
        raise DecodeError(f"a map was expected, and {show(message)} came")
    return message


def framed(message: Message) -> bytes:
    """Return a message as it is sent, with its length."""
    packed = pack(message)
    return _LENGTH.pack(len(packed)) + packed


def taken(buffer: bytearray) -> Message | None:
    """Take the first whole message out of a buffer; None when there is none yet.

    Raises:
        DecodeError: What is there is no message.
    """
    if len(buffer) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack_from(buffer)
    if size > 2 * ANSWER_BYTES_MAX:
        raise DecodeError(f"a frame of {size} bytes was announced; whoever answers is no node")
    end = _LENGTH.size + size
    if len(buffer) < end:
        return None
    packed = bytes(buffer[_LENGTH.size : end])
    del buffer[:end]
    return unpack(packed)
