"""Codecs: what they make of a piece of the journal, and what they refuse."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pybehave._uring import blocks
from pybehave.errors import (
    CodecRefused,
    DurabilityLost,
    JournalRefused,
    RecordTooLarge,
    SpecError,
)
from pybehave.journal import reader, recovery
from pybehave.journal.codec import CODECS_MAX, GROWTH_MAX, Codec, Coder, Compressed
from pybehave.journal.disk_store import DiskStore
from pybehave.journal.encrypted import FILE_BYTES_MAX, Encrypted, _Key, key_id
from pybehave.journal.recovery import Options
from pybehave.journal.rewrite import Rewriter
from pybehave.testing.disk import SimDisk
from tests.journal.engine import Life, begin, play
from tests.journal.marked import Marked
from tests.journal.test_power_loss import EVENTS

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
ID = b"i" * 16
SHARE = 12
"""One part of how many crash states have a codec: what is below it is the same."""


# --- the codecs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key, context, made",
    [
        (1, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (3, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ],
)
def test_the_cipher_is_the_one_of_its_specification(key: int, context: bytes, made: str) -> None:
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    cipher = _Key(bytes([key]) * 32).derived(nonce)
    assert cipher.encrypt(nonce[12:], b"XAES-256-GCM", context).hex() == made


@pytest.mark.parametrize("size", [0, 1, 100, 100_000])
@pytest.mark.parametrize(
    "codecs", [(Compressed(),), (Encrypted(KEY),), (Compressed(9), Encrypted(KEY)), (Marked(),)]
)
def test_what_is_encoded_is_read_again(codecs: tuple[Codec, ...], size: int) -> None:
    coder = Coder(codecs, ID)
    for data in (b"a" * size, os.urandom(size)):
        stored = coder.encode(data, "frame", 1, 2, 3, 4, 5)
        assert len(stored) <= len(data) + len(codecs) * 100
        assert coder.decode(stored, "frame", 1, 2, 3, 4, 5) == data


def test_what_does_not_get_smaller_is_kept_as_it_is() -> None:
    noise = os.urandom(1000)
    assert Compressed().encode(noise, b"") == b"\0" + noise
    packed = Compressed().encode(b"a" * 1000, b"")
    assert (packed[:1], zlib.decompress(packed[1:])) == (b"\1", b"a" * 1000)


@pytest.mark.parametrize("stored", [b"", b"\2abc", b"\1abc"])
def test_what_was_compressed_otherwise_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match="compressed"):
        Compressed().decode(stored, b"")


def test_a_nonce_is_never_the_same_though_text_and_place_are() -> None:
    """A torn end gives an lsn again, and a fork's child knows what its parent knows."""
    coder = Coder((Encrypted(KEY),), ID)
    made = {coder.encode(b"text", "frame", 1, 2, 3, 4, 5)[-48:] for _ in range(1000)}
    assert len(made) == 1000
    assert len({each[:24] for each in made}) == 1000


@pytest.mark.parametrize("codec", [Encrypted(KEY), Marked()])
def test_a_piece_is_bound_to_its_journal_its_kind_and_its_place(codec: Codec) -> None:
    coder = Coder((codec,), ID)
    stored = coder.encode(b"text", "frame", 1, 2, 3, 4, 5)
    for index in range(5):
        numbers = [1, 2, 3, 4, 5]
        numbers[index] += 1
        with pytest.raises(CodecRefused):
            coder.decode(stored, "frame", *numbers)
    for other, kind in ((coder, "tail"), (Coder((codec,), b"j" * 16), "frame")):
        with pytest.raises(CodecRefused):
            other.decode(stored, kind, 1, 2, 3, 4, 5)


def test_every_changed_bit_of_an_encrypted_piece_is_found() -> None:
    coder = Coder((Encrypted(KEY),), ID)
    stored = coder.encode(b"text", "letter", 7)
    for bit in range(8 * len(stored)):
        changed = bytearray(stored)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CodecRefused):
            coder.decode(bytes(changed), "letter", 7)
    for size in range(len(stored)):
        with pytest.raises(CodecRefused):
            coder.decode(stored[:size], "letter", 7)


def test_a_key_that_is_missing_is_named_and_none_is_shown() -> None:
    stored = Coder((Encrypted(KEY),), ID).encode(b"text", "snapshot", 9)
    with pytest.raises(CodecRefused) as refused:
        Coder((Encrypted(OTHER),), ID).decode(stored, "snapshot", 9)
    words = str(refused.value)
    assert "the snapshot of lsn 9" in words
    assert key_id(KEY).hex() in words and key_id(OTHER).hex() in words
    for text in (words, repr(Encrypted(KEY, OTHER))):
        assert KEY.hex() not in text and OTHER.hex() not in text and repr(KEY) not in text


