"""Resp: the protocol of Redis, so that its tools and client libraries are ours.

Theory. A request is a list of bytes that begins with the command's name. Requests, replies and the
common errors are done in C (codec.pyx); what is rare is Python: values that are not bulk strings
(resp_values.py) and the commands that belong to the connection and not to the server
(resp_commands.py).

What outputs become (RESP3 where it differs, which a client asks for with HELLO 3):

    OK, Status("x")     +OK, +x               None            $-1          _
    Error("ERR no")     -ERR no               True, False     :1, :0       #t, #f
    bytes, str          $n, bulk string       float           bulk string  ,1.5
    int                 :n (beyond 64 bits:   dict            *2n          %n
                        bulk string, RESP3 (n)  set, frozenset  *n           ~n
    list, tuple         *n                    Push            *n           >n

Source: "Redis serialization protocol specification"; Redis 7 for what it leaves open.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

from pybehave._uring.requests import declare_text
from pybehave.errors import DecodeError
from pybehave.once import Once
from pybehave.protocols.framing import Framing, require, require_size
from pybehave.protocols.resp_commands import NativeCommands
from pybehave.protocols.resp_values import (
    OK,
    Error,
    Push,
    Status,
    decode_reply,
    decode_values,
)


@dataclass(frozen=True, slots=True)
class Resp(Framing):
    """A server that speaks RESP2 and RESP3.

    The step gets a list of bytes, `[b"SET", key, value]`, from arrays of bulk strings and from
    inline requests (`SET key value` typed in telnet) alike. PING, ECHO, HELLO, AUTH, COMMAND,
    CLIENT, CONFIG GET, INFO, SELECT, QUIT and RESET are answered without the step.

    Attributes:
        uppercase: Command names arrive in upper case however the client wrote them.
        native: Answer the commands of the connection; False hands them to the step as well.
        nested: Arguments may be of any type that RESP has (numbers, arrays, maps); otherwise they
            are bulk strings, and anything else is answered with an error, as Redis does.
        once: A request may be named, `ONCE client number SET key value`: it is carried out once,
            however often it is sent, and answered the same each time (pybehave.Once).
        frame_bytes_max: The longest request in bytes, all its arguments together.

    Raises:
        SpecError: Names the field, its value and what is allowed.
    """

    _: KW_ONLY
    uppercase: bool = True
    native: bool = True
    nested: bool = False
    once: bool = False
    frame_bytes_max: int = 64 << 20

    def __post_init__(self) -> None:
        for field, value in (
            ("once", self.once),
            ("uppercase", self.uppercase),
            ("native", self.native),
            ("nested", self.nested),
        ):
            require(isinstance(value, bool), self, field, value, "True or False")
        require_size(self, "frame_bytes_max", self.frame_bytes_max)

    def config(self) -> dict[str, Any]:
        return {
            "framing": "resp",
            "frame_bytes_max": self.frame_bytes_max,
            "uppercase": self.uppercase,
            "ok": OK,
            "status_type": Status,
            "error_type": Error,
            "push_type": Push,
            "values": decode_values if self.nested else refuse_values,
            "native": NativeCommands() if self.native else None,
            "once": partial(named_request, self.uppercase) if self.once else None,
        }


@dataclass(frozen=True, slots=True)
class RespClient(Framing):
    """A client of a server that speaks RESP, for outbound connections.

    Output is a request: a list or tuple of bytes, str, int or float. What arrives are replies of
    any type: bytes, Status, Error (as a value, not raised), int, float, bool, NIL for null, list,
    dict, set, Push. Failures on our side are not reported to the server.

    Attributes:
        frame_bytes_max: The longest reply in bytes.

    Raises:
        SpecError: Names the field, its value and what is allowed.
    """

    _: KW_ONLY
    frame_bytes_max: int = 64 << 20

    def __post_init__(self) -> None:
        require_size(self, "frame_bytes_max", self.frame_bytes_max)

    def config(self) -> dict[str, Any]:
        return {
            "framing": "reply",
            "frame_bytes_max": self.frame_bytes_max,
            "uppercase": False,
            "status_type": Status,
            "error_type": Error,
            "push_type": Push,
            "values": decode_reply,
        }


for _kind in (Status, Error):
    declare_text(_kind)


def named_request(uppercase: bool, request: list[bytes]) -> Once:
    """Return what `ONCE client number command ...` says.

    Raises:
        DecodeError: It says too little, or no number.
    """
    if len(request) < 4:
        raise DecodeError("ONCE needs a client, a number and a command")
    _, client, number, *command = request
    if uppercase:
        command[0] = command[0].upper()
    try:
        return Once(client, int(number), command)
    except ValueError as error:
        raise DecodeError(str(error)) from error


def refuse_values(*_: Any) -> Any:
    """Answer a request whose arguments are not all bulk strings."""
    raise DecodeError("expected '$': arguments are bulk strings")
