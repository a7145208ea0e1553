"""LengthPrefixed: the length of a message stands before it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from pybehave.protocols.framing import Framing, require, require_size


@dataclass(frozen=True, slots=True)
class LengthPrefixed(Framing):
    """An unsigned length of `width` bytes, then so many bytes; Erlang calls it `{packet, 4}`.

    The step gets `bytes` (possibly empty) and returns bytes-like output; None sends nothing. A
    length above `frame_bytes_max` is refused before the message has come. A failure is answered
    with its text as a message.

    Attributes:
        width: Bytes of the length, 1 to 8.
        order: "big" or "little": which byte of the length comes first.
        frame_bytes_max: The longest message in bytes, without its length.

    Raises:
        SpecError: Names the field, its value and what is allowed.
    """

    width: int = 4
    order: str = "big"
    _: KW_ONLY
    frame_bytes_max: int = 16 << 20

    def __post_init__(self) -> None:
        is_width = isinstance(self.width, int) and 1 <= self.width <= 8
        require(is_width, self, "width", self.width, "1 to 8 bytes")
        require(self.order in ("big", "little"), self, "order", self.order, '"big" or "little"')
        require_size(self, "frame_bytes_max", self.frame_bytes_max)

    def config(self) -> dict[str, Any]:
        return {
            "framing": "length",
            "width": self.width,
            "little": self.order == "little",
            "frame_bytes_max": self.frame_bytes_max,
        }
