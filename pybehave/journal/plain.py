"""Journal values as JSON and back, without loss: for people, pipes and other programs.

Theory. JSON has null, true, false, integers, numbers, text, lists and objects with text keys; these
stand for themselves. Everything else is an object with one key that begins with a dollar sign:

    {"$bytes": "SET"}              bytes that are printable ASCII
    {"$base64": "AAE="}            any other bytes
    {"$float": "nan"}              nan, inf, -inf
    {"$map": [[key, value], ...]}  a map whose keys are not all texts without a dollar sign in front
    {"$tuple": [...]}              an extension type by its name, with what its data holds
    {"$int": "-18446744073709551617"}
    {"$ext": [77, "AAE="]}         an extension type without a name, or with data of another shape
    {"$msgpack": "yQ=="}           bytes that are no MessagePack, or not as the journal writes it

What is written here is read again and compared before it is given out, and `$msgpack` stands in
where the two differ; so there is no value for which the way back does not give the same bytes.

Does not know: records; what the values mean to a server.
Source: docs/journal-format.md, section 6.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

Plain: TypeAlias = Any
"""What `json.dumps` takes: None, bool, int, float, str, and lists and dicts of them."""

DEPTH_MAX: Final = 200
"""Deeper than the journal writes, and not so deep that Python's own limit is met."""

EXTENSIONS: Final = {
    1: "$tuple",
    2: "$int",
    3: "$set",
    4: "$frozenset",
    5: "$connection",
    6: "$caller",
    7: "$message",
    8: "$exception",
    9: "$type",
}
INT: Final = 2
CODES: Final = {name: code for code, name in EXTENSIONS.items()}

_SIZES: Final = {0: ">B", 1: ">H", 2: ">I", 3: ">Q"}
_SIGNED: Final = {0: ">b", 1: ">h", 2: ">i", 3: ">q"}


def to_plain(data: bytes) -> Plain:
    """Return one encoded value as JSON has it."""
    found = to_plains(data, 1)
    return {"$msgpack": _base64(data)} if found is None else found[0]


def to_plains(data: bytes, count: int) -> list[Plain] | None:
    """Return so many encoded values that stand one behind the other; None when they do not."""
    try:
        reader = _Reader(data)
        found = [reader.take(0) for _ in range(count)]
        is_same = reader.at == len(data) and b"".join(map(from_plain, found)) == data
    except (ValueError, IndexError, struct.error):  # ValueError: UTF-8, too
        return None
    return found if is_same else None


def from_plain(value: Plain) -> bytes:
    """Return the encoded value.

    Raises:
        ValueError: It is none of the forms above; says which part.
    """
    out = bytearray()
    _put(out, value, 0)
    return bytes(out)


