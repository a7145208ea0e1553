"""Raw: whatever has arrived is a message; output is sent as it is."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from pybehave.protocols.framing import Framing, require_size


@dataclass(frozen=True, slots=True)
class Raw(Framing):
    """Bytes without messages: for streams, proxies and first experiments.

    How the stream is cut is up to the network. The step gets `bytes` and returns bytes-like output;
    None sends nothing. A failure is answered with `error: ...` and a newline.

    Attributes:
        frame_bytes_max: Input of more bytes is handed over in several pieces.

    Raises:
        SpecError: Names the field, its value and what is allowed.
    """

    _: KW_ONLY
    frame_bytes_max: int = 65536

    def __post_init__(self) -> None:
        require_size(self, "frame_bytes_max", self.frame_bytes_max)

    def config(self) -> dict[str, Any]:
        return {"framing": "raw", "frame_bytes_max": self.frame_bytes_max}
