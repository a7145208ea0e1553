"""RESP values of every type out of bytes, and those types that Python has no word for.

Requests are nearly always bulk strings, which codec.pyx decodes in C. What is left comes here: the
other types within requests, and replies when we are the client. The framing has checked where each
value ends; this file checks what it says.

Invariants
  (V1) Every fault is a DecodeError.
  (V2) Recursion is bounded by DEPTH_MAX, whatever the bytes.

Does not know: framing, limits of size.
"""

from __future__ import annotations

import re
from typing import Any

from pybehave.errors import DecodeError

DEPTH_MAX = 32
"""Nesting of arrays, sets and maps. Clients of Redis stop at 7 to 9 levels."""

_INTEGER = re.compile(rb"[+-]?[0-9]+")
_DOUBLE = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|inf|nan)")


class Status(str):
    """A simple string, `+text` on the wire. Equal to the same str, so `reply == "OK"` holds."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Status({super().__repr__()})"


class Error(str):
    """An error reply as a value, `-CODE text` on the wire: a refusal, not a crash.

    By custom it begins with a word in capitals that programs look at: `Error("ERR no such key")`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Error({super().__repr__()})"


class Push(tuple[Any, ...]):
    """What a client is told without having asked: `>n` in RESP3, an array in RESP2.

    Send it with the action `Send(connection, Push([b"message", channel, text]))`. By custom its
    first item is a word that says of which kind it is. Never the answer of a step: a client that
    reads RESP3 would wait for its answer on.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Push({list(self)!r})"


OK = Status("OK")
"""The usual answer of a command without a result."""


class Nil:
    """The null reply as a message of its own; within an array a null is None.

    A codec's None means "no message", so a null reply needs another word. It is false, as None is.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "NIL"


NIL = Nil()
"""The only one of its kind: compare with `is`."""


def decode_reply(body: bytes, count: int) -> list[Any]:
    """Return `decode_values`, with NIL for a reply that is null.

    Raises:
        DecodeError: A value that no RESP type allows.
    """
    return [NIL if value is None else value for value in decode_values(body, count)]


def decode_values(body: bytes, count: int) -> list[Any]:
    """Return the first `count` values in `body`, which the framing has found to be whole.

    Raises:
        DecodeError: A value that no RESP type allows.
    """
    values = []
    position = 0
    for _ in range(count):
        value, position = _value(body, position, 0)
        values.append(value)
    return values


def _value(body: bytes, position: int, depth: int) -> tuple[Any, int]:
    kind = body[position : position + 1]
    end = body.index(b"\r", position)
    line = body[position + 1 : end]
    position = end + 2
    if kind in b"$=!":
        return _bulk(kind, body, position, int(line))
    if kind in b"*~>%":
        return _aggregate(kind, body, position, int(line), depth)
    return _scalar(kind, line), position


def _bulk(kind: bytes, body: bytes, position: int, size: int) -> tuple[Any, int]:
    if size < 0:
        return None, position
    data = body[position : position + size]
    position += size + 2
    if kind == b"!":
        return Error(data.decode("utf-8", "replace")), position
    if kind == b"$":
        return data, position
    if data[3:4] != b":":
        raise DecodeError("a verbatim string begins with three letters and a colon")
    return data[4:], position


def _aggregate(kind: bytes, body: bytes, position: int, count: int, depth: int) -> tuple[Any, int]:
    if count < 0:
        return None, position
    if depth >= DEPTH_MAX:  # (V2)
        raise DecodeError(f"a value is nested deeper than {DEPTH_MAX} levels")
    items = []
    for _ in range(2 * count if kind == b"%" else count):
        item, position = _value(body, position, depth + 1)
        items.append(item)
    if kind == b"*":
        return items, position
    if kind == b">":
        return Push(items), position
    try:
        return (set(items) if kind == b"~" else _pairs(items)), position
    except TypeError:
        raise DecodeError("an element of a set or a key of a map is an aggregate") from None


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _scalar(kind: bytes, line: bytes) -> Any:
    if kind == b"+":
        return Status(line.decode("utf-8", "replace"))
    if kind == b"-":
        return Error(line.decode("utf-8", "replace"))
    if kind == b"_" and not line:
        return None
    if kind == b"#" and line in (b"t", b"f"):
        return line == b"t"
    pattern = _DOUBLE if kind == b"," else _INTEGER
    if kind in b",:(" and pattern.fullmatch(line):
        try:
            return float(line) if kind == b"," else int(line)
        except ValueError as error:  # more digits than sys.set_int_max_str_digits allows
            raise DecodeError(str(error)) from error
    raise DecodeError(f"{(kind + line)[:40]!r} is not a RESP value")


def arity(name: bytes) -> Error:
    """Return the answer to a command with too few or too many arguments."""
    return Error(f"ERR wrong number of arguments for '{name.decode().lower()}' command")


def shown(argument: bytes) -> str:
    """Return an argument for an error: bounded, and with nothing that a terminal would obey."""
    return argument[:64].decode("ascii", "backslashreplace")
