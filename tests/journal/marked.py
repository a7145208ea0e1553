"""A codec for tests: as strict as encryption about where a piece stands, and always the same.

Encryption draws random nonces, so a life with it could not be lived again from its seed.
"""

from __future__ import annotations

import hashlib

MARK_BYTES = 16


class Marked:
    """Every bit is turned round, and a digest of it and of its context stands in front."""

    name = "marked"

    def encode(self, data: bytes, context: bytes) -> bytes:
        turned = data.translate(TURNED)
        return hashlib.sha256(context + turned).digest()[:MARK_BYTES] + turned

    def decode(self, data: bytes, context: bytes) -> bytes:
        mark, turned = data[:MARK_BYTES], data[MARK_BYTES:]
        if hashlib.sha256(context + turned).digest()[:MARK_BYTES] != mark:
            raise ValueError("it belongs elsewhere")
        return turned.translate(TURNED)


TURNED = bytes(byte ^ 0xFF for byte in range(256))
