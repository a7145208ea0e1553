"""What the protocols done in C have in common: plain, frozen configuration that makes codecs.

Theory. A protocol object is data: it can be printed, compared and checked before anything runs. The
native codec is made from it by `codec()`, which is where the compiled module is first imported, so
that a tree with listeners can be built and printed where the module is missing.

Does not know: bytes, connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pybehave.errors import SpecError, show

if TYPE_CHECKING:
    from pybehave._uring.codec import Codec

FRAME_BYTES_LIMIT = 0x7FFF_FFFF
"""No message can be allowed to be larger: offsets within one message are 31 bits in the core."""


class Framing:
    """A protocol that frames, decodes and encodes in C."""

    __slots__ = ()

    def config(self) -> dict[str, Any]:
        """Return the keyword arguments of `Codec` for this protocol."""
        raise NotImplementedError

    def codec(self) -> Codec:
        """Make a native codec. One serves all connections of a listener."""
        from pybehave._uring.codec import Codec

        return Codec(**self.config())


def require(is_allowed: bool, owner: object, field: str, value: object, hint: str) -> None:
    """Refuse a field's value with a sentence that says what would be allowed.

    Raises:
        SpecError: `is_allowed` is false.
    """
    if not is_allowed:
        raise SpecError(type(owner).__name__, f"{field}={show(value)} is not allowed; use {hint}")


def require_size(owner: object, field: str, value: object) -> None:
    """Refuse what is not a size of a message in bytes."""
    is_size = isinstance(value, int) and not isinstance(value, bool)
    is_allowed = is_size and 1 <= value <= FRAME_BYTES_LIMIT  # type: ignore[operator]
    require(is_allowed, owner, field, value, f"1 to {FRAME_BYTES_LIMIT} bytes")
