"""What `Options.codec` does to bytes before they reach the disk: compress them, encrypt them.

Theory. A codec turns bytes into others and back: it compresses them, or encrypts them. Several are
applied one after the other, and undone in the reverse order. What is stored says which they were,
so codecs can be changed at any start: what is there stays readable as long as its codecs are given.

    1 byte n   n bytes: the codecs' names, joined by "+", in the order applied   what the last gave

A piece is stored with a *context*: what it is, of which journal, and where in it. A codec that
authenticates binds both together, so that no piece can stand in for another one.

    kind       numbers                                          where
    frame      epoch, seq, first lsn, records, time ns          a frame's body
    tail       first lsn, records                               a chunk of the file `tail`
    snapshot   lsn                                              a snapshot's body
    letter     lsn                                              a dead letter, its crash bundle
    requeue    lsn                                              an input that is to be sent again
    asleep     place in the file                                a state that is out of memory

Invariants
  (C1) What cannot be opened is refused by its own exception, which nobody takes for damage.
  (C2) No codec adds more than GROWTH_MAX bytes; the journal keeps that much room in its frames.
  (C3) Checksums are of what is stored: whether a journal is whole is known without any key.

Does not know: files, records, where keys come from.
Source: docs/journal-format.md, section 12; decision 0046.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable
from typing import Final, Protocol, final, runtime_checkable

from pybehave.errors import CodecRefused

GROWTH_MAX: Final = 1024
"""Bytes, of one codec; `JOURNAL_GROWTH_MAX` in src/_uring/journal.h is for all of them together."""

CODECS_MAX: Final = 3
"""At once: two are of use (compress, encrypt), and a third does no harm."""

NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
"""What a codec may be called: its name is stored beside each piece."""

KIND: Final = struct.Struct("<8s16s")
WORDS: Final = {
    "frame": "the frame of lsn {1}",
    "tail": "the tail from lsn {0} on",
    "snapshot": "the snapshot of lsn {0}",
    "letter": "the dead letter of lsn {0}",
    "requeue": "the input of lsn {0} that is to be sent again",
    "asleep": "a state that was put away",
}
FRAME_LSN: Final = 2


@runtime_checkable
class Codec(Protocol):
    """Turns bytes into others and back. Yours may be in `Options.codec` as well as those below.

    Both methods are called on the loop's thread for each commit, and in processes and threads that
    write snapshots. The time that they take is added to a commit's.

    Attributes:
        name: Up to 32 small letters, digits and dashes; stored with all that it has encoded, so it
            stands for the form of the result, for ever.
    """

    name: str

    def encode(self, data: bytes, context: bytes) -> bytes:
        """Return other bytes, at most GROWTH_MAX more.

        Args:
            data: What is to be stored.
            context: What it is and where it stands; the same when it is decoded.
        """

    def decode(self, data: bytes, context: bytes) -> bytes:
        """Return what was encoded.

        Raises:
            ValueError: These bytes were not encoded so, or not in this context, or not with this
                key; says why, in words that go on behind "cannot be read: ".
        """


@final
class Compressed:
    """Compresses with zlib, which every Python has; what does not get smaller is kept as it is.

    Args:
        level: 1 is the fastest, 9 the smallest; the default is 1, for a commit waits for it.

    Raises:
        ValueError: The level is none of those.
    """

    name = "zlib"

    def __init__(self, level: int = 1) -> None:
        if type(level) is not int or not 1 <= level <= 9:
            raise ValueError(f"level={level!r} is not allowed; use 1 (fastest) to 9 (smallest)")
        self.level = level

    def __repr__(self) -> str:
        return f"Compressed(level={self.level})"

    def encode(self, data: bytes, context: bytes) -> bytes:
        """One byte that says how, and the data: 0 as it is, 1 compressed (RFC 1950)."""
        packed = zlib.compress(data, self.level)
        return b"\1" + packed if len(packed) < len(data) else b"\0" + data

    def decode(self, data: bytes, context: bytes) -> bytes:
        """The way back."""
        how, rest = data[:1], memoryview(data)[1:]
        if how == b"\0":
            return bytes(rest)
        if how != b"\1":
            raise ValueError("a newer version of pybehave compressed it")
        try:
            return zlib.decompress(rest)
        except zlib.error as error:
            raise ValueError(f"it was compressed in another way ({error})") from error


@final
class Coder:
    """The codecs of one journal.

    Args:
        codecs: Applied in this order. What they have encoded can be read again, and what
            `Compressed` has, which needs no key.
        journal_id: Whose they are: part of each context.
    """

    def __init__(self, codecs: Iterable[Codec] = (), journal_id: bytes = bytes(16)) -> None:
        self.codecs = tuple(codecs)
        self.journal_id = journal_id
        self._known = {each.name: each for each in (Compressed(), *self.codecs)}
        names = "+".join(each.name for each in self.codecs).encode("ascii")
        self._head = bytes([len(names)]) + names

    @property
    def is_on(self) -> bool:
        """Whether anything is encoded."""
        return bool(self.codecs)

    def encode(self, data: bytes, kind: str, *numbers: int) -> bytes:
        """Return what is to be stored.

        Args:
            data: What it stands for.
            kind: And `numbers`: the context, as in the table above.

        Raises:
            CodecRefused: A codec failed, or made more of it than it may (C2).
        """
        assert self.codecs
        context = self._context(kind, numbers)
        found = data
        for codec in self.codecs:
            try:
                made = codec.encode(found, context)
            except Exception as error:
                raise CodecRefused(_what(kind, numbers), codec.name, f"{error!r}") from error
            if len(made) > len(found) + GROWTH_MAX:
                why = f"it made {len(made)} bytes of {len(found)}; {GROWTH_MAX} more are allowed"
                raise CodecRefused(_what(kind, numbers), codec.name, why)
            found = made
        return self._head + found

    def decode(self, stored: bytes, kind: str, *numbers: int) -> bytes:
        """Return what is stored.

        Raises:
            CodecRefused: A codec is not given, or not its key; or this is not what was stored here.
        """
        context = self._context(kind, numbers)
        end = 1 + stored[0] if stored else 0
        names = str(stored[1:end], "ascii", "replace").split("+")
        found = bytes(stored[end:])
        for name in reversed(names):
            codec = self._known.get(name)
            if codec is None:
                why = "no codec of that name was given; name it with codec=, --codec or --key-file"
                raise CodecRefused(_what(kind, numbers), name, why)
            try:
                found = codec.decode(found, context)
            except Exception as error:
                why = str(error) if isinstance(error, ValueError) else f"{error!r}"
                raise CodecRefused(_what(kind, numbers), name, why) from error
        return found

    def encode_frame(
        self, epoch: int, seq: int, first_lsn: int, records: int, time_ns: int, body: bytes
    ) -> bytes:
        """`encode` for the core: the body of a frame."""
        return self.encode(body, "frame", epoch, seq, first_lsn, records, time_ns)

    def decode_frame(
        self, epoch: int, seq: int, first_lsn: int, records: int, time_ns: int, body: bytes
    ) -> bytes:
        """`decode` for the core."""
        return self.decode(body, "frame", epoch, seq, first_lsn, records, time_ns)

    def _context(self, kind: str, numbers: tuple[int, ...]) -> bytes:
        head = KIND.pack(kind.encode("ascii"), self.journal_id)
        return head + b"".join(number.to_bytes(8, "little") for number in numbers)


PLAIN: Final = Coder()
"""Encodes nothing, and reads what needs no key."""


def check_codecs(codecs: object) -> None:
    """Check what stands in `Options.codec`.

    Raises:
        ValueError: It is no tuple of codecs, or of too many, or of two with one name.
    """
    if not isinstance(codecs, tuple) or not all(isinstance(each, Codec) for each in codecs):
        raise ValueError(
            f"codec={codecs!r} is not allowed; use a tuple of codecs, as (Compressed(),)"
        )
    names = [each.name for each in codecs]
    wrong = [name for name in names if not isinstance(name, str) or not NAME.fullmatch(name)]
    if wrong:
        raise ValueError(f"a codec's name cannot be {wrong[0]!r}; use {NAME.pattern}")
    if len(names) > CODECS_MAX or len(set(names)) < len(names):
        raise ValueError(f"codec= has {', '.join(names)}; use {CODECS_MAX} at most, each name once")


def _what(kind: str, numbers: tuple[int, ...]) -> str:
    """What is meant, for people."""
    lsn = numbers[FRAME_LSN] if kind == "frame" else numbers[0]
    return WORDS[kind].format(lsn, lsn)