def test_a_codec_that_is_missing_is_named_but_compressed_needs_nobody() -> None:
    stored = Coder((Compressed(), Encrypted(KEY)), ID).encode(b"text", "frame", 1, 2, 3, 4, 5)
    with pytest.raises(
        CodecRefused, match=r"'xaes256gcm' refuses the frame of lsn 3: .*--key-file"
    ):
        Coder((), ID).decode(stored, "frame", 1, 2, 3, 4, 5)
    stored = Coder((Compressed(),), ID).encode(b"text", "frame", 1, 2, 3, 4, 5)
    assert Coder((), b"j" * 16).decode(stored, "frame", 1, 2, 3, 4, 5) == b"text"


@pytest.mark.parametrize(
    "error, says", [(ValueError("why"), "lsn 9: why$"), (KeyError("key 7"), r"KeyError\('key 7'\)")]
)
def test_whatever_a_codec_raises_is_its_refusal(error: Exception, says: str) -> None:
    """An exception of its own, as of the library that it calls, was a traceback at each start."""

    class Vault(Marked):
        def decode(self, data: bytes, context: bytes) -> bytes:
            raise error

    stored = Coder((Vault(),), ID).encode(b"text", "letter", 9)
    with pytest.raises(CodecRefused, match=says):
        Coder((Vault(),), ID).decode(stored, "letter", 9)


def test_what_an_older_key_has_encrypted_stays_readable_and_the_newest_writes() -> None:
    before, after = Encrypted(KEY), Encrypted(OTHER, KEY)
    assert after.decode(before.encode(b"text", b"where"), b"where") == b"text"
    assert after.encode(b"text", b"").startswith(key_id(OTHER))


# --- what is allowed -----------------------------------------------------------------------------


class Named:
    def __init__(self, name: object) -> None:
        self.name = name

    def encode(self, data: bytes, context: bytes) -> bytes:
        return data

    decode = encode


