"""Lines: text or bytes up to a terminator."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from pybehave.protocols.framing import Framing, require, require_size

ENCODINGS = (None, "utf-8", "ascii", "latin-1")
"""In these every byte of a terminator is that byte and no part of another character."""


@dataclass(frozen=True, slots=True)
class Lines(Framing):
    r"""Messages that end with `end`, which is not part of the message.

    Without an encoding the step gets `bytes`, with one it gets `str`; a line that is not in the
    encoding is answered with an error and never reaches the step. Output is bytes-like, str (UTF-8
    when there is no encoding) or int; a list or tuple of these is several lines, None sends
    nothing. Output that contains `end` is an EncodeError: it would arrive as two messages.
    A failure is answered with a line `error: ...`.

    The end is taken literally: with the default, a client that sends "\r\n" leaves "\r" in the
    message; use `end=b"\r\n"` for protocols of the telnet family.

    Attributes:
        encoding: None (bytes), "utf-8", "ascii" or "latin-1".
        end: What ends a line, 1 to 8 bytes.
        frame_bytes_max: The longest line in bytes, without its end.

    Raises:
        SpecError: Names the field, its value and what is allowed.
    """

    encoding: str | None = None
    end: bytes = b"\n"
    _: KW_ONLY
    frame_bytes_max: int = 1 << 20

    def __post_init__(self) -> None:
        require(
            self.encoding in ENCODINGS,
            self,
            "encoding",
            self.encoding,
            'None (bytes), "utf-8", "ascii" or "latin-1"',
        )
        is_end = isinstance(self.end, bytes) and 1 <= len(self.end) <= 8
        require(is_end, self, "end", self.end, "1 to 8 bytes")
        require_size(self, "frame_bytes_max", self.frame_bytes_max)

    def config(self) -> dict[str, Any]:
        return {
            "framing": "lines",
            "encoding": self.encoding,
            "end": self.end,
            "frame_bytes_max": self.frame_bytes_max,
        }
