"""Fixed: every message has the same size, in both directions."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from pybehave.protocols.framing import Framing, require, require_size


@dataclass(frozen=True, slots=True)
class Fixed(Framing):
    """Messages of exactly `size` bytes, as devices and market feeds send them.

    The step gets `bytes` and returns bytes-like output of the same size; anything else is an
    EncodeError, and None sends nothing. A failure is answered with its text, cut or padded with
    spaces to the size.

    Attributes:
        size: Bytes of each message.
        frame_bytes_max: The most that `size` may be.

    Raises:
        SpecError: Names the field, its value and what is allowed.
    """

    size: int
    _: KW_ONLY
    frame_bytes_max: int = 1 << 20

    def __post_init__(self) -> None:
        require_size(self, "size", self.size)
        require_size(self, "frame_bytes_max", self.frame_bytes_max)
        hint = f"at most frame_bytes_max={self.frame_bytes_max}"
        require(self.size <= self.frame_bytes_max, self, "size", self.size, hint)

    def config(self) -> dict[str, Any]:
        return {
            "framing": "fixed",
            "size": self.size,
            "frame_bytes_max": self.frame_bytes_max,
        }