class _Reader:
    """Takes MessagePack apart; what is cut short raises IndexError or struct.error."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> Any:
        (found,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found

    def bytes(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise IndexError(count)
        self.at += count
        return self.data[self.at - count : self.at]

    def take(self, depth: int) -> Plain:
        """One value."""
        if depth > DEPTH_MAX:
            raise ValueError("it is nested too deeply")
        head = self.number(">B")
        if head <= 0x7F:
            return head
        if head >= 0xE0:
            return head - 0x100
        if head <= 0x8F:
            return self.map(head & 0x0F, depth)
        if head <= 0x9F:
            return self.array(head & 0x0F, depth)
        if head <= 0xBF:
            return self.bytes(head & 0x1F).decode()
        return self.wide(head, depth)

    def wide(self, head: int, depth: int) -> Plain:
        """A value whose type and size take bytes of their own."""
        if head in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[head]
        if 0xC4 <= head <= 0xC6:
            return _bytes(self.bytes(self.number(_SIZES[head - 0xC4])))
        if 0xC7 <= head <= 0xC9:
            return self.extension(self.number(_SIZES[head - 0xC7]), depth)
        if head == 0xCB:
            return _float(self.number(">d"))
        if 0xCC <= head <= 0xCF:
            return self.number(_SIZES[head - 0xCC])
        if 0xD0 <= head <= 0xD3:
            return self.number(_SIGNED[head - 0xD0])
        if 0xD9 <= head <= 0xDB:
            return self.bytes(self.number(_SIZES[head - 0xD9])).decode()
        if 0xDC <= head <= 0xDD:
            return self.array(self.number(_SIZES[head - 0xDB]), depth)
        if 0xDE <= head <= 0xDF:
            return self.map(self.number(_SIZES[head - 0xDD]), depth)
        raise ValueError(f"the journal writes no {head:#x}")

    def array(self, count: int, depth: int) -> Plain:
        return [self.take(depth + 1) for _ in range(count)]

    def map(self, count: int, depth: int) -> Plain:
        pairs = [[self.take(depth + 1), self.take(depth + 1)] for _ in range(count)]
        keys = [key for key, _ in pairs]
        if all(type(key) is str and not key.startswith("$") for key in keys):
            return dict(pairs)
        return {"$map": pairs}

    def extension(self, size: int, depth: int) -> Plain:
        code = self.number(">B")
        data = self.bytes(size)
        name = EXTENSIONS.get(code)
        if code == INT:
            return {"$int": str(int.from_bytes(data, "big", signed=True))}
        if name is not None:
            inner = _Reader(data)
            value = inner.take(depth + 1)
            if inner.at == size and from_plain(value) == data:
                return {name: value}
        return {"$ext": [code, _base64(data)]}


def _bytes(data: bytes) -> Plain:
    if all(0x20 <= byte <= 0x7E for byte in data):
        return {"$bytes": data.decode("ascii")}
    return {"$base64": _base64(data)}


def _float(value: float) -> Plain:
    return value if math.isfinite(value) else {"$float": str(value)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# --- the way back ------------------------------------------------------------------------------


def _put(out: bytearray, value: Plain, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ValueError("it is nested too deeply")
    kind = type(value)
    if value is None or kind is bool:
        out.append({None: 0xC0, False: 0xC2, True: 0xC3}[value])
    elif kind is int:
        _put_int(out, value)
    elif kind is float:
        out += struct.pack(">Bd", 0xCB, value)
    elif kind is str:
        data = value.encode()
        _put_head(out, len(data), 0xA0, 31, {1: 0xD9, 2: 0xDA, 4: 0xDB})
        out += data
    elif kind is list:
        _put_head(out, len(value), 0x90, 15, {2: 0xDC, 4: 0xDD})
        for item in value:
            _put(out, item, depth + 1)
    elif kind is dict:
        _put_dict(out, value, depth)
    else:
        raise ValueError(f"{value!r} is no value of JSON")


def _put_int(out: bytearray, value: int) -> None:
    if -32 <= value <= 0x7F:
        out.append(value & 0xFF)
        return
    for index in range(4):
        bits = 8 << index
        if 0 <= value < 1 << bits:
            out += struct.pack(">B", 0xCC + index) + struct.pack(_SIZES[index], value)
            return
        if -(1 << (bits - 1)) <= value < 0:
            out += struct.pack(">B", 0xD0 + index) + struct.pack(_SIGNED[index], value)
            return
    raise ValueError(f"{value} takes more than 64 bits; it is written as {{'$int': ...}}")


def _put_head(out: bytearray, count: int, small: int, small_max: int, wide: dict[int, int]) -> None:
    """A type and a count in as few bytes as can be."""
    if count <= small_max:
        out.append(small | count)
        return
    for size, head in wide.items():
        if count < 1 << 8 * size:
            out.append(head)
            out += count.to_bytes(size, "big")
            return
    raise ValueError("more than 4,294,967,295 items or bytes")


def _put_dict(out: bytearray, value: dict[str, Plain], depth: int) -> None:
    for name, special in value.items():
        if name.startswith("$"):
            if len(value) != 1:
                raise ValueError(f"{name!r} stands beside other keys")
            _put_special(out, name, special, depth)
            return
    _put_pairs(out, list(value.items()), depth)


def _put_pairs(out: bytearray, pairs: list[Any], depth: int) -> None:
    _put_head(out, len(pairs), 0x80, 15, {2: 0xDE, 4: 0xDF})
    for key, item in pairs:
        _put(out, key, depth + 1)
        _put(out, item, depth + 1)


def _put_special(out: bytearray, name: str, value: Plain, depth: int) -> None:
    """What is told by a key with a dollar sign."""
    if name in CODES and name != "$int":
        data = bytearray()
        _put(data, value, depth + 1)
        _put_extension(out, CODES[name], bytes(data))
    elif name in _SPECIAL:
        try:
            _SPECIAL[name](out, value, depth)
        except (TypeError, AttributeError, ValueError, IndexError) as error:
            raise ValueError(f"{name!r} has another form: {error}") from error
    else:
        raise ValueError(f"{name!r} is not known here")


def _put_data(out: bytearray, data: bytes) -> None:
    _put_head(out, len(data), 0, -1, {1: 0xC4, 2: 0xC5, 4: 0xC6})
    out += data


def _put_extension(out: bytearray, code: int, data: bytes) -> None:
    """Sizes take one byte or four: the journal writes no others."""
    _put_head(out, len(data), 0, -1, {1: 0xC7, 4: 0xC9})
    out.append(code)
    out += data


def _put_big_int(out: bytearray, text: str) -> None:
    value = int(text)
    data = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    _put_extension(out, INT, data)


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_SPECIAL: Final[dict[str, Callable[[bytearray, Any, int], None]]] = {
    "$bytes": lambda out, value, depth: _put_data(out, value.encode("ascii")),
    "$base64": lambda out, value, depth: _put_data(out, _decoded(value)),
    "$float": lambda out, value, depth: out.extend(struct.pack(">Bd", 0xCB, float(value))),
    "$map": _put_pairs,
    "$int": lambda out, value, depth: _put_big_int(out, value),
    "$ext": lambda out, value, depth: _put_extension(out, value[0], _decoded(value[1])),
    "$msgpack": lambda out, value, depth: out.extend(_decoded(value)),
}
"""Keys with a dollar sign that stand for no extension of their own: what each puts."""
