"""Encryption of the journal: XAES-256-GCM, with keys that can be changed.

Theory. AES-GCM is only as good as its nonces: one that is used twice with one key gives both texts
away. The numbers of a journal are no nonces: behind a torn end an lsn and a seq are given again, to
other bytes. A counter is none, for a process forks to write snapshots, and machines are cloned with
their memory. So each piece has a nonce of 192 random bits from the kernel: half of it makes, with
the key, a key of its own, and half is the nonce under that one. That two are alike among 2^64
pieces has a chance of 2^-65; a million commits a second for ten thousand years are fewer pieces.

    8 bytes: id of the key   24 bytes: nonce   the text, encrypted   16 bytes: tag

The tag covers the context (codec.py) and the key's id: a piece that was changed, moved to another
place of the journal, or taken from another journal is refused.

A key's id is the beginning of HMAC-SHA256(key, "pybehave key id"): there is nothing to count and
nothing to mix up, and which key is missing can be said before anything is tried.

Does not know: the journal; what is encrypted.
Source: XAES-256-GCM, c2sp.org/XAES-256-GCM; NIST SP 800-38D, SP 800-108, SP 800-38B.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import Any, Final, final

from pybehave.errors import SpecError

KEY_BYTES: Final = 32
ID_BYTES: Final = 8
NONCE_BYTES: Final = 24
TAG_BYTES: Final = 16
DERIVING_BYTES: Final = 12
"""Of the nonce: what makes the piece's own key."""

BLOCK_BYTES: Final = 16
FILE_BYTES_MAX: Final = 1 << 20
"""Of a file with keys: ten thousand keys with a comment each. A device has no end."""

PUBLIC: Final = stat.S_IRWXO
"""Permissions that no file with keys may have."""

REDUCTION: Final = 0x87
"""Doubling in GF(2^128): what overflows comes back so (SP 800-38B)."""


@final
class Encrypted:
    """Encrypts and authenticates, with the package `cryptography` (`pip install pybehave[crypto]`).

    Args:
        key: 32 random bytes: what is written from now on is encrypted with it.
        older: Keys that were used before; what they have encrypted can be read.

    Raises:
        SpecError: A key has not 32 bytes, or is there twice; or `cryptography` is not installed.
    """

    name = "xaes256gcm"

    def __init__(self, key: bytes, *older: bytes) -> None:
        for each in (key, *older):
            if not isinstance(each, bytes) or len(each) != KEY_BYTES:
                said = f"{len(each)} bytes" if isinstance(each, bytes) else type(each).__name__
                raise SpecError("Encrypted", f"a key has {KEY_BYTES} random bytes, not {said}")
        self._keys = {key_id(each): _Key(each) for each in (key, *older)}
        if len(self._keys) < 1 + len(older):
            raise SpecError("Encrypted", "a key is there twice; the newest comes first")
        self._newest = key_id(key)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Encrypted:
        """Take the keys of a file: a line of 64 hexadecimal digits each, the newest first.

        Empty lines, and what is behind a `#`, say nothing.

        Raises:
            SpecError: It cannot be read, or by everybody; or it holds something else. Never shows
                what it holds.
        """
        try:
            with Path(path).open("rb") as file:
                if os.fstat(file.fileno()).st_mode & PUBLIC:
                    raise SpecError(str(path), "everybody may read these keys; chmod 600 it")
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise SpecError(str(path), f"the keys cannot be read: {error.strerror}") from error
        if len(content) > FILE_BYTES_MAX:
            raise SpecError(str(path), f"it is longer than {FILE_BYTES_MAX} bytes, as no keys are")
        lines = [line.partition(b"#")[0].strip() for line in content.splitlines()]
        try:
            keys = [bytes.fromhex(line.decode("ascii")) for line in lines if line]
        except ValueError:  # which would show a part of the line
            keys = [b""]
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise SpecError(
                str(path),
                f"it holds no keys: a line of {2 * KEY_BYTES} hexadecimal digits each, as "
                "`openssl rand -hex 32` makes them",
            )
        return cls(*keys)

    def __repr__(self) -> str:
        return f"Encrypted({', '.join(f'<key {each.hex()}>' for each in self._keys)})"

    def encode(self, data: bytes, context: bytes) -> bytes:
        """Encrypt with the newest key."""
        nonce = os.urandom(NONCE_BYTES)
        return self._newest + nonce + self._encrypt(self._newest, nonce, data, context)

    def decode(self, data: bytes, context: bytes) -> bytes:
        """Decrypt with the key that it was encrypted with."""
        from cryptography.exceptions import InvalidTag

        if len(data) < ID_BYTES + NONCE_BYTES + TAG_BYTES:
            raise ValueError("it is too short to be encrypted")
        used = data[:ID_BYTES]
        key = self._keys.get(used)
        if key is None:
            given = ", ".join(each.hex() for each in self._keys)
            raise ValueError(
                f"it was encrypted with key {used.hex()}, and those given are {given}; give that "
                "one too, behind the newest"
            )
        nonce = data[ID_BYTES : ID_BYTES + NONCE_BYTES]
        body = data[ID_BYTES + NONCE_BYTES :]
        try:
            found: bytes = key.derived(nonce).decrypt(nonce[DERIVING_BYTES:], body, used + context)
        except InvalidTag:
            raise ValueError(
                "it is not what was encrypted in this place of this journal: somebody has changed "
                "or moved it; restore a copy"
            ) from None
        return found

    def _encrypt(self, used: bytes, nonce: bytes, data: bytes, context: bytes) -> bytes:
        cipher = self._keys[used].derived(nonce)
        made: bytes = cipher.encrypt(nonce[DERIVING_BYTES:], data, used + context)
        return made


@final
class _Key:
    """One key, and what is derived from it."""

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise SpecError(
                "Encrypted", "it needs the package cryptography; pip install 'pybehave[crypto]'"
            ) from error
        self._aes_gcm: Any = AESGCM
        self._aes = Cipher(algorithms.AES(key), modes.ECB())
        doubled = int.from_bytes(self._blocks(bytes(BLOCK_BYTES)), "big") << 1
        overflow = doubled >> 128
        self._mask = (doubled ^ (overflow << 128)) ^ (REDUCTION if overflow else 0)

    def derived(self, nonce: bytes) -> Any:
        """The cipher with the key of one nonce: CMAC in counter mode over half of it."""
        deriving = b"X\0" + nonce[:DERIVING_BYTES]
        blocks = b"".join(
            (int.from_bytes(bytes([0, count]) + deriving, "big") ^ self._mask).to_bytes(16, "big")
            for count in (1, 2)
        )
        return self._aes_gcm(self._blocks(blocks))

    def _blocks(self, data: bytes) -> bytes:
        encryptor = self._aes.encryptor()
        made: bytes = encryptor.update(data) + encryptor.finalize()
        return made


def key_id(key: bytes) -> bytes:
    """Return what a key is known by: 8 bytes that tell nothing of it, if it is random."""
    return hmac.digest(key, b"pybehave key id", hashlib.sha256)[:ID_BYTES]