@pytest.mark.parametrize(
    "codec, says",
    [
        (Compressed(), "use a tuple of codecs"),
        ([Compressed()], "use a tuple of codecs"),
        ((b"key",), "use a tuple of codecs"),
        ((Named("Zip"),), "cannot be 'Zip'"),
        ((Named(7),), "cannot be 7"),
        ((Named("a" * 33),), "cannot be"),
        ((Compressed(), Compressed(9)), "each name once"),
        (tuple(Named(f"n{n}") for n in range(CODECS_MAX + 1)), f"use {CODECS_MAX} at most"),
    ],
)
def test_other_values_of_the_option_are_refused(codec: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Options(codec=codec)  # type: ignore[arg-type]


def test_as_many_codecs_as_are_allowed_are_taken() -> None:
    names = tuple(Named("a" * 31 + str(n)) for n in range(CODECS_MAX))
    assert Options(codec=names).codec == names


@pytest.mark.parametrize("keys", [(b"short",), (KEY, KEY), ("text" * 8,), (KEY, b"")])
def test_what_is_no_key_is_refused(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(SpecError):
        Encrypted(*keys)


@pytest.mark.parametrize("level", [0, 10, True, "1"])
def test_a_level_that_there_is_not_is_refused(level: int) -> None:
    with pytest.raises(ValueError, match="use 1"):
        Compressed(level)


def test_keys_come_from_a_file_that_only_its_owner_may_read(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of this year\n{OTHER.hex()}\n\n{KEY.hex()}  # of the last\n")
    file.chmod(0o644)
    with pytest.raises(SpecError, match="chmod 600"):
        Encrypted.from_file(file)
    file.chmod(0o600)
    found = Encrypted.from_file(file)
    assert found.encode(b"text", b"").startswith(key_id(OTHER))
    assert found.decode(Encrypted(KEY).encode(b"text", b""), b"") == b"text"


@pytest.mark.parametrize("text", ["", "# nothing\n", "secret", KEY.hex()[:-2], KEY.hex() + "zz"])
def test_a_file_without_keys_is_refused_and_its_content_not_shown(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(SpecError, match="openssl rand") as refused:
        Encrypted.from_file(file)
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_file_without_an_end_is_read_up_to_a_bound(tmp_path: Path, over: int) -> None:
    """A device would have filled the memory."""
    file = tmp_path / "keys"
    line = f"{KEY.hex()}\n#".encode()
    file.write_bytes(line.ljust(FILE_BYTES_MAX + over, b"."))
    file.chmod(0o600)
    if over <= 0:
        assert Encrypted.from_file(file).encode(b"text", b"").startswith(key_id(KEY))
        return
    with pytest.raises(SpecError, match=f"longer than {FILE_BYTES_MAX} bytes") as refused:
        Encrypted.from_file(file)
    assert KEY.hex() not in str(refused.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        Encrypted.from_file(tmp_path / "nothing")


def test_a_store_takes_no_codec() -> None:
    with pytest.raises(ValueError, match="not allowed in a store"):
        DiskStore(SimDisk(1), Options(codec=(Marked(),)))


def test_what_makes_a_journal_anew_encodes_no_store(tmp_path: Path) -> None:
    record = reader.Record(1, reader.STORE, 0, 0, 0, 0, 1, b"", b"\x90")
    where = (str(tmp_path / "new"), ID, 64 << 10, 1, 1)
    with Rewriter(*where, Coder((Marked(),), ID)) as writer:
        with pytest.raises(JournalRefused, match="a store takes no codec"):
            writer.add(record)


# --- in the journal ------------------------------------------------------------------------------


@pytest.mark.timeout(0)  # bounded by the number of states
def test_every_crash_state_of_a_journal_with_a_codec_recovers(
    play_many: Callable[..., None],
) -> None:
    events = [*EVENTS, "coded lives", "snapshots", "spoiled"]
    play_many(lambda seed: play(seed, has_codec=True, has_snapshots=True), events, share=SHARE)


def lived(seed: int = 3) -> Life:
    """A life that has a codec from its beginning."""
    life = Life(seed, cuts=0)
    life.disk = SimDisk(seed)
    life.model.cut(0)
    life.options = Options(segment_bytes=64 << 10, depth=1, codec=(Marked(),))
    life.lives = 1
    life.open()
    return life


def test_the_first_frame_comes_behind_a_manifest_that_says_so() -> None:
    life = lived()
    [name] = [name for name in life.disk.names() if name.endswith(".pbj")]
    manifest = recovery.read_manifest(life.disk)
    header = blocks.unpack_header(bytes(life.disk.read(name, 0, 4096)))
    assert header is not None
    assert (manifest.features, header.features) == (blocks.CODED, blocks.CODED)


def test_another_feature_is_not_read(tmp_path: Path) -> None:
    """As a version that knows no codecs refuses a journal with one."""
    manifest = recovery._create(SimDisk(1), Options(), ID)
    for features in (2, 3, 1 << 31):
        block = blocks.pack_manifest(manifest._replace(features=features))
        with pytest.raises(JournalRefused, match="newer version"):
            blocks.unpack_manifest(block[:4096])
        content = block + bytes(65536 - len(block))
        Path(tmp_path, "MANIFEST").write_bytes(content)
        with pytest.raises(JournalRefused, match="newer version"):
            reader.read_manifest(str(tmp_path))


def test_a_feature_that_is_compatible_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """The second reader took the one field for the other."""
    block = bytearray(blocks.pack_manifest(recovery._create(SimDisk(1), Options(), ID))[:4096])
    block[104] = 1
    block[4080:] = reader.hash_of(bytes(block[:4080]))
    assert blocks.unpack_manifest(bytes(block)) is not None
    Path(tmp_path, "MANIFEST").write_bytes(block + bytes(65536 - len(block)))
    assert reader.read_manifest(str(tmp_path)).journal_id == ID


class Failing(Marked):
    """Fails on what it is told to."""

    grows = 0

    def encode(self, data: bytes, context: bytes) -> bytes:
        if self.grows < 0:
            raise RuntimeError("a deliberate bug")
        return super().encode(data, context) + bytes(self.grows)


@pytest.mark.parametrize("grows", [-1, GROWTH_MAX])
def test_a_codec_that_fails_ends_the_journal_and_nothing_counts(grows: int) -> None:
    life = lived()
    codec = Failing()
    life.commit.coder = Coder((codec,), ID)
    failed: list[int] = []
    life.commit.on_failed = failed.append
    lsn = life.commit.record(1, 1, b"x", 5)
    codec.grows = grows
    assert life.commit.take_write(6) is None
    assert (failed, life.commit.error) == ([errno.EIO], errno.EIO)
    assert life.commit.durable_lsn < lsn
    with pytest.raises(DurabilityLost):
        life.commit.record(1, 1, b"y", 7)


def test_a_frame_that_fills_a_segment_has_room_for_what_codecs_add() -> None:
    class Growing(Named):
        def encode(self, data: bytes, context: bytes) -> bytes:
            return data + bytes(GROWTH_MAX)

        def decode(self, data: bytes, context: bytes) -> bytes:
            return data[:-GROWTH_MAX]

    life = lived()
    life.options = Options(
        segment_bytes=64 << 10, codec=tuple(Growing(f"g{n}") for n in range(CODECS_MAX))
    )
    life.disk.unlock()
    found = life.recover(life.disk)
    commit = begin(life.disk, found, life.options, life.disk.open(recovery.MANIFEST))
    headers = 128 + 16 + 8 + 16  # of the frame and both records, and a time
    room = (64 << 10) - 4 * 4096 - headers  # two blocks of header, one for SEAL, one for codecs
    with pytest.raises(RecordTooLarge):
        commit.record(1, 1, bytes(room + 1), 5)
    commit.record(1, 1, bytes(room), 5)
    wanted = commit.take_write(6)
    assert wanted is not None
    _, fd, offset, data = wanted
    assert offset + len(data) <= (64 << 10) - 4096  # a block is left for SEAL
    life.disk.end(life.disk.begin(fd, offset, data))
    again = recovery.recover(life.disk, life.options, now_ns=9)
    assert again.last_lsn == found.last_lsn + 2
